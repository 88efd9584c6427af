"""From files of modules to a vocabulary's bytes: what `tokenmill train llvm-ir` does."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tokenmill.errors import InputError, ItemError
from tokenmill.ir.canonical import Canonical
from tokenmill.ir.ir_file import IrFile, IrOptions
from tokenmill.tokenizers.llvm_ir.training import Sample, TrainingSettings, learn

_SUFFIXES = frozenset((".bc", ".ll"))
#: Of a module's text no more is learned from: nothing is gained from one that is larger than many others together.
_LARGEST_TEXT = 5_000_000


def train_on_files(paths: Sequence[Path], settings: TrainingSettings, report: Callable[[str], None]) -> bytes:
    """Return the bytes of a vocabulary's file.

    Args:
        paths: Modules, and folders whose `.bc` and `.ll` files are taken, in the order of their names. The folder that
            a file lies in is its group: what is to be a unit must be found in several.
        settings: How large the vocabulary becomes.
        report: Is told what is being done, and which files were left out.

    Raises:
        InputError: There is no module that can be read.
    """
    samples: list[Sample] = []
    seen: set[bytes] = set()
    for path in paths:
        for file in _files(path):
            try:
                module = IrFile(file.read_bytes(), IrOptions(max_text_bytes=_LARGEST_TEXT)).module(Canonical())
            except ItemError as error:
                report(f"{file}: left out: {error}")
                continue
            if module.sha256 not in seen:
                seen.add(module.sha256)
                samples.append(Sample(str(file.parent), module.text))
    if not samples:
        raise InputError(
            "there is no module among these files",
            where=", ".join(map(str, paths)),
            fix="give files of bitcode or of textual IR, or folders of them",
        )
    return learn(samples, settings, report).to_bytes()


def _files(path: Path) -> Iterator[Path]:
    if not path.is_dir():
        if not path.exists():
            raise InputError("there is no such file", where=str(path))
        yield path
        return
    yield from sorted(file for file in path.rglob("*") if file.suffix in _SUFFIXES and file.is_file())
