"""Searching a published generation for keys: in which parts they are, counted by table. Nothing is written here.

Searched are the keys of all rows, and those of the rejected items, whose files quote them.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import islice

from tokenmill.layout import ProductName, parse_product
from tokenmill.manifests import Manifest, read_shard_table
from tokenmill.part_checks import read_checked
from tokenmill.plans import Plan
from tokenmill.publication import read_receipts
from tokenmill.receipts import FileReference, list_receipts, newest_names
from tokenmill.shard_checks import ListedShard, listed_shards
from tokenmill.shard_files import OpenShard, open_bytes
from tokenmill.storage.outputs import Storage
from tokenmill.takedown_lists import Place, Takedown, key_digests

_READERS = 16


@dataclass
class Found:
    """What a search found.

    Attributes:
        parts: The parts that hold keys of the list → number of the newest list that has one of them.
        digests: Digests of the keys that were found.
        items: Table → rows and rejects with such keys.
        shards: Table → shards with such rows.
    """

    parts: dict[Place, int] = field(default_factory=dict)
    digests: set[bytes] = field(default_factory=set)
    items: Counter[str] = field(default_factory=Counter)
    shards: Counter[str] = field(default_factory=Counter)


def search(storage: Storage, manifest: Manifest, plan: Plan, takedown: Takedown, before: Takedown | None) -> Found:
    """Search a generation for the keys of a list.

    Args:
        storage: The dataset's root.
        manifest: The generation's manifest.
        plan: Its plan.
        takedown: The list; only its number and its keys are used.
        before: The list before it. Parts from which items were left out since it was made are found, too.

    Raises:
        CorruptionError: where a shard or a file of rejects is not what was written.
        StorageError: where one cannot be read.
    """
    found = Found()
    rejecting = {(part.table, part.split, part.part) for part in _rejecting(storage)}
    for table in manifest.tables.values():
        for shard, keys in _keys_of_shards(storage, listed_shards(read_shard_table(storage, table))):
            count = _take(found, takedown, keys, (table.name, shard.split, shard.part))
            found.shards[table.name] += count > 0
        _search_receipts(storage, plan, table.name, takedown, before, rejecting, found)
    return found


def _take(found: Found, takedown: Takedown, keys: Sequence[str], place: Place) -> int:
    """Take note of the keys of one part; returns how many of them are on the list."""
    digests = key_digests(takedown.salt, keys)
    matches = digests[takedown.holds(digests)]
    if len(matches):
        found.parts[place] = takedown.number
        found.digests.update(matches.tolist())
        found.items[place[0]] += len(matches)
    return len(matches)


def _keys_of_shards(storage: Storage, shards: Iterator[ListedShard]) -> Iterator[tuple[ListedShard, list[str]]]:
    """Yield shards with the keys of their rows, read on threads, a bounded number ahead."""
    with ThreadPoolExecutor(_READERS) as pool:
        while some := list(islice(shards, 4 * _READERS)):
            yield from zip(some, pool.map(partial(_keys_of, storage), some), strict=True)


def _keys_of(storage: Storage, shard: ListedShard) -> list[str]:
    data = open_bytes(storage, shard.path, shard.size_bytes, shard.blocks, check_values=False)
    opened = OpenShard(data, shard.value_offsets)
    return [opened.key(row) for row in range(len(opened))]


def _rejecting(storage: Storage) -> Iterator[ProductName]:
    """Yield the parts that have a file of rejects."""
    for entry in storage.list("rejects/"):
        part = parse_product(entry.path)
        if part is not None:
            yield part


def _search_receipts(
    storage: Storage,
    plan: Plan,
    table: str,
    takedown: Takedown,
    before: Takedown | None,
    rejecting: set[Place],
    found: Found,
) -> None:
    """Search what receipts tell of: rejects, and parts that were made without some of their items."""
    covered = set(plan.splits_of(plan.table(table)).tolist())
    sources = plan.splits.sources
    names = [
        name
        for name in newest_names(list(list_receipts(storage, table)))
        if name.split in covered
        and (
            (table, name.split, name.part) in rejecting
            or (before is not None and not before.searched(table, name.split, sources[name.split]))
        )
    ]
    for name, receipt in zip(names, read_receipts(storage, names), strict=True):
        if receipt is None:
            continue  # publication says what is wrong
        place = (table, name.split, name.part)
        if receipt.taken_down:
            found.parts.setdefault(place, receipt.takedown)
        if receipt.rejects is not None:
            _take(found, takedown, _rejected_keys(storage, receipt.rejects), place)


def _rejected_keys(storage: Storage, rejects: FileReference) -> list[str]:
    return [json.loads(line)["key"] for line in read_checked(storage, rejects, "its receipt").splitlines()]
