"""The modules of LLVM IR that benchmarks measure on and vocabularies are learned from: lists of packages, and files.

`train_ir.tsv` and `heldout_ir.tsv` beside this file have one line for each package and language: the Debian package and
version that it comes from, the licences of what was compiled, and how many modules that gave.  No package is in both.
`build_ir.py` makes the files.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

SETS = ("train", "heldout")
#: Languages as tables name them; `rust-g` is Rust that was not optimised, with debug information.
LANGUAGES = {"c": "C", "cpp": "C++", "rust": "Rust", "rust-g": "Rust, debug"}
HEADINGS = ("package", "version", "language", "licence", "modules")


class Listed(NamedTuple):
    """A package's modules of one language; the fields are the columns."""

    package: str
    version: str
    language: str
    licence: str
    modules: str


def list_path(part: str) -> Path:
    """Return the path of the list of a set."""
    return Path(__file__).parent / f"{part}_ir.tsv"


def read_list(part: str) -> list[Listed]:
    """Return the list of a set."""
    lines = list_path(part).read_text(encoding="utf-8").splitlines()
    return [Listed(*line.split("\t")) for line in lines[1:]]


def write_list(part: str, rows: list[Listed]) -> None:
    """Write the list of a set."""
    lines = ["\t".join(row) for row in (HEADINGS, *sorted(rows))]
    list_path(part).write_text("\n".join(lines) + "\n", encoding="utf-8")


def module_files(folder: Path) -> list[Path]:
    """Return the files of modules in a folder, in the order of their paths."""
    return sorted(folder.rglob("*.bc"))
