"""Cuts the files of a source into splits: a pure function of the list of files (and of footers and header lines)."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

from tokenmill.errors import InputError
from tokenmill.job_sources import Source
from tokenmill.sources.delimited import read_header
from tokenmill.sources.file_task import FileTask
from tokenmill.sources.formats import FileFormat, file_format
from tokenmill.sources.limits import ReadLimits
from tokenmill.sources.parquet import Footer, read_footer
from tokenmill.sources.plain_text import check_encoding
from tokenmill.sources.splits import InputFile, Split
from tokenmill.storage.inputs import join

#: A file up to this size is small: reading it costs less than a split's own receipt, shard and statistics.
SMALL_FILE_BYTES = 256 << 10
#: A run of small files ends with either, or with `split_bytes`.
RUN_FILES = 1000
RUN_BYTES = 32 << 20
#: A file that is one image, recording or module is never worth a split of its own: runs of them end with this many, or
#: with `split_bytes`. So many take a second or more to decode and tokenize; a split itself costs some 8 milliseconds on
#: a local disk.
RUN_IMAGES = 250
#: Formats whose files name their columns, so that planning can check them.
_OPENED = frozenset({"parquet", "csv", "tsv"})
#: Files that are opened at once to read a footer or a header line, and how far that may run ahead.
_THREADS = 32
_AHEAD = 1000


def plan_source(source: Source, root: str, files: Sequence[InputFile], split_bytes: int) -> Iterator[Split]:
    """Yield the splits of a source; each file is in a run (of small ones, images, recordings, modules), or in its own.

    Boundaries depend on the files and on `split_bytes` alone. Of line files and of whole files nothing is read; of
    Parquet the footer is, and of CSV the header line.

    Args:
        source: The source.
        root: What the files' paths are relative to.
        files: The files to cut, sorted by path.
        split_bytes: Stored bytes that a split holds at most, where the format can be cut.

    Raises:
        InputError: Where a format does not show, a file cannot be opened, or a column is not there.
    """
    formats = [file_format(source, file.path) for file in files]
    names = {kind.format for kind in formats}
    if source.where and names - {"parquet"}:
        other = next(file for file, kind in zip(files, formats, strict=True) if kind.format != "parquet")
        raise InputError(
            f"source {source.name!r}: `where` is for Parquet files, and this is none",
            where=other.path,
            fix="leave `where` out, or name fewer files",
        )
    if names & {"text", "lines", "csv", "tsv", "tar"}:
        check_encoding(source, by_line=bool(names & {"lines", "csv", "tsv"}))
    run: list[InputFile] = []
    run_bytes = 0
    footers = _footers(source, root, files, formats)
    for file, kind in zip(files, formats, strict=True):
        footer = next(footers) if kind.format in _OPENED else None
        one_item = kind.format in ("image", "audio", "llvm-ir")
        if file.size_bytes > (split_bytes if one_item else min(SMALL_FILE_BYTES, split_bytes)):
            yield from _file_splits(source, file, kind, footer, split_bytes)
            continue
        most_files = RUN_IMAGES if one_item else RUN_FILES
        most_bytes = split_bytes if one_item else min(RUN_BYTES, split_bytes)
        if run and (len(run) >= most_files or run_bytes + file.size_bytes > most_bytes):
            yield _run_split(source, run, run_bytes)
            run, run_bytes = [], 0
        run.append(file)
        run_bytes += file.size_bytes
    if run:
        yield _run_split(source, run, run_bytes)


def _footers(
    source: Source, root: str, files: Sequence[InputFile], formats: Sequence[FileFormat]
) -> Iterator[Footer | None]:
    """Yield the Parquet footer (None for CSV, or where it is damaged) of each file that has to be opened, in order.

    Several threads read footers and header lines, and check that the source's columns are there.
    """

    def check(file: InputFile, kind: FileFormat) -> Footer | None:
        if kind.format == "parquet":
            return read_footer(source, join(root, file.path))
        read_header(FileTask(source, root, file, kind, ReadLimits()))
        return None

    opened = (pair for pair in zip(files, formats, strict=True) if pair[1].format in _OPENED)
    with ThreadPoolExecutor(_THREADS) as pool:
        pending = deque(pool.submit(check, *pair) for pair in islice(opened, _AHEAD))
        while pending:
            yield pending.popleft().result()
            pending.extend(pool.submit(check, *pair) for pair in islice(opened, 1))


def _run_split(source: Source, run: list[InputFile], run_bytes: int) -> Split:
    return Split(source.name, "files", tuple(run), 0, len(run), run_bytes)


def _file_splits(
    source: Source, file: InputFile, kind: FileFormat, footer: Footer | None, split_bytes: int
) -> Iterator[Split]:
    """Yield the splits of one file that is not small."""
    if kind.divisible:
        pieces = -(-file.size_bytes // split_bytes)
        for number in range(pieces):
            start = file.size_bytes * number // pieces
            stop = file.size_bytes * (number + 1) // pieces
            yield Split(source.name, "bytes", (file,), start, stop, stop - start)
    elif footer is not None:
        start = held = 0
        for index, group in enumerate(footer.groups):
            if held and held + group.stored_bytes > split_bytes:
                yield Split(source.name, "rows", (file,), start, index, held)
                start, held = index, 0
            held += group.stored_bytes
        if start < len(footer.groups):
            yield Split(source.name, "rows", (file,), start, len(footer.groups), held)
    else:
        yield Split(source.name, "file", (file,), 0, file.size_bytes, file.size_bytes)
