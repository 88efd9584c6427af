"""WebDataset tar: samples as webdataset itself finds them, and nothing else of it."""

from __future__ import annotations

import io
import tarfile
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from tests.sources.corpora import Document, Result, as_tar, read_source, write
from tokenmill.job_sources import Source
from tokenmill.sources.limits import ReadLimits
from tokenmill.sources.planning import plan_source
from tokenmill.sources.reading import open_split

_FORMATS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}


def _tar(members: list[tuple[str, bytes]], kind: str = "pax") -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=_FORMATS[kind]) as archive:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return file.getvalue()


def _read(tmp_path: Path, data: bytes, limits: ReadLimits | None = None, **source: Any) -> Result:
    root, files = write(tmp_path, {"a.tar": data})
    return read_source(Source(name="s", uris=("x",), **source), root, files, limits=limits)


@pytest.mark.parametrize("kind", _FORMATS)
def test_samples_are_those_of_webdataset(tmp_path: Path, kind: str) -> None:
    from webdataset.tariterators import group_by_keys, tar_file_expander

    members = [
        ("d.x/a.txt", b"1"),
        ("d.x/a.JSON", b"{}"),
        ("d.x/a.seg.txt", b"2"),
        ("d.x/b.txt", "3 ä".encode()),
        ("__meta__/c.txt", b"no"),
        ("noextension", b"no"),
        ("d/a.txt", b"4"),
        ("ä/ö.txt", b"5"),
    ]
    data = _tar(members, kind)
    expanded = tar_file_expander([{"url": "a.tar", "stream": io.BytesIO(data)}])
    expected = [(sample["__key__"], sample["txt"].decode()) for sample in group_by_keys(expanded)]
    result = _read(tmp_path, data)
    assert [(item.key, item.text) for item in result.items] == expected
    assert len(expected) == 4
    assert result.items[0].locator == "a.tar!d.x/a"


def test_where_text_id_and_metadata_are(tmp_path: Path) -> None:
    members = [("a.json", b'{"caption": "t", "n": {"id": 7}, "ok": true}'), ("a.cls", b"3"), ("a.seg.txt", b"s")]
    data = _tar(members)
    fields = {"text": "json.caption", "id": "json.n.id"}
    metadata = {"cls": "int64", "seg.txt": "string", "json.ok": "bool", "json.n": "string", "gone": "string"}
    result = _read(tmp_path, data, fields=fields, metadata=metadata)
    assert [(item.key, item.text, item.metadata) for item in result.items] == [
        ("7", "t", (3, "s", True, '{"id":7}', None))
    ]
    assert _read(tmp_path, data, fields={"text": "seg.txt"}).texts == ["s"]


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ([("b.png", b"x")], "missing_field"),
        ([("b.txt", b"\xff")], "invalid_utf8"),
        ([("b.txt", b"x" * 51)], "item_too_large"),
        ([("b.txt", b"x"), ("b.TXT", b"y")], "duplicate_member"),
        ([("b.txt", b"x"), ("b.json", b"{")], "invalid_json"),
        ([("b.txt", b"x"), ("b.json", b'{"id": null}')], "missing_field"),
        ([("b.txt", b"x"), ("b.json", b'{"id": "\xff"}')], "invalid_utf8"),
    ],
)
def test_bad_samples_are_rejected(tmp_path: Path, members: list[tuple[str, bytes]], reason: str) -> None:
    good = [[(f"{name}.txt", b"good"), (f"{name}.json", b'{"id": "i"}')] for name in "ac"]
    result = _read(tmp_path, _tar([*good[0], *members, *good[1]]), ReadLimits(50), fields={"id": "json.id"})
    assert [(item.ordinal, item.text) for item in result.items] == [(0, "good"), (2, "good")]
    assert [(reject.reason, reject.ordinal, reject.locator) for reject in result.rejects] == [(reason, 1, "a.tar!b")]


def test_links_and_directories_are_passed_over(tmp_path: Path) -> None:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, kind in [("a.txt", tarfile.SYMTYPE), ("b.txt", tarfile.LNKTYPE), ("c.txt", tarfile.DIRTYPE)]:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "/etc/passwd"
            archive.addfile(member)
    result = _read(tmp_path, file.getvalue())
    assert (result.items, result.rejects) == ([], [])


def test_what_is_no_tar_is_unreadable(tmp_path: Path) -> None:
    assert _read(tmp_path, b"no tar " * 1000).reasons == ["unreadable_file"]
    assert _read(tmp_path, b"").reasons == []


def test_a_damaged_header_tears(tmp_path: Path) -> None:
    data = bytearray(as_tar([Document(str(number)) for number in range(10)]))
    place = data.index(b"dir.d/n0005.mp4")
    data[place] ^= 1
    result = _read(tmp_path, bytes(data))
    assert result.texts == ["0", "1", "2", "3"]  # whether 4 was complete, nobody can tell
    assert result.reasons == ["torn_file"]
    assert 4 <= result.rejects[0].lost_items <= 8


def test_large_members_that_nobody_asks_for_are_not_held(tmp_path: Path) -> None:
    data = _tar([("a.txt", b"a"), ("a.mp4", bytes(50 << 20)), ("b.txt", b"x" * (50 << 20)), ("c.txt", b"c")])
    root, files = write(tmp_path, {"a.tar": data})
    source = Source(name="s", uris=("x",))
    (split,) = plan_source(source, root, files, 1 << 30)
    del data
    tracemalloc.start()
    with open_split(source, root, split, ReadLimits(max_item_bytes=1 << 20)) as reader:
        batches = list(reader.batches())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [text for batch in batches for text in batch.payloads] == ["a", "c"]
    assert [reject.reason for batch in batches for reject in batch.rejects] == ["item_too_large"]
    assert peak < 8 << 20


def test_a_header_that_claims_gigabytes_is_damage(tmp_path: Path) -> None:
    member = tarfile.TarInfo("././@PaxHeader")
    member.type, member.size = tarfile.XHDTYPE, 1 << 33
    assert _read(tmp_path, _tar([("a.txt", b"a"), ("b.txt", b"b")])[:2048] + member.tobuf() + bytes(4096)).reasons == [
        "torn_file"
    ]
