"""From files of modules to a vocabulary's bytes: what `tokenmill train llvm-ir` does."""

from __future__ import annotations

import hashlib
import os
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from tokenmill.encoding_ahead import preparation_threads
from tokenmill.errors import InputError, ItemError, MissingExtraError
from tokenmill.ir.canonical import Canonical
from tokenmill.ir.compiled import require_numba
from tokenmill.ir.ir_file import IrFile, IrOptions
from tokenmill.ir.module import Module
from tokenmill.tokenizers.llvm_ir.training import Sample, TrainingSettings, learn

#: Text that is learned from, unless asked for otherwise. Learning takes 13 times as much memory.
MOST_TEXT_BYTES = 128_000_000
_SUFFIXES = frozenset((".bc", ".ll"))
#: A module whose file or text has more bytes is left out: nothing is gained from one that is larger than many others
#: together.
_LARGEST_BYTES = 5_000_000
_OPTIONS = IrOptions(max_text_bytes=_LARGEST_BYTES, memory_bytes=1_000_000_000)
_REPORT_SECONDS = 10.0


class _File(NamedTuple):
    """A file to learn from, and the group that it belongs to."""

    group: str
    path: Path
    size_bytes: int


def train_on_files(
    paths: Sequence[Path],
    settings: TrainingSettings,
    report: Callable[[str], None],
    most_text_bytes: int = MOST_TEXT_BYTES,
) -> bytes:
    """Return the bytes of a vocabulary's file. The same files give the same bytes, in whatever order they come.

    Args:
        paths: Modules, and folders whose `.bc` and `.ll` files are taken. The folder that a file lies in is its group:
            what is to be a unit must be found in several. Where there are too few folders, each file is a group.
        settings: How large the vocabulary becomes.
        report: Is told what is being done, and which files were left out.
        most_text_bytes: No more text than this is learned from, by one module: of large groups as much as of each
            other, of small ones all.

    Raises:
        InputError: There is no module that can be read.
        MissingExtraError: A library is not installed.
    """
    require_numba()  # before hours are spent on reading
    try:
        import tokenizers  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("training needs the library 'tokenizers'", fix="pip install 'tokenmill[ir]'") from error
    files = _grouped([file for path in paths for file in _files(path)], settings.least_groups, report)
    samples = _samples(files, most_text_bytes, report)
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
    yield from (file for file in path.rglob("*") if file.suffix in _SUFFIXES and file.is_file())


def _grouped(paths: Iterable[Path], least_groups: int, report: Callable[[str], None]) -> list[_File]:
    """Return files with their groups, those that are too large left out."""
    files: list[_File] = []
    for path in sorted(set(paths)):
        size = path.stat().st_size
        if size <= _LARGEST_BYTES:
            files.append(_File(str(path.parent), path, size))
        else:
            report(f"left out: {path}: has {size:,} bytes; at most {_LARGEST_BYTES:,} are learned from")
    groups = len({file.group for file in files})
    report(f"{len(files):,} files in {groups:,} {'folder' if groups == 1 else 'folders'}")
    if files and groups < least_groups:
        report(f"in fewer folders than {least_groups}, each file counts as a package of its own")
        files = [file._replace(group=str(file.path)) for file in files]
    return files


def _in_turn(files: Iterable[_File]) -> Iterator[_File]:
    """Yield files so that at any time no group has given much more bytes than another one that has more to give.

    Which of a group's come first is drawn by their names.
    """
    given: dict[str, int] = {}
    order: list[tuple[int, _File]] = []
    for file in sorted(files, key=lambda file: hashlib.sha256(os.fsencode(file.path.name)).digest()):
        given[file.group] = given.get(file.group, 0) + file.size_bytes
        order.append((given[file.group], file))
    yield from (file for _, file in sorted(order))


def _samples(files: Sequence[_File], most_text_bytes: int, report: Callable[[str], None]) -> list[Sample]:
    """Read modules until there is text enough; each text once, in an order of their own."""
    samples: dict[bytes, Sample] = {}
    read = text_bytes = 0
    reported = time.monotonic()
    with closing(_modules(_in_turn(files), report)) as modules:
        for file, module in modules:
            read += 1
            if module is not None and module.sha256 not in samples:
                samples[module.sha256] = Sample(file.group, module.text)
                text_bytes += len(module.text)
            if text_bytes >= most_text_bytes:
                break
            if time.monotonic() - reported >= _REPORT_SECONDS:
                report(f"{read:,} of {len(files):,} files read, {text_bytes / 1e6:,.1f} MB of text")
                reported = time.monotonic()
    rest = f"; the other {len(files) - read:,} would be more than was asked for" if read < len(files) else ""
    report(f"{len(samples):,} different modules in {read:,} files, {text_bytes / 1e6:,.1f} MB of text{rest}")
    return [samples[digest] for digest in sorted(samples)]


def _modules(files: Iterable[_File], report: Callable[[str], None]) -> Generator[tuple[_File, Module | None]]:
    """Yield files in order with what several threads read of them, a few ahead; None is a file that is left out."""
    threads = preparation_threads(1)
    ahead: deque[tuple[_File, Future[Module]]] = deque()

    def take() -> tuple[_File, Module | None]:
        file, reading = ahead.popleft()
        try:
            return file, reading.result()
        except ItemError as error:
            report(f"left out: {file.path}: {error.what}")
        except OSError as error:
            report(f"left out: {file.path}: cannot be read: {error.strerror}")
        return file, None

    with ThreadPoolExecutor(threads) as pool:
        try:
            for file in files:
                ahead.append((file, pool.submit(_module, file.path)))
                if len(ahead) > 2 * threads:
                    yield take()
            while ahead:
                yield take()
        finally:
            for _, reading in ahead:
                reading.cancel()


def _module(path: Path) -> Module:
    module = IrFile(path.read_bytes(), _OPTIONS).module(Canonical())
    _ = module.sha256  # here, where several threads are at it
    return module
