"""What is known of one part of one table: counted in the worker's hot path, stored as an Arrow file, merged exactly.

Every number is an integer, so that a merge is associative and commutative bit for bit: a run that was interrupted
and resumed has the statistics of one that was not. Summaries (fractions, quantiles, entropies) are made elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from tokenmill.audio.streams import LEVEL, RECORDING
from tokenmill.errors import CorruptionError, SpecError
from tokenmill.sources.items import Reject
from tokenmill.statistics import arrow
from tokenmill.statistics.modules import ModuleStatistics
from tokenmill.statistics.sketch import Sketch
from tokenmill.statistics.sound import SoundStatistics, microseconds
from tokenmill.statistics.stream import StreamStatistics
from tokenmill.streams import Jagged, StreamSpec

#: Measure of the series in a file that is of no stream: documents by bucket of input bytes.
_BYTES = "documents_by_input_bytes"


@dataclass(slots=True)
class RejectCounts:
    """What was rejected for one reason.

    Attributes:
        rejects: Reject records.
        items: Items lost by them (a torn file loses an estimated number at once).
        lost_bytes: Bytes as stored that could not be read.
        lost_microseconds: Of recordings, how much has no row.
    """

    rejects: int = 0
    items: int = 0
    lost_bytes: int = 0
    lost_microseconds: int = 0

    def to_json(self) -> dict[str, int]:
        """Return the counts for a file's JSON header; what only recordings lose is left out where none are lost."""
        counts = {"rejects": self.rejects, "items": self.items, "lost_bytes": self.lost_bytes}
        return {**counts, "lost_microseconds": self.lost_microseconds} if self.lost_microseconds else counts


