"""What is known of a table's modules of LLVM IR: how large they are, what they are made of and call, and what repeats.

It is read off the streams that every table of LLVM IR has (`tokenmill.ir.streams`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from tokenmill.ir.census import OPCODES, TYPES
from tokenmill.ir.streams import (
    CALLED_COUNTS,
    CALLED_NAMES,
    FUNCTION_HASHES,
    INSTRUCTIONS,
    MODULE,
    MODULE_STREAMS,
    OPCODE_COUNTS,
    SHA256,
    TYPE_COUNTS,
)
from tokenmill.statistics import arrow
from tokenmill.statistics.called import CalledNames
from tokenmill.statistics.distinct import Distinct
from tokenmill.statistics.sketch import Sketch
from tokenmill.streams import Jagged, StreamSpec

#: Sums, in the order of the stream `module`.
_SUMS = ("stored_bytes", "text_bytes", "defined", "declared", "global_values")
#: Measures of the series in a file: functions by bucket of instructions, instructions by opcode, instructions and
#: global values by type, calls by place in the table of sums, and modules and functions by hash.
_LENGTHS = "functions_by_instructions"
_CALLED = "calls_by_place"
_HISTOGRAMS = {"opcodes": (OPCODE_COUNTS, "instructions_by_opcode"), "types": (TYPE_COUNTS, "values_by_type")}
_NAMES = {"opcodes": OPCODES, "types": TYPES}
_DISTINCT = {"modules": (SHA256, "modules_by_hash"), "functions": (FUNCTION_HASHES, "functions_by_hash")}


@dataclass(slots=True)
class ModuleStatistics:
    """Counts of modules.

    Attributes:
        stored_bytes: Bytes as they were read, of all modules.
        text_bytes: Bytes of their canonical text.
        defined: Functions with a body.
        declared: Functions without.
        global_values: Global variables, aliases and ifuncs.
        lengths: Sketch of the instructions of each function with a body.
        opcodes: Place in `tokenmill.ir.census.OPCODES` → instructions.
        types: Place in `tokenmill.ir.census.TYPES` → instructions and global values.
        modules: How often each module came, by its SHA-256.
        functions: How often each function with a body came, by its hash.
        called: Which names are called.
    """

    stored_bytes: int = 0
    text_bytes: int = 0
    defined: int = 0
    declared: int = 0
    global_values: int = 0
    lengths: Sketch = field(default_factory=Sketch)
    opcodes: dict[int, int] = field(default_factory=dict)
    types: dict[int, int] = field(default_factory=dict)
    modules: Distinct = field(default_factory=Distinct)
    functions: Distinct = field(default_factory=Distinct)
    called: CalledNames = field(default_factory=CalledNames)

    @classmethod
    def for_streams(cls, specs: Mapping[str, StreamSpec]) -> ModuleStatistics | None:
        """Return counts of no modules; None for a table of something else."""
        return cls() if all(specs.get(name) == spec for name, spec in MODULE_STREAMS.items()) else None

    @property
    def instructions(self) -> int:
        """How many instructions there are."""
        return sum(self.opcodes.values())

    def add(self, streams: Mapping[str, Jagged]) -> None:
        """Count modules by their rows of the streams, which were checked against their specs.

        Raises ValueError where there are not as many called names as counts of them.
        """
        for name, column in zip(_SUMS, streams[MODULE].values.reshape(-1, len(_SUMS)).T, strict=True):
            setattr(self, name, getattr(self, name) + int(column.sum()))
        self.lengths.add(streams[INSTRUCTIONS].values.astype(np.int64))
        for name, (stream, _) in _HISTOGRAMS.items():
            rows = streams[stream].values.reshape(-1, len(_NAMES[name]))
            _add(getattr(self, name), rows.sum(axis=0, dtype=np.int64))
        hashes = np.ascontiguousarray(streams[SHA256].values.reshape(-1, 32)[:, :8]).view("<u8")[:, 0].astype(np.uint64)
        self.modules.add(hashes)
        self.functions.add(streams[FUNCTION_HASHES].values)
        counts = streams[CALLED_COUNTS]
        names = streams[CALLED_NAMES].values.tobytes().split(b"\n")[:-1]
        if len(names) != len(counts.values):
            raise ValueError(f"{len(names)} called names have {len(counts.values)} counts")
        self.called.add(names, counts.values.astype(np.int64), np.repeat(hashes, counts.lengths))

    def merge(self, other: ModuleStatistics) -> None:
        """Add what another counted."""
        for name in _SUMS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name in _HISTOGRAMS:
            mine = getattr(self, name)
            for place, count in getattr(other, name).items():
                mine[place] = mine.get(place, 0) + count
        self.lengths.merge(other.lengths)
        self.modules.merge(other.modules)
        self.functions.merge(other.functions)
        self.called.merge(other.called)

    def counts(self) -> dict[str, Any]:
        """Return, for a file's JSON header, all that is not a series of counts."""
        return {
            **{name: getattr(self, name) for name in _SUMS},
            **{name: sum(getattr(self, name).values()) for name in _HISTOGRAMS},
            "instructions": self.lengths.ends(),
            **{name: getattr(self, name).ends() for name in _DISTINCT},
            "called": self.called.others(),
        }

    def series(self, source: str) -> Iterator[arrow.Series]:
        """Give the series of counts, for a file."""
        yield arrow.Series(source, INSTRUCTIONS, _LENGTHS, *self.lengths.sparse())
        for name, (stream, measure) in _HISTOGRAMS.items():
            counted = sorted(getattr(self, name).items())
            keys, counts = (np.array([pair[place] for pair in counted], np.int64) for place in (0, 1))
            yield arrow.Series(source, stream, measure, keys.astype(np.uint32), counts)
        for name, (stream, measure) in _DISTINCT.items():
            yield arrow.Series(source, stream, measure, *getattr(self, name).sparse())
        yield arrow.Series(source, CALLED_COUNTS, _CALLED, *self.called.sparse())

    def fill(self, file: arrow.StatisticsFile, counts: Mapping[str, Any], source: str) -> None:
        """Take over what a file holds of the modules, within `arrow.reading`."""
        for name in _SUMS:
            setattr(self, name, counts[name])
        self.lengths.fill(*file.series[source, INSTRUCTIONS, _LENGTHS], counts["instructions"])
        for name, place in _HISTOGRAMS.items():
            keys, counted = file.series[source, *place]
            setattr(self, name, dict(zip(keys.tolist(), counted.tolist(), strict=True)))
        for name, place in _DISTINCT.items():
            hashes, counted = file.wide_series[source, *place]
            getattr(self, name).fill(hashes, counted, counts[name])
        self.called.fill(*file.series[source, CALLED_COUNTS, _CALLED], counts["called"])

    def sums(
        self, counts: Mapping[str, Any], documents: int, values: Mapping[str, int]
    ) -> Iterator[tuple[str, int, int]]:
        """Give what is to be equal: what it is of, the number that is said, and what the counts sum to.

        Args:
            counts: As `counts` returned it, from the file.
            documents: Rows.
            values: Stream → how many values it has.
        """
        yield "modules", documents, self.modules.total
        yield "functions by instructions", values[INSTRUCTIONS], self.lengths.count
        yield "functions by hash", values[FUNCTION_HASHES], self.functions.total
        for name in _HISTOGRAMS:
            yield name, counts[name], sum(getattr(self, name).values())
        for name in _DISTINCT:
            distinct: Distinct = getattr(self, name)
            if not distinct.level:
                yield f"{name} that are kept", distinct.total, int(distinct.sparse()[1].sum())
        for row in self.called.rows():
            yield "calls", self.called.calls, row


def _add(counts: dict[int, int], more: npt.NDArray[np.int64]) -> None:
    """Add to counts by place what came `[place]`; what is 0 is not written down."""
    for place in np.flatnonzero(more).tolist():
        counts[place] = counts.get(place, 0) + int(more[place])
