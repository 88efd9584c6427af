"""Files that are one item and held whole: images, modules, compressed recordings. Nothing of them is decoded here.

An empty file is an item, too: one that is damaged.
"""

from __future__ import annotations

from collections.abc import Iterator

from tokenmill.sources import reasons
from tokenmill.sources.assemble import ItemAssembler
from tokenmill.sources.file_task import FileTask
from tokenmill.sources.items import Cursor, ItemBatch, Reject


def read_whole_file(task: FileTask, cursor: Cursor) -> Iterator[ItemBatch]:
    """Yield the one item of a file."""
    if cursor.position:
        return
    path = task.file.path
    limit = task.limits.max_item_bytes
    locator = f"{path}:0"
    with task.open() as stream:
        too_large = task.format.compression == "none" and task.file.size_bytes > limit
        data = b"" if too_large else stream.read_exactly(limit + 1)
        if stream.tear is not None:
            yield task.rejects_only([task.tear_reject(stream.tear, cursor)])
            return
    if too_large or len(data) > limit:
        message = f"the file has more than {limit} bytes, which is max_item_bytes"
        yield task.rejects_only([Reject(cursor.ordinal, path, locator, reasons.ITEM_TOO_LARGE, message)])
        return
    metadata = {name: [None] for name in task.source.metadata}
    end = max(len(data), 1)  # behind an empty file, too
    yield ItemAssembler(task.source, task.limits, path).batch(
        [cursor.ordinal], [end], [data], None, metadata, lambda _: locator, (), [locator]
    )
