"""Replaying items: read them as the plan's run did, tokenize one alone, and keep the whole error where that fails."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from tokenmill.contract import PreparingEncoder
from tokenmill.encoders import NOT_OF_AN_ITEM, loaded_encoder
from tokenmill.errors import ChangedError, DatasetError, ItemError, TokenmillError
from tokenmill.plans import Plan, PlannedTable, newest_generation, read_plan
from tokenmill.receipts import latest_receipt
from tokenmill.sources.formats import file_format
from tokenmill.sources.items import Cursor, ItemBatch, Reject
from tokenmill.sources.limits import ReadLimits
from tokenmill.sources.reading import open_split
from tokenmill.sources.splits import Split
from tokenmill.storage.outputs import Storage


@dataclass(frozen=True)
class Replay:
    """What became of an item.

    Attributes:
        split: Number of its split.
        ordinal: Its number in the split.
        source: Name of its source.
        key: Its key.
        locator: Where it is.
        size_bytes: Input bytes; None where it could not be read.
        metadata: Carried columns.
        payload: What was tokenized; None where it could not be read.
        streams: Its row, if it has one.
        reason: Why it has none, as its reject says; None where it has one.
        message: What exactly was wrong.
        lost_seconds: Of a recording that has no row: how many seconds that loses, as far as known.
        traceback: Of the tokenizer's own error.
    """

    split: int
    ordinal: int
    source: str
    key: str
    locator: str
    size_bytes: int | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    payload: Any = None
    streams: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)
    reason: str | None = None
    message: str | None = None
    lost_seconds: float = 0.0
    traceback: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values, whole."""
        return {
            "split": self.split,
            "ordinal": self.ordinal,
            "source": self.source,
            "key": self.key,
            "locator": self.locator,
            "size_bytes": self.size_bytes,
            "metadata": dict(self.metadata),
            "payload": self.payload if isinstance(self.payload, str) else None,
            "streams": {
                name: {"shape": list(values.shape), "dtype": str(values.dtype), "values": values.tolist()}
                for name, values in self.streams.items()
            },
            "reason": self.reason,
            "message": self.message,
            **({"lost_seconds": self.lost_seconds} if self.lost_seconds else {}),
            "traceback": self.traceback,
        }


