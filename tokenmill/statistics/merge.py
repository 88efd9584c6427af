"""Statistics of many parts, per source and overall: merged exactly, in any order and grouping, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from os import PathLike

from tokenmill.errors import CorruptionError, SpecError
from tokenmill.statistics import arrow
from tokenmill.statistics.part import PartStatistics, specs_from_json, specs_to_json
from tokenmill.streams import StreamSpec


class MergedStatistics:
    """Counts of one table's rows per source.

    Memory: one dense count array a stream and source, however many parts are merged.

    Attributes:
        specs: The table's streams.
        sources: Name of the source → its counts. Sources that gave no part are absent.
    """

    __slots__ = ("sources", "specs")

    def __init__(self, specs: Mapping[str, StreamSpec]) -> None:
        self.specs = dict(specs)
        self.sources: dict[str, PartStatistics] = {}

    @classmethod
    def start(cls, streams: Mapping[str, StreamSpec]) -> MergedStatistics:
        """Return the statistics of no parts of a table with these streams."""
        return cls(streams)

    def add(self, source: str, part: PartStatistics) -> None:
        """Add one part's counts; raises SpecError where it is of a table with other streams."""
        counts = self.sources.get(source) or PartStatistics.start(self.specs)
        counts.merge(part)
        self.sources[source] = counts

    def merge(self, other: MergedStatistics) -> None:
        """Add what another merged of the same table; raises SpecError where the streams differ."""
        if other.specs != self.specs:
            raise SpecError(f"statistics of different tables do not merge: {self.specs} and {other.specs}")
        for source, counts in other.sources.items():
            self.add(source, counts)

    def overall(self) -> PartStatistics:
        """Return the counts of all sources together."""
        overall = PartStatistics.start(self.specs)
        for counts in self.sources.values():
            overall.merge(counts)
        return overall

    def to_arrow_bytes(self, extra: Mapping[str, bytes] | None = None) -> bytes:
        """Return the Arrow file that `from_arrow_bytes` reads; equal statistics give equal bytes."""
        header = {
            "kind": "merged",
            "streams": specs_to_json(self.specs),
            "sources": {source: counts.header() for source, counts in self.sources.items()},
        }
        series = (one for source in sorted(self.sources) for one in self.sources[source].series(source))
        return arrow.encode(header, series, extra or {})

    @classmethod
    def from_arrow_bytes(cls, data: bytes, where: str | None = None) -> MergedStatistics:
        """Read what `to_arrow_bytes` wrote; raises CorruptionError where it is not that."""
        return cls.from_decoded(arrow.decode(data, where), where)

    @classmethod
    def from_decoded(cls, file: arrow.StatisticsFile, where: str | None) -> MergedStatistics:
        """Put the statistics together from a file; raises CorruptionError where it holds something else."""
        kind = file.header.get("kind")
        if kind != "merged":
            raise CorruptionError(f"these are statistics of kind {kind!r}, not merged ones", where=where)
        with arrow.reading(where):
            merged = cls(specs_from_json(file.header["streams"]))
            for source, header in file.header["sources"].items():
                merged.sources[source] = PartStatistics.from_file(file, header, merged.specs, source, where)
        return merged

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, MergedStatistics):
            return NotImplemented
        return (self.specs, self.sources) == (other.specs, other.sources)

    __hash__ = None  # type: ignore[assignment]  # it changes


def merge_parts(parts: Iterable[tuple[str, PartStatistics]], streams: Mapping[str, StreamSpec]) -> MergedStatistics:
    """Merge parts, given one after another with the name of their source, of a table with these streams."""
    merged = MergedStatistics.start(streams)
    for source, part in parts:
        merged.add(source, part)
    return merged


def read_statistics(file: str | PathLike[str] | bytes) -> PartStatistics | MergedStatistics:
    """Read a statistics file of either kind, given as bytes or as a local path.

    Raises CorruptionError where it is damaged or no statistics file, DatasetError where its format is newer.
    """
    if isinstance(file, bytes):
        where, data = None, file
    else:
        where = str(file)
        with open(file, "rb") as opened:
            data = opened.read()
    read = arrow.decode(data, where)
    if read.header.get("kind") == "merged":
        return MergedStatistics.from_decoded(read, where)
    return PartStatistics.from_decoded(read, where)
