"""How what a part leaves comes to lie on storage: its files under names that hold their content, then its receipt."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace

from tokenmill import layout
from tokenmill.duplicates import digests_of, has_digests
from tokenmill.ir.streams import SHA256
from tokenmill.layout import ReceiptName
from tokenmill.receipts import FileReference, Receipt, ShardReference, latest_receipt
from tokenmill.shards import ShardHeader, ShardRows, serialise_shard
from tokenmill.storage.outputs import Storage


def put_shard(storage: Storage, header: ShardHeader, rows: ShardRows) -> tuple[ShardReference, dict[str, bytes]]:
    """Store a shard; returns what a receipt says of it, and what the part's statistics keep of it for publication.

    That is `blocks`, the checksums of its blocks, and `digests`, those of its rows where they have them.
    """
    shard = serialise_shard(header, rows)
    path = layout.shard(header.table, header.split, header.part, shard.sha256)
    entry = storage.put(path, shard.pieces)
    reference = ShardReference(
        path=path,
        sha256=shard.sha256,
        size_bytes=shard.size_bytes,
        version=_lasting(entry.version),
        rows=len(rows),
        tokens={name: len(stream.values) for name, stream in rows.streams.items()},
        value_offsets=shard.value_offsets,
    )
    kept = {"blocks": shard.blocks.astype("<u4").tobytes()}
    if has_digests(header.streams):
        kept["digests"] = digests_of(rows.streams[SHA256].values).tobytes()
    return reference, kept


def put_statistics(storage: Storage, part: ReceiptName, data: bytes) -> FileReference:
    """Store a part's statistics."""
    sha256 = hashlib.sha256(data).hexdigest()
    return _put(storage, layout.statistics(part.table, part.split, part.part, sha256), data, sha256)


def put_rejects(storage: Storage, part: ReceiptName, data: bytes | memoryview, sha256: str) -> FileReference:
    """Store a part's rejected items."""
    return _put(storage, layout.rejects(part.table, part.split, part.part, sha256), data, sha256)


def _put(storage: Storage, path: str, data: bytes | memoryview, sha256: str) -> FileReference:
    entry = storage.put(path, [data])
    return FileReference(path, sha256, len(data), _lasting(entry.version))


def _lasting(version: str | None) -> str | None:
    """Return a version that a copy of the file keeps: an etag does, a local file's time does not."""
    return None if version is None or version.startswith("mtime:") else version


def create_receipt(storage: Storage, receipt: Receipt, attempt: int, accepts: Callable[[Receipt], bool]) -> Receipt:
    """Create a receipt exclusively; where another run was first, its receipt is the one.

    Args:
        storage: The dataset's root.
        receipt: The receipt; the attempt in its name is of no account.
        attempt: The first attempt's number to try.
        accepts: Whether another's receipt will do.

    Returns:
        The receipt that counts.
    """
    while True:
        name = replace(receipt.name, attempt=attempt)
        mine = replace(receipt, name=name)
        if storage.create(layout.receipt(name), mine.to_bytes()):
            return mine
        latest = latest_receipt(storage, name.table, name.split, name.part)
        if latest is not None and latest.receipt is not None and latest.attempt >= attempt and accepts(latest.receipt):
            return latest.receipt
        attempt += 1
