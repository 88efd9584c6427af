"""What a dataset made of bad items holds: its rejects, its keys, and whether every item is accounted for."""

from __future__ import annotations

import json
from typing import Any

import tokenmill
from tokenmill.manifests import Manifest
from tokenmill.replaying import replay
from tokenmill.storage.outputs import Storage


def rejects(output: str, table: str) -> list[dict[str, Any]]:
    """Return the table's rejects, in order."""
    storage = Storage.open(output)
    found = [entry.path for entry in storage.list("rejects/") if entry.path.startswith(f"rejects/{table}-")]
    return [json.loads(line) for path in sorted(found) for line in storage.read(path).splitlines()]


def keys(output: str, table: str) -> list[str]:
    """Return the keys of the table's rows, in order."""
    return [row.key for row in tokenmill.open(output)[table]]


def check_nothing_is_lost(output: str, manifest: Manifest, items: int) -> None:
    """Check that every item is a row or a reject, the same in all tables, and that replaying says the same."""
    storage = Storage.open(output)
    places = []
    for name, table in manifest.tables.items():
        rows = [(row.split, row.ordinal) for row in tokenmill.open(output)[name]]
        rejected = [(reject["split"], reject["ordinal"]) for reject in rejects(output, name)]
        assert len({*rows, *rejected}) == len(rows) + len(rejected) == items
        assert table.rows == len(rows)
        assert table.rejected == sum(reject["lost_items"] for reject in rejects(output, name))
        places.append((rows, rejected))
    assert len(places) > 1
    assert all(place == places[0] for place in places)
    first = next(iter(manifest.tables))
    for reject in rejects(output, first)[:20]:
        again = replay(storage, first, reject["split"], reject["ordinal"])
        assert (again.reason, again.message) == (reject["reason"], reject["message"])
        assert (again.key, again.locator) == (reject["key"], reject["locator"])
        assert again.lost_seconds == reject.get("lost_seconds", 0)
        assert again.traceback is None
