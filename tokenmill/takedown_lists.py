"""Takedown lists: the keys that a dataset must not hold, and the parts in which they were found.

A list is sealed and numbered, and holds the keys of all lists before it. Every plan freezes the newest one, and whoever
makes a part leaves out the items with these keys. Making a list, and a generation by it, is `takedowns`' business.

Keys are kept as sha256 digests under a random salt, one for all lists of a dataset. In clear, the list would publish
once more what was taken down; digests without salt would be those of every other dataset, open to ready-made tables.
The salt lies beside the digests, since every worker needs it. So whoever can read the dataset can ask whether a given
key was taken down, and can find keys that are easily guessed, such as numbers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tokenmill import layout
from tokenmill.errors import CorruptionError, MissingFileError
from tokenmill.layout import parse_generation
from tokenmill.sealed import seal, unseal
from tokenmill.sources.items import ItemBatch, Reject
from tokenmill.storage.outputs import Storage

FORMAT = 1

_DIGEST_BYTES = 32
_DIGESTS = np.dtype(f"S{_DIGEST_BYTES}")
_KEYS_SCHEMA = pa.schema(
    [pa.field("digest", pa.binary(_DIGEST_BYTES), nullable=False)],
    metadata={"tokenmill": b'{"takedown_keys_format":1}'},
)
_PARTS_SCHEMA = pa.schema(
    [
        pa.field("table", pa.string(), nullable=False),
        pa.field("split", pa.int64(), nullable=False),
        pa.field("part", pa.int64(), nullable=False),
        pa.field("takedown", pa.int64(), nullable=False),
    ],
    metadata={"tokenmill": b'{"takedown_parts_format":1}'},
)
_FIX = "restore the file from a copy: without it, what was taken down could come back"

#: A part of a table: the table's name, split and part.
Place = tuple[str, int, int]


@dataclass(frozen=True, eq=False)
class Takedown:
    """One takedown list.

    Attributes:
        number: Its number, from 1.
        created: When it was made, ISO 8601 in UTC.
        salt: Stands before each key when it is hashed.
        digests: `[key]`, the 32 bytes of each key's sha256, ascending.
        splits: The splits below this number were searched, where a table of `tables` covers them.
        tables: Name → sources of the tables that were searched.
        parts: Where keys were found: part → number of the newest list that has one of them.
        sha256: Of its file; empty where it has none yet.
    """

    number: int
    created: str
    salt: bytes
    digests: npt.NDArray[np.bytes_]
    splits: int
    tables: Mapping[str, tuple[str, ...]]
    parts: Mapping[Place, int]
    sha256: str = ""

    def __len__(self) -> int:
        return len(self.digests)

    def taken(self, keys: Sequence[str]) -> npt.NDArray[np.bool_]:
        """Return bool `[key]`: which of some keys are on the list."""
        return self.holds(key_digests(self.salt, keys))

    def holds(self, digests: npt.NDArray[np.bytes_]) -> npt.NDArray[np.bool_]:
        """Return bool `[key]`: which of some keys, given by their digests, are on the list."""
        if not len(self.digests):
            return np.zeros(len(digests), np.bool_)
        places = np.searchsorted(self.digests, digests)
        places[places == len(self.digests)] = 0
        return np.asarray(self.digests[places] == digests, np.bool_)

    def without(self, batch: ItemBatch, rejects: list[Reject]) -> tuple[ItemBatch, list[Reject], int]:
        """Leave out the items and rejects of a batch whose keys are on the list; returns also how many those are."""
        taken = self.taken(batch.keys)
        count = int(taken.sum())
        if count:
            batch = batch.kept(~taken)
        if rejects and (taken := self.taken([reject.key for reject in rejects])).any():
            count += int(taken.sum())
            rejects = [reject for reject, gone in zip(rejects, taken, strict=True) if not gone]
        return batch, rejects, count

    def searched(self, table: str, split: int, source: str) -> bool:
        """Say whether a split of a table was searched, so that `parts` tells all there is to know of it."""
        return split < self.splits and source in self.tables.get(table, ())

    def settles(self, place: Place, source: str, made_under: int) -> bool:
        """Say whether a part holds none of the keys for certain.

        Args:
            place: The part.
            source: Name of its split's source.
            made_under: Number of the newest list that was heeded when it was made; 0: none.
        """
        if made_under >= self.number:
            return True
        found = self.parts.get(place)
        return self.searched(place[0], place[1], source) if found is None else made_under >= found


def key_digests(salt: bytes, keys: Sequence[str]) -> npt.NDArray[np.bytes_]:
    """Return `[key]`, the digests under which lists hold keys, in the order of the keys."""
    sha256 = hashlib.sha256
    # "surrogatepass": a key with half a surrogate pair is no key of any row, but may be asked for.
    digests = [sha256(salt + key.encode("utf-8", "surrogatepass")).digest() for key in keys]
    return np.frombuffer(b"".join(digests), _DIGESTS)


def write_takedown(storage: Storage, takedown: Takedown) -> bool:
    """Write a list, its columnar files first; False if there is one of this number already."""
    places = sorted(takedown.parts)
    columns = {
        "table": [place[0] for place in places],
        "split": [place[1] for place in places],
        "part": [place[2] for place in places],
        "takedown": [takedown.parts[place] for place in places],
    }
    buffer = pa.py_buffer(np.ascontiguousarray(takedown.digests))
    digests = pa.Array.from_buffers(pa.binary(_DIGEST_BYTES), len(takedown.digests), [None, buffer])
    keys = _put(storage, layout.takedown_keys, takedown.number, pa.table([digests], schema=_KEYS_SCHEMA))
    parts = _put(storage, layout.takedown_parts, takedown.number, pa.table(columns, schema=_PARTS_SCHEMA))
    value = {
        "format": FORMAT,
        "number": takedown.number,
        "created": takedown.created,
        "salt": takedown.salt.hex(),
        "keys": keys,
        "searched": {
            "splits": takedown.splits,
            "tables": {name: list(sources) for name, sources in takedown.tables.items()},
        },
        "parts": parts,
    }
    return storage.create(layout.takedown(takedown.number), seal(value))


def _put(storage: Storage, name: Any, number: int, table: pa.Table) -> dict[str, Any]:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    data = bytes(sink.getvalue())
    sha256 = hashlib.sha256(data).hexdigest()
    path = name(number, sha256)
    storage.put(path, [data])
    return {"path": path, "sha256": sha256, "count": table.num_rows}


def read_takedown(storage: Storage, number: int, sha256: str | None = None) -> Takedown:
    """Read a list.

    Args:
        storage: The dataset's root.
        number: The list's number.
        sha256: Of its file, as a plan names it; default any.

    Raises:
        CorruptionError: where the list, or one of its columnar files, is missing or not what was written.
    """
    path = layout.takedown(number)
    data = _read(storage, path)
    value = _unsealed(data, path)
    _check(data, path, sha256)
    if value["format"] != FORMAT:
        raise CorruptionError("was written by a newer tokenmill", where=path, fix="install a newer tokenmill")
    digests = _read_table(storage, value["keys"])["digest"].combine_chunks()
    parts = _read_table(storage, value["parts"])
    places = zip(*(parts[name].to_pylist() for name in ("table", "split", "part")), strict=True)
    return Takedown(
        number=value["number"],
        created=value["created"],
        salt=bytes.fromhex(value["salt"]),
        digests=np.frombuffer(digests.buffers()[1], _DIGESTS, len(digests), digests.offset * _DIGEST_BYTES),
        splits=value["searched"]["splits"],
        tables={name: tuple(sources) for name, sources in value["searched"]["tables"].items()},
        parts=dict(zip(places, parts["takedown"].to_pylist(), strict=True)),
        sha256=hashlib.sha256(data).hexdigest(),
    )


def _unsealed(data: bytes, path: str) -> dict[str, Any]:
    try:
        return unseal(data, path)
    except CorruptionError as error:
        raise CorruptionError(error.what, where=path, fix=_FIX) from error


def _read_table(storage: Storage, file: Mapping[str, Any]) -> pa.Table:
    data = _read(storage, file["path"])
    _check(data, file["path"], file["sha256"])
    return pa.ipc.open_file(pa.BufferReader(data)).read_all()


def _read(storage: Storage, path: str) -> bytes:
    try:
        return storage.read(path)
    except MissingFileError as error:
        raise CorruptionError("there is no such file", where=path, fix=_FIX) from error


def _check(data: bytes, path: str, sha256: str | None) -> None:
    if sha256 is not None and hashlib.sha256(data).hexdigest() != sha256:
        raise CorruptionError("does not match the checksum of what names it", where=path, fix=_FIX)


def takedown_files(storage: Storage, number: int) -> tuple[str, str]:
    """Return the paths of a list's columnar files; raises CorruptionError where it is not what was written."""
    path = layout.takedown(number)
    value = _unsealed(_read(storage, path), path)
    return value["keys"]["path"], value["parts"]["path"]


def newest_number(storage: Storage) -> int:
    """Return the number of the newest list; 0 where there is none."""
    numbers = (parse_generation(entry.path) for entry in storage.list("takedowns/"))
    return max((number for number in numbers if number is not None), default=0)


def newest_takedown(storage: Storage) -> Takedown | None:
    """Return the newest list, or None where there is none; raises as `read_takedown` does."""
    number = newest_number(storage)
    return read_takedown(storage, number) if number else None
