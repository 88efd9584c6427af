"""What numba keeps on disk is used while all sources of a package are the same, and can be done without."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

CALLER = """\
from tokenmill.ir.compiled import compiled
from package.callee import number

@compiled
def twice(value):
    return 2 * number(value)
"""
CALLEE = """\
from tokenmill.ir.compiled import compiled

@compiled
def number(value):
    return value + %d
"""
RUN = """\
from package.caller import twice
print(twice(1), sum(twice.stats.cache_hits.values()))
"""


def run(folder: Path, added: int, **environment: str) -> list[str]:
    """Run the package's function in a process of its own; return its result, and how often it was found compiled."""
    package = folder / "package"
    package.mkdir(exist_ok=True)
    (package / "caller.py").write_text(CALLER)
    (package / "callee.py").write_text(CALLEE % added)
    done = subprocess.run(
        [sys.executable, "-c", RUN],
        env={**os.environ, "PYTHONPATH": str(folder), **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split()


def test_another_file_of_the_package_makes_it_compiled_anew(tmp_path: Path) -> None:
    assert run(tmp_path, 1) == ["4", "0"]
    os.utime(tmp_path / "package" / "caller.py", (0, 0))
    assert run(tmp_path, 2) == ["6", "0"]


def test_what_was_compiled_is_kept(tmp_path: Path) -> None:
    assert run(tmp_path, 1) == ["4", "0"]
    assert run(tmp_path, 1) == ["4", "1"]


def test_where_nothing_can_be_kept_each_process_compiles(tmp_path: Path) -> None:
    nowhere = {"NUMBA_CACHE_LOCATOR_CLASSES": "IPythonCacheLocator"}
    assert run(tmp_path, 1, **nowhere) == run(tmp_path, 1, **nowhere) == ["4", "0"]
    assert not list((tmp_path / "package").rglob("*.nbc"))
