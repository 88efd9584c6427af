"""Which format and which compression a file has, by the job's word or by the file's ending. Nothing is opened here."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from tokenmill.errors import InputError
from tokenmill.job_sources import FORMATS, Source, SourceFormat

Format = Literal["jsonl", "parquet", "csv", "tsv", "text", "lines", "tar", "warc", "image", "audio", "llvm-ir"]
Compression = Literal["none", "gz", "zst", "xz", "bz2"]

FORMAT_ENDINGS: dict[str, Format] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".csv": "csv",
    ".tsv": "tsv",
    ".txt": "text",
    ".md": "text",
    ".tar": "tar",
    ".warc": "warc",
    ".wet": "warc",
    ".jpg": "image",
    ".jpeg": "image",
    ".png": "image",
    ".webp": "image",
    ".gif": "image",
    ".tif": "image",
    ".tiff": "image",
    ".wav": "audio",
    ".w64": "audio",
    ".flac": "audio",
    ".ogg": "audio",
    ".opus": "audio",
    ".oga": "audio",
    ".mp3": "audio",
    ".m4a": "audio",
    ".bc": "llvm-ir",
    ".ll": "llvm-ir",
}
COMPRESSION_ENDINGS: dict[str, Compression] = {".gz": "gz", ".zst": "zst", ".zstd": "zst", ".xz": "xz", ".bz2": "bz2"}
_SHORT_ENDINGS: dict[str, str] = {".tgz": ".tar.gz", ".txz": ".tar.xz", ".tbz2": ".tar.bz2", ".tzst": ".tar.zst"}


@dataclass(frozen=True, slots=True)
class FileFormat:
    """A file's format, and the compression around it."""

    format: Format
    compression: Compression

    @property
    def divisible(self) -> bool:
        """Whether byte ranges of the file can be read on their own: uncompressed files of a line an item."""
        return self.format in ("jsonl", "lines") and self.compression == "none"


def file_format(source: Source, path: str) -> FileFormat:
    """Tell a file's format and compression.

    Raises:
        InputError: Where the ending is unknown and the source gives no format, or a Parquet file as a whole is
            compressed.
    """
    name = path[path.rfind("/") + 1 :].lower()
    ending = name[name.find(".", 1) :] if "." in name[1:] else ""
    while ending.count(".") > 2:
        ending = ending[ending.index(".", 1) :]
    found = _by_ending(source.format, ending)
    if found is None or found.format not in FORMATS[source.modality]:
        raise _unknown(source, path, found)
    if found.format == "parquet" and found.compression != "none":
        raise InputError(
            f"source {source.name!r}: a Parquet file inside {found.compression} compression cannot be read in pieces",
            where=path,
            fix="decompress it; Parquet compresses its own pages",
        )
    return found


def _unknown(source: Source, path: str, found: FileFormat | None) -> InputError:
    """Say that a file is none of those that the source's modality is in."""
    formats = FORMATS[source.modality]
    endings = " ".join(ending for ending, kind in FORMAT_ENDINGS.items() if kind in formats)
    if found is None:
        what = "the format does not show from the file's ending"
        fix = f"give the source a `format` ({', '.join(formats[1:-1])} or {formats[-1]}), or name fewer files"
    else:
        what = f"by its ending the file is {found.format}, and holds no {source.modality}"
        other = next(modality for modality in FORMATS if found.format in FORMATS[modality])
        fix = f"name fewer files; files of {other} go into a source of `modality: {other}`"
    return InputError(
        f"source {source.name!r}: {what}; known endings are {endings}, each also with {' '.join(COMPRESSION_ENDINGS)}",
        where=path,
        fix=fix,
    )


@lru_cache
def _by_ending(given: SourceFormat, ending: str) -> FileFormat | None:
    """Tell format and compression from a name's last two endings, lower case; None where the format does not show."""
    for short, long in _SHORT_ENDINGS.items():
        if ending.endswith(short):
            ending = ending[: -len(short)] + long
    compression: Compression = "none"
    for suffix, kind in COMPRESSION_ENDINGS.items():
        if ending.endswith(suffix):
            compression, ending = kind, ending[: -len(suffix)]
    if given != "auto":
        return FileFormat(given, compression)
    found = FORMAT_ENDINGS.get(ending[ending.rfind(".") :] if "." in ending else "")
    return None if found is None else FileFormat(found, compression)
