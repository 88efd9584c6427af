"""From the raw values of a run of items to an ItemBatch: checks, conversions and rejects, the same for all formats."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tokenmill.job_sources import MetadataType, Source
from tokenmill.sources import reasons
from tokenmill.sources.items import ItemBatch, Reject
from tokenmill.sources.limits import ReadLimits
from tokenmill.sources.payloads import MISSING, Problem, payload_kind
from tokenmill.sources.text_sizes import utf8_sizes


class ItemAssembler:
    """Makes the batches of one file.

    Args:
        source: Names the fields, for messages, and the types of metadata columns.
        limits: Above which sizes items are refused.
        path: The file's path relative to the source's root.
        textual: Whether all values come as text, so that numbers are parsed (CSV, tar, WARC).
    """

    def __init__(self, source: Source, limits: ReadLimits, path: str, *, textual: bool = False) -> None:
        self._source = source
        self._limits = limits
        self._path = path
        self._kind = payload_kind(source, limits)
        self._converters = {name: _converter(kind, textual=textual) for name, kind in source.metadata.items()}

    def batch(
        self,
        ordinals: Sequence[int] | npt.NDArray[np.int64],
        ends: Sequence[int] | npt.NDArray[np.int64],
        values: list[Any],
        ids: list[Any] | None,
        metadata: dict[str, list[Any]],
        locate: Callable[[int], str],
        rejects: Sequence[Reject] = (),
        locators: Sequence[str] = (),
    ) -> ItemBatch:
        """Make a batch.

        Args:
            ordinals: `[n]`.
            ends: `[n]`, positions after the items.
            values: `[n]`, of texts each a str, of images and recordings each bytes; or else None, MISSING, bytes that
                do not decode (texts), or a value of a wrong type.
            ids: `[n]` in the same manner; None where the path is the key.
            metadata: Column name → `[n]` raw values.
            locate: Gives the locator of item i (index in this batch), for rejects.
            rejects: Those that the format found itself.
            locators: `[n]`, or empty.
        """
        problems: dict[int, Problem] = {}
        sizes = self._sizes(values, problems)
        keys = [self._path] * len(values) if ids is None else self._keys(ids, problems)
        columns = {name: self._column(name, column, problems) for name, column in metadata.items()}
        batch = ItemBatch(
            np.asarray(ordinals, np.int64),
            np.array(ends, np.int64),
            sizes,
            keys,
            values,
            columns,
            self._path,
            locators,
            list(rejects),
        )
        if not problems:
            batch.payloads = self._kind.payloads(values)
            return batch
        batch.rejects += [
            Reject(int(batch.ordinals[index]), str(keys[index]), locate(index), *problem)
            for index, problem in problems.items()
        ]
        batch.rejects.sort(key=lambda reject: reject.ordinal)
        batch = _without(batch, problems)
        batch.payloads = self._kind.payloads(batch.payloads)
        return batch

    def _sizes(self, values: list[Any], problems: dict[int, Problem]) -> npt.NDArray[np.int64]:
        sizes = self._kind.sizes(values, problems)
        limit = self._limits.max_item_bytes
        if len(sizes) and int(sizes.max()) > limit:
            for index in np.flatnonzero(sizes > limit).tolist():
                problems[index] = (
                    reasons.ITEM_TOO_LARGE,
                    f"the {self._kind.name} has {sizes[index]} bytes; max_item_bytes is {limit}",
                )
        return sizes

    def _keys(self, ids: list[Any], problems: dict[int, Problem]) -> list[str]:
        limit = self._limits.max_metadata_bytes
        if set(map(type, ids)) <= {str} and max(map(len, ids), default=0) * 4 <= limit:
            return ids
        keys: list[str] = []
        for index, value in enumerate(ids):
            key = self._path
            problem: Problem | None = None
            if value is MISSING or value is None:
                missing = "null" if value is None else "absent"
                problem = (reasons.MISSING_FIELD, f"the id {self._source.fields.id!r} is {missing}")
            elif isinstance(value, bytes):
                shown = f"the id {self._source.fields.id!r} does not decode: {reasons.quote(value)}"
                problem = (reasons.INVALID_UTF8, shown)
            elif isinstance(value, bool) or not isinstance(value, (str, int, float)):
                shown = f"the id {self._source.fields.id!r} is {type(value).__name__}: {reasons.quote(value)}"
                problem = (reasons.WRONG_TYPE, shown)
            else:
                key = value if isinstance(value, str) else str(value)
                problem = self._too_large(f"the id {self._source.fields.id!r}", key)
                key = self._path if problem else key
            if problem:
                problems.setdefault(index, problem)
            keys.append(key)
        return keys

    def _column(self, name: str, values: list[Any], problems: dict[int, Problem]) -> list[Any]:
        converter = self._converters[name]
        converted: list[Any] = []
        for index, value in enumerate(values):
            if value is None or value is MISSING:
                converted.append(None)
                continue
            if isinstance(value, bytes):
                shown = f"metadata {name!r} does not decode: {reasons.quote(value)}"
                problems.setdefault(index, (reasons.INVALID_UTF8, shown))
                converted.append(None)
                continue
            try:
                result = converter(value)
            except (ValueError, TypeError, OverflowError):
                kind = self._source.metadata[name]
                shown = f"metadata {name!r} is no {kind}: {reasons.quote(value)}"
                problems.setdefault(index, (reasons.WRONG_TYPE, shown))
                result = None
            if type(result) is str and (problem := self._too_large(f"metadata {name!r}", result)):
                problems.setdefault(index, problem)
            converted.append(result)
        return converted

    def _too_large(self, what: str, value: str) -> Problem | None:
        limit = self._limits.max_metadata_bytes
        if len(value) * 4 <= limit:
            return None
        try:
            size = int(utf8_sizes([value])[0])
        except UnicodeEncodeError as error:
            return (reasons.INVALID_UTF8, f"{what} holds half a surrogate pair at {error.start}")
        if size <= limit:
            return None
        return (reasons.METADATA_TOO_LARGE, f"{what} has {size} bytes; max_metadata_bytes is {limit}")


def _without(batch: ItemBatch, dropped: dict[int, Problem]) -> ItemBatch:
    kept = [index for index in range(len(batch)) if index not in dropped]
    return ItemBatch(
        batch.ordinals[kept],
        batch.ends[kept],
        batch.sizes[kept],
        [batch.keys[index] for index in kept],
        [batch.payloads[index] for index in kept],
        {name: [values[index] for index in kept] for name, values in batch.metadata.items()},
        batch.path,
        [batch.locators[index] for index in kept] if batch.locators else (),
        batch.rejects,
    )


def _converter(kind: MetadataType, *, textual: bool) -> Callable[[Any], Any]:
    from_value = _FROM_VALUE[kind]
    if not textual:
        return from_value
    from_text = _FROM_TEXT[kind]
    return lambda value: from_text(value) if type(value) is str else from_value(value)


def as_string(value: Any) -> str:
    """Return a metadata value as a string: what is none already, as JSON."""
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)


def _to_int64(value: Any) -> int:
    if type(value) is not int:
        raise TypeError(value)
    if not -(1 << 63) <= value < 1 << 63:
        raise OverflowError(value)
    return value


def _to_float64(value: Any) -> float:
    if type(value) not in (int, float):
        raise TypeError(value)
    return float(value)


def _to_bool(value: Any) -> bool:
    if type(value) is not bool:
        raise TypeError(value)
    return value


_BOOL_WORDS = {"true": True, "1": True, "false": False, "0": False}


def _parse_bool(text: str) -> bool | None:
    if not text:
        return None
    if text.lower() not in _BOOL_WORDS:
        raise ValueError(text)
    return _BOOL_WORDS[text.lower()]


_FROM_VALUE: dict[MetadataType, Callable[[Any], Any]] = {
    "string": as_string,
    "int64": _to_int64,
    "float64": _to_float64,
    "bool": _to_bool,
}
#: Of formats whose values are all text; an empty one is no number.
_FROM_TEXT: dict[MetadataType, Callable[[Any], Any]] = {
    "string": as_string,
    "int64": lambda text: _to_int64(int(text)) if text else None,
    "float64": lambda text: float(text) if text else None,
    "bool": _parse_bool,
}
