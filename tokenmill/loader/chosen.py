"""Which streams of a table a loader reads, and how they are laid out: what a stream's name and a pattern come to."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tokenmill.dataset import Table
from tokenmill.errors import LoaderError
from tokenmill.loader.layouts import CodeLayout, Layout, TokenLayout
from tokenmill.loader.patterns import Pattern
from tokenmill.loader.ragged import Ragged
from tokenmill.streams import StreamSpec

_RAGGED = "codes_"


@dataclass(frozen=True)
class ChosenStreams:
    """The streams that are read side by side, nearly always one.

    Attributes:
        widths: Name of each → values of it in a frame.
        layout: How frames are laid out.
        dtypes: Name of each → its dtype.
        ragged: How streams of different frame rates go together; None where there is one stream.
    """

    widths: Mapping[str, int]
    layout: Layout
    dtypes: Mapping[str, str]
    ragged: Ragged | None = None

    @property
    def name(self) -> str:
        """The streams' names as one."""
        return "+".join(self.widths)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The narrowest dtype that the values of all of them fit."""
        return np.result_type(*self.dtypes.values())

    @property
    def token_bytes(self) -> float:
        """Bytes on storage that an id stands for: its own, and those of codes that are read with it in vain."""
        frame_bytes = sum(width * np.dtype(self.dtypes[name]).itemsize for name, width in self.widths.items())
        return frame_bytes / (self.layout.steps_per_frame * math.prod(self.layout.step_shape))

    def check_separator(self, separator: int, where: str) -> None:
        """Raise LoaderError where a token cannot part documents of these streams."""
        size = self.layout.vocabulary_size
        if isinstance(self.layout, CodeLayout):
            # Every id of a codec is a code of some sound: what parts recordings must be another one.
            if separator < self.layout.vocabulary_size:
                raise LoaderError(
                    f"the separator {separator} is a token of stream {self.name!r} as it is laid out: it has 0 … "
                    f"{self.layout.vocabulary_size - 1}",
                    where=where,
                    fix=f"take {size} or more, which the model's vocabulary must then have",
                )
        elif not 0 <= separator < (size or 1 << 63):
            raise LoaderError(
                f"the separator {separator} is not an id of stream {self.name!r}, whose vocabulary has {size}",
                where=where,
            )

    def check_ends(self, table: Table, name: str, where: str) -> None:
        """Raise LoaderError where a stream does not say where stretches of this one end."""
        fitting = [
            other
            for other, spec in table.streams.items()
            if spec.ends_of == self.name and len(spec.dims) == 1 and np.dtype(spec.dtype).kind in "iu"
        ]
        if isinstance(self.layout, CodeLayout):
            fitting = []
        if name not in fitting:
            raise LoaderError(
                f"documents={name!r}: no such stream of table {table.name!r} says where stretches of {self.name!r} end",
                where=where,
                fix=f"name one that does: {', '.join(fitting)}" if fitting else "leave documents out: a row is one",
            )

    def undo(self, tokens: npt.NDArray[Any], position: int) -> dict[str, npt.NDArray[Any]]:
        """Return the streams of a stretch of a row's tokens, from place `position` in it on, by name."""
        if not isinstance(self.layout, CodeLayout):
            return {self.name: tokens}
        codes = self.layout.undo(tokens, position)
        return {self.name: codes} if self.ragged is None else self.ragged.split(codes)