@dataclass(slots=True)
class PartStatistics:
    """Counts of some rows of one table: of a part, or of parts merged.

    Attributes:
        documents: Rows.
        input_bytes: Input bytes of those rows (payload, decompressed).
        bytes_per_document: Sketch of the rows' input bytes.
        rejected: Reason → what was rejected for it.
        streams: Name → what is known of the stream.
        sound: What is known of the recordings; None where the table is of something else.
        modules: What is known of the modules of LLVM IR; None where the table is of something else.
    """

    documents: int = 0
    input_bytes: int = 0
    bytes_per_document: Sketch = field(default_factory=Sketch)
    rejected: dict[str, RejectCounts] = field(default_factory=dict)
    streams: dict[str, StreamStatistics] = field(default_factory=dict)
    sound: SoundStatistics | None = None
    modules: ModuleStatistics | None = None

    @classmethod
    def start(cls, streams: Mapping[str, StreamSpec]) -> PartStatistics:
        """Return the statistics of no rows of a table with these streams; raises SpecError for a wrong `error_of`."""
        return cls(
            streams={name: StreamStatistics.start(name, streams) for name in streams},
            sound=SoundStatistics.for_streams(streams),
            modules=ModuleStatistics.for_streams(streams),
        )

    @property
    def specs(self) -> dict[str, StreamSpec]:
        """The table's streams."""
        return {name: stream.spec for name, stream in self.streams.items()}

    @property
    def rejected_items(self) -> int:
        """Items without a row, those lost in torn files included."""
        return sum(counts.items for counts in self.rejected.values())

    @property
    def items(self) -> int:
        """Items that came: rows and rejected items."""
        return self.documents + self.rejected_items

    def add_rows(self, input_bytes: npt.NDArray[np.int64], streams: Mapping[str, Jagged]) -> None:
        """Count rows.

        Args:
            input_bytes: int64 `[row]`, input bytes of each row.
            streams: Every stream's values for these rows, already checked against the spec.
        """
        self.documents += len(input_bytes)
        self.bytes_per_document.add(input_bytes)
        self.input_bytes = self.bytes_per_document.total
        for name, stream in self.streams.items():
            stream.add(name, streams)
        if self.sound is not None:
            self.sound.add(streams[RECORDING], streams[LEVEL])
        if self.modules is not None:
            self.modules.add(streams)

    def add_rejects(self, rejects: Iterable[Reject]) -> None:
        """Count items that have no row."""
        for reject in rejects:
            counts = self.rejected.setdefault(reject.reason, RejectCounts())
            counts.rejects += 1
            counts.items += reject.lost_items
            counts.lost_bytes += reject.lost_bytes
            counts.lost_microseconds += microseconds(reject.lost_seconds)

    def merge(self, other: PartStatistics) -> None:
        """Add what another counted of the same table; raises SpecError where the streams differ."""
        if self.specs != other.specs:
            raise SpecError(f"statistics of different tables do not merge: {self.specs} and {other.specs}")
        self.documents += other.documents
        self.input_bytes += other.input_bytes
        self.bytes_per_document.merge(other.bytes_per_document)
        for reason, counts in other.rejected.items():
            mine = self.rejected.setdefault(reason, RejectCounts())
            mine.rejects += counts.rejects
            mine.items += counts.items
            mine.lost_bytes += counts.lost_bytes
            mine.lost_microseconds += counts.lost_microseconds
        for name, stream in self.streams.items():
            stream.merge(other.streams[name])
        if self.sound is not None and other.sound is not None:
            self.sound.merge(other.sound)
        if self.modules is not None and other.modules is not None:
            self.modules.merge(other.modules)

    def to_arrow_bytes(self, extra: Mapping[str, bytes] | None = None) -> bytes:
        """Return the Arrow file that `from_arrow_bytes` reads; equal statistics give equal bytes.

        Args:
            extra: What to keep beside the format's own in the schema metadata, such as the plan's fingerprint.
        """
        header = {"kind": "part", "streams": specs_to_json(self.specs), **self.header()}
        return arrow.encode(header, self.series(""), extra or {})

    @classmethod
    def from_arrow_bytes(cls, data: bytes, where: str | None = None) -> PartStatistics:
        """Read what `to_arrow_bytes` wrote; raises CorruptionError where it is not that."""
        return cls.from_decoded(arrow.decode(data, where), where)

    @classmethod
    def from_decoded(cls, file: arrow.StatisticsFile, where: str | None) -> PartStatistics:
        """Put a part's statistics together from its file; raises CorruptionError where it holds something else."""
        kind = file.header.get("kind")
        if kind != "part":
            raise CorruptionError(f"these are statistics of kind {kind!r}, not of a part", where=where)
        with arrow.reading(where):
            return cls.from_file(file, file.header, specs_from_json(file.header["streams"]), "", where)

    def header(self) -> dict[str, Any]:
        """Return, for a file's JSON header, all that is not a series of counts."""
        return {
            "documents": self.documents,
            "input_bytes": self.input_bytes,
            "bytes_per_document": self.bytes_per_document.ends(),
            "rejected": {reason: counts.to_json() for reason, counts in self.rejected.items()},
            "counts": {name: stream.counts() for name, stream in self.streams.items()},
            **({} if self.sound is None else {"sound": self.sound.counts()}),
            **({} if self.modules is None else {"modules": self.modules.counts()}),
        }

    def series(self, source: str) -> Iterator[arrow.Series]:
        """Give the series of counts, for a file."""
        yield arrow.Series(source, "", _BYTES, *self.bytes_per_document.sparse())
        for name, stream in sorted(self.streams.items()):
            yield from stream.series(source, name)
        if self.sound is not None:
            yield from self.sound.series(source)
        if self.modules is not None:
            yield from self.modules.series(source)

    @classmethod
    def from_file(
        cls,
        file: arrow.StatisticsFile,
        header: Mapping[str, Any],
        specs: Mapping[str, StreamSpec],
        source: str,
        where: str | None,
    ) -> PartStatistics:
        """Put one source's statistics together from a file, within `arrow.reading`.

        Raises CorruptionError where the counts do not add up.
        """
        statistics = cls.start(specs)
        statistics.documents = header["documents"]
        statistics.input_bytes = header["input_bytes"]
        statistics.rejected = {reason: RejectCounts(**counts) for reason, counts in header["rejected"].items()}
        statistics.bytes_per_document.fill(*file.series[source, "", _BYTES], header["bytes_per_document"])
        for name, stream in statistics.streams.items():
            stream.fill(file, header["counts"][name], source, name)
        if statistics.sound is not None:
            statistics.sound.fill(file, header["sound"], source)
        if statistics.modules is not None:
            statistics.modules.fill(file, header["modules"], source)
        statistics._check(header, where)
        return statistics

    def _check(self, header: Mapping[str, Any], where: str | None) -> None:
        sums = [("input bytes", self.input_bytes, self.bytes_per_document.total)]
        sums.append(("documents", self.documents, self.bytes_per_document.count))
        for name, stream in self.streams.items():
            sums += stream.sums(name, self.documents)
        if self.sound is not None:
            sums += self.sound.sums(self.documents)
        if self.modules is not None:
            values = {name: stream.tokens for name, stream in self.streams.items()}
            sums += self.modules.sums(header["modules"], self.documents, values)
        for what, said, counted in sums:
            if said != counted:
                raise CorruptionError(f"the statistics say {said} {what}, their counts sum to {counted}", where=where)


def specs_to_json(specs: Mapping[str, StreamSpec]) -> dict[str, Any]:
    """Return the JSON form of a table's streams."""
    return {name: spec.to_json() for name, spec in specs.items()}


def specs_from_json(value: Mapping[str, Any]) -> dict[str, StreamSpec]:
    """Read what `specs_to_json` wrote."""
    return {name: StreamSpec.from_json(spec) for name, spec in value.items()}