def replay(storage: Storage, table: str, split: int, ordinal: int) -> Replay:
    """Read exactly one item of the newest plan from its source, and tokenize it for one table.

    Raises:
        DatasetError: where there is no plan, or it has no such table, split or item.
        ChangedError: where the input is not what it was.
        AssetError: where the vocabulary found here is not the planned one.
    """
    plan, planned = _planned(storage, table, split)
    found = _read_item(storage, plan, split, ordinal)
    source = plan.splits[split].source
    if isinstance(found, Reject):
        return Replay(
            split,
            ordinal,
            source,
            found.key,
            found.locator,
            reason=found.reason,
            message=found.message,
            lost_seconds=found.lost_seconds,
        )
    batch, index = found
    item: dict[str, Any] = {
        "split": split,
        "ordinal": ordinal,
        "source": source,
        "key": batch.keys[index],
        "locator": batch.locators[index] if len(batch.locators) else f"{batch.path}#item={ordinal}",
        "size_bytes": int(batch.sizes[index]),
        "metadata": {name: values[index] for name, values in batch.metadata.items()},
        "payload": batch.payloads[index],
    }
    encoder = loaded_encoder(planned.tokenizer, planned.device)
    payload = batch.payloads[index]
    try:
        encoded = encoder.encode([encoder.prepare(payload) if isinstance(encoder, PreparingEncoder) else payload])
    except NOT_OF_AN_ITEM:
        raise
    except ItemError as error:
        return Replay(**item, reason=error.reason, message=error.what, lost_seconds=error.lost_seconds)
    except (KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:  # noqa: BLE001  native code panics with classes derived from BaseException
        shown = f"{type(error).__name__}: {error}"
        return Replay(**item, reason="tokenizer_failed", message=shown, traceback=traceback.format_exc())
    if encoded.failures:
        failure = encoded.failures[0]
        lost_seconds = failure.lost_seconds
        return Replay(**item, reason=failure.reason, message=failure.message, lost_seconds=lost_seconds)
    for name, spec in planned.tokenizer.streams.items():
        encoded.streams[name].check(name, spec, 1)
    return Replay(**item, streams={name: encoded.streams[name][0] for name in planned.tokenizer.streams})


def read_again(
    storage: Storage, table: str, split: int, keys: Mapping[int, str]
) -> tuple[dict[int, Any], dict[int, TokenmillError]]:
    """Read some items of a split of the newest plan from their source, as they are there now.

    A file that is one item is read alone: those that are gone keep no others from being read.

    Args:
        storage: The dataset's root.
        table: A table that has the split.
        split: Number of the split.
        keys: Ordinal → key of the items, one at least.

    Returns:
        Ordinal → payload; and ordinal → why the item could not be read: it is gone, not what it was, or a reject by
        now.

    Raises:
        DatasetError: where there is no plan, or it has no such table or split.
    """
    plan, _ = _planned(storage, table, split)
    planned = plan.splits[split]
    source = plan.source(planned.source)
    whole = ("text", "image") if source.cuts_recordings else ("text", "image", "audio")
    own = {file.path: file for file in planned.files if file_format(source, file.path).format in whole}
    payloads: dict[int, Any] = {}
    errors: dict[int, TokenmillError] = {}
    for ordinal, key in keys.items():
        if key in own:
            file = own[key]
            alone = Split(planned.source, "file", (file,), 0, file.size_bytes, file.size_bytes)
            _read_into(payloads, errors, plan, alone, {ordinal: key}, Cursor(ordinal, 0))
    rest = {ordinal: key for ordinal, key in keys.items() if key not in own}
    if rest:
        _read_into(payloads, errors, plan, planned, rest, _nearest_cursor(storage, plan, split, min(rest)))
    return payloads, errors


def _read_into(
    payloads: dict[int, Any],
    errors: dict[int, TokenmillError],
    plan: Plan,
    split: Split,
    keys: Mapping[int, str],
    start: Cursor,
) -> None:
    why: TokenmillError = ChangedError("the source no longer has this item where it was")
    root = plan.roots[split.source]
    try:
        with open_split(plan.source(split.source), root, split, ReadLimits.of(plan.job.limits)) as reader:
            for batch in reader.batches(start):
                items = zip(batch.ordinals.tolist(), batch.keys, batch.payloads, strict=True)
                payloads.update({ordinal: payload for ordinal, key, payload in items if keys.get(ordinal) == key})
                if len(batch) and batch.ordinals[-1] >= max(keys):
                    break
    except TokenmillError as error:
        why = error
    errors.update({ordinal: why for ordinal in keys if ordinal not in payloads})


def _planned(storage: Storage, table: str, split: int) -> tuple[Plan, PlannedTable]:
    """Return the newest plan and a table of it; raises DatasetError where it has no such table or split."""
    generation = newest_generation(storage, "plans")
    if generation is None:
        raise DatasetError("holds no plan, so that items cannot be read again", where=storage.uri)
    plan = read_plan(storage, generation)
    planned = plan.table(table)
    covered = plan.splits_of(planned)
    if split not in covered:
        known = f"splits {covered[0]} … {covered[-1]}" if len(covered) else "no splits"
        raise DatasetError(f"table {table!r} has no split {split}; it covers {known}", where=storage.uri)
    return plan, planned


def _nearest_cursor(storage: Storage, plan: Plan, split: int, ordinal: int) -> Cursor:
    """Return where reading must start: at the part that has the item, as far as any table's receipts tell."""
    best = Cursor()
    source = plan.splits.sources[split]
    for table in plan.tables:
        if source not in table.sources:
            continue
        part = 0
        while True:
            latest = latest_receipt(storage, table.name, split, part)
            if latest is None or latest.receipt is None or latest.receipt.start.ordinal > ordinal:
                break
            if latest.receipt.start.ordinal >= best.ordinal:
                best = latest.receipt.start
            if latest.receipt.final or ordinal < latest.receipt.next.ordinal:
                return best
            part += 1
    return best


def _read_item(storage: Storage, plan: Plan, split: int, ordinal: int) -> tuple[ItemBatch, int] | Reject:
    """Read an item: its batch and index in it, or the reject that stands for it."""
    start = _nearest_cursor(storage, plan, split, ordinal)
    planned = plan.splits[split]
    limits = ReadLimits.of(plan.job.limits)
    seen = start.ordinal - 1
    with open_split(plan.source(planned.source), plan.roots[planned.source], planned, limits) as reader:
        for batch in reader.batches(start):
            for reject in batch.rejects:
                if reject.ordinal == ordinal:
                    return reject
                seen = max(seen, reject.ordinal)
            index = int(np.searchsorted(batch.ordinals, ordinal))
            if index < len(batch) and batch.ordinals[index] == ordinal:
                return batch, index
            if len(batch):
                seen = max(seen, int(batch.ordinals[-1]))
            if seen > ordinal:
                break
    what = f"its items are 0 … {seen}" if seen < ordinal else "neither as an item nor as a reject"
    raise DatasetError(f"split {split} has no item {ordinal}; {what}", where=storage.uri)