def choose(table: Table, asked: str | None, pattern: Pattern | None, uri: str) -> ChosenStreams:
    """Find the streams to read.

    Args:
        table: The table.
        asked: Name of the stream; default the table's first, with a pattern all streams of its codes.
        pattern: How codes are laid out; None for a stream of one dimension.
        uri: The dataset, for messages.

    Raises:
        LoaderError: there is no such stream, or the pattern and the stream do not go together.
    """
    if asked is not None and asked not in table.streams:
        raise LoaderError(f"table {table.name!r} has no stream {asked!r}; it has {', '.join(table.streams)}", where=uri)
    if pattern is None:
        return _tokens(table, next(iter(table.streams)) if asked is None else asked, uri)
    coded = {name: spec for name, spec in table.streams.items() if _of_codebooks(spec)}
    if (asked is not None and asked not in coded) or not coded:
        name = asked or next(iter(table.streams))
        raise LoaderError(
            f"stream {name!r} of table {table.name!r} has the dimensions ({', '.join(table.streams[name].dims)}); a "
            "pattern lays out codes of a codec (frame, codebook)",
            where=uri,
            fix=f"leave the pattern out, or name another stream: {', '.join(coded)}" if coded else "leave it out",
        )
    if asked is not None:
        coded = {asked: coded[asked]}
    strides = {name: name.removeprefix(_RAGGED) for name in coded if name.startswith(_RAGGED)}
    try:
        if asked is None and len(strides) > 1 and all(stride.isdigit() for stride in strides.values()):
            return _ragged({int(stride): coded[name] for name, stride in strides.items()}, pattern)
        name, spec = next(iter(coded.items()))
        width = spec.shape[1] or 0
        layout = pattern.layout(width, spec.vocabulary_size or 0)
        return ChosenStreams({name: width}, layout, {name: spec.dtype})
    except LoaderError as error:
        raise LoaderError(error.what, where=uri, fix=error.fix) from None


def check_distinct(table: Table, name: str, ends: str | None, where: str) -> None:
    """Raise LoaderError where a stream has not a value for each end, or there are no ends."""
    streams = table.streams
    fitting = [
        other for other, spec in streams.items() if ends not in (None, other) and spec.dims == streams[ends or ""].dims
    ]
    if name not in fitting:
        raise LoaderError(
            f"distinct={name!r}: no such stream of table {table.name!r} has a value for each of the documents of a row",
            where=where,
            fix=f"name one that has: {', '.join(fitting)}" if fitting else "leave distinct out, or name documents too",
        )


def _tokens(table: Table, name: str, uri: str) -> ChosenStreams:
    spec = table.streams[name]
    if _of_codebooks(spec):
        raise LoaderError(
            f"stream {name!r} of table {table.name!r} holds codes of {spec.shape[1]} codebooks a frame "
            f"({', '.join(spec.dims)}); how they are to be laid out as tokens was not said",
            where=uri,
            fix="say it: pattern=Flat(), Parallel() or Delayed(), of the first n codebooks with codebooks=n",
        )
    if len(spec.dims) > 1 or np.dtype(spec.dtype).kind not in "iu":
        raise LoaderError(
            f"stream {name!r} of table {table.name!r} holds {spec.dtype} with dimensions ({', '.join(spec.dims)}); "
            "windows are cut from whole numbers in one dimension",
            where=uri,
        )
    return ChosenStreams({name: 1}, TokenLayout(spec.vocabulary_size), {name: spec.dtype})


def _ragged(specs: Mapping[int, StreamSpec], pattern: Pattern) -> ChosenStreams:
    """Put streams of different frame rates together, by stride, coarsest first."""
    ordered = sorted(specs.items(), reverse=True)
    ragged = Ragged([stride for stride, spec in ordered for _ in range(spec.shape[1] or 0)])
    sizes = {spec.vocabulary_size or 0 for spec in specs.values()}
    if len(sizes) > 1:
        raise LoaderError(
            f"codebooks of different sizes ({', '.join(map(str, sorted(sizes)))}) cannot be laid out together",
            fix="read one of the streams: stream=…",
        )
    layout = pattern.layout_of(ragged.books, sizes.pop())
    dtypes = {name: spec.dtype for name, (_, spec) in zip(ragged.widths, ordered, strict=True)}
    return ChosenStreams(ragged.widths, layout, dtypes, ragged)


def _of_codebooks(spec: StreamSpec) -> bool:
    """Say whether a stream holds codes (frame, codebook), equally many in every frame."""
    return (
        len(spec.dims) == 2
        and spec.dims[1] == "codebook"
        and spec.shape[1] is not None
        and spec.vocabulary_size is not None
        and np.dtype(spec.dtype).kind in "iu"
    )
