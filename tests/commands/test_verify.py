from pathlib import Path

from tests.commands.conftest import Run


def test_whole(run: Run, root: str) -> None:
    ran = run("verify", root)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith("ok: ")
    assert "78 rows" in ran.out
    document = run("verify", root, "--json").json
    assert document["ok"] is True
    assert document["problems"] == []
    assert document["rows"] == 78
    assert set(document) == {
        "ok", "uri", "generation", "problems", "notes", "shards", "bytes", "rows", "receipts",
    }  # fmt: skip


def test_damaged(run: Run, root: str) -> None:
    shard = sorted((Path(root) / "text/shards").iterdir())[0]
    data = bytearray(shard.read_bytes())
    data[100] ^= 1
    shard.write_bytes(data)
    ran = run("verify", root)
    assert ran.code == 4
    assert f"text/shards/{shard.name}: a block does not match its checksum (at byte 0)" in ran.out
    assert "1 problems" in ran.out
    ran = run("verify", root, "--json")
    assert ran.code == 4
    assert ran.json["ok"] is False
    assert ran.json["problems"] == [
        {"path": f"text/shards/{shard.name}", "what": "a block does not match its checksum", "offset": 0}
    ]


def test_notes(run: Run, root: str) -> None:
    for path in (Path(root) / "text/receipts").iterdir():
        path.unlink()
    ran = run("verify", root)
    assert ran.code == 0
    assert "note: text/receipts/ is absent" in ran.out
