"""What is known of one stream of one table: how long its rows are, which ids came, where in the row, at which error."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from tokenmill.statistics import arrow
from tokenmill.statistics.bands import Bands
from tokenmill.statistics.error_curve import ErrorCurve
from tokenmill.statistics.octaves import OCTAVE_ENDS, octaves_of
from tokenmill.statistics.sketch import Sketch
from tokenmill.statistics.unigrams import Unigrams
from tokenmill.streams import Jagged, StreamSpec

#: Measures of the series in a file: documents by bucket of length, values by id.
_LENGTHS = "documents_by_tokens"
_UNIGRAMS = "tokens_by_id"
#: Those of streams that have bands or an error: documents by octave of length, values by band * vocabulary + id,
#: documents by bucket of length * number of buckets + bucket of error. Files of tables without such streams lack them.
_OCTAVES = "documents_by_octave_of_tokens"
_BANDS = "tokens_by_band_and_id"
_ERRORS = "documents_by_tokens_and_error"


@dataclass(slots=True)
class StreamStatistics:
    """What is known of one stream.

    Attributes:
        spec: The stream's spec.
        tokens: Number of values (of a codec: frames times codebooks).
        lengths: Sketch of the values per document.
        unigrams: How often each id came; None where the stream is not counted.
        octaves: Documents by octave of their length; None where the stream has neither bands nor an error.
        bands: How often each id came in each band; None where the stream has no bands, or is not counted.
        errors: Errors against lengths of another stream; None where the stream is no error.
    """

    spec: StreamSpec
    tokens: int = 0
    lengths: Sketch = field(default_factory=Sketch)
    unigrams: Unigrams | None = None
    octaves: Unigrams | None = None
    bands: Bands | None = None
    errors: ErrorCurve | None = None

    @classmethod
    def start(cls, name: str, specs: Mapping[str, StreamSpec]) -> StreamStatistics:
        """Return the statistics of no values of one of a table's streams; raises SpecError for a wrong `error_of`."""
        spec = specs[name]
        banded = spec.bands is not None or any(other.error_of == name for other in specs.values())
        return cls(
            spec,
            unigrams=Unigrams.for_stream(spec),
            octaves=Unigrams(len(OCTAVE_ENDS), "int64") if banded else None,
            bands=Bands.for_stream(spec),
            errors=ErrorCurve.for_stream(name, specs),
        )

    def add(self, name: str, streams: Mapping[str, Jagged]) -> None:
        """Count this stream of a batch whose streams were checked against their specs."""
        batch = streams[name]
        self.tokens += len(batch.values)
        self.lengths.add(batch.lengths)
        if self.unigrams is not None:
            self.unigrams.add(batch.values)
        if self.octaves is not None:
            self.octaves.add(octaves_of(batch.lengths))
        if self.bands is not None:
            self.bands.add(batch)
        if self.errors is not None:
            self.errors.add(streams[self.errors.of].lengths, batch.values)

    def merge(self, other: StreamStatistics) -> None:
        """Add what another counted of a stream of the same spec."""
        self.tokens += other.tokens
        self.lengths.merge(other.lengths)
        if self.unigrams is not None and other.unigrams is not None:
            self.unigrams.merge(other.unigrams)
        if self.octaves is not None and other.octaves is not None:
            self.octaves.merge(other.octaves)
        if self.bands is not None and other.bands is not None:
            self.bands.merge(other.bands)
        if self.errors is not None and other.errors is not None:
            self.errors.merge(other.errors)

    def counts(self) -> dict[str, Any]:
        """Return, for a file's JSON header, all that is not a series of counts."""
        counts: dict[str, Any] = {"tokens": self.tokens, "lengths": self.lengths.ends()}
        if self.errors is not None:
            counts["errors"] = self.errors.others()
        return counts

    def series(self, source: str, name: str) -> Iterator[arrow.Series]:
        """Give the series of counts, for a file."""
        yield arrow.Series(source, name, _LENGTHS, *self.lengths.sparse())
        for measure, counted in (
            (_UNIGRAMS, self.unigrams),
            (_OCTAVES, self.octaves),
            (_BANDS, self.bands),
            (_ERRORS, self.errors),
        ):
            if counted is not None:
                yield arrow.Series(source, name, measure, *counted.sparse())

    def fill(self, file: arrow.StatisticsFile, counts: Mapping[str, Any], source: str, name: str) -> None:
        """Take over what a file holds of the stream, within `arrow.reading`."""
        self.tokens = counts["tokens"]
        self.lengths.fill(*file.series[source, name, _LENGTHS], counts["lengths"])
        for measure, counted in ((_UNIGRAMS, self.unigrams), (_OCTAVES, self.octaves), (_BANDS, self.bands)):
            if counted is not None:
                counted.fill(*file.series[source, name, measure])
        if self.errors is not None:
            self.errors.fill(*file.series[source, name, _ERRORS], counts["errors"])

    def sums(self, name: str, documents: int) -> Iterator[tuple[str, int, int]]:
        """Give what is to be equal: what it is of, the number that is said, and what the counts sum to."""
        yield f"documents of stream {name!r}", documents, self.lengths.count
        yield f"tokens of stream {name!r}", self.tokens, self.lengths.total
        for what, said, counted in (
            ("unigrams", self.tokens, self.unigrams),
            ("documents by octave", documents, self.octaves),
            ("codes by band", self.tokens, self.bands),
        ):
            if counted is not None:
                yield f"{what} of stream {name!r}", said, int(counted.sparse()[1].sum())
        if self.errors is not None:
            yield f"errors of stream {name!r}", documents, self.errors.errors.count + self.errors.unknown
