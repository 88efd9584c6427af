from pathlib import Path

import pytest

from tests.commands.conftest import Run
from tokenmill.dataset import open_dataset
from tokenmill.storage.outputs import Storage


@pytest.fixture
def keys(tmp_path: Path) -> str:
    path = tmp_path / "keys.txt"
    path.write_text("doc-3\r\ndoc-4\n\nno\x1b[31m-body\ndoc-3\n")
    return str(path)


def test_text(run: Run, root: str, keys: str) -> None:
    ran = run("takedown", root, "--keys", keys, "--dry-run")
    assert ran.code == 0
    assert ran.out.splitlines() == [
        "3 keys, 3 of them new",
        "no row has 1 of the new keys: no\\x1b[31m-body",
        "table text: 2 items would be taken down, from 1 shards",
        "table framed: 2 items would be taken down, from 1 shards",
        "nothing was written: this was a dry run",
    ]
    assert open_dataset(root).generation == 1
    ran = run("takedown", root, "--keys", keys)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.splitlines()[2:] == [
        "table text: 2 items were taken down, from 1 shards",
        "table framed: 2 items were taken down, from 1 shards",
        "published generation 2, by takedown list 1",
        "note: earlier generations (1) still hold what was taken down: "
        f"`tokenmill clean {root} --generations-before 2` lists what can be removed",
    ]
    again = run("takedown", root, "--keys", keys)
    assert again.code == 0
    assert again.out.splitlines() == [
        "3 keys, 0 of them new",
        "nothing to do: generation 2 has none of these keys",
    ]


def test_json(run: Run, root: str, keys: str) -> None:
    assert run("takedown", root, "--keys", keys, "--json").json == {
        "uri": root,
        "takedown": 1,
        "generation": 2,
        "published": True,
        "keys": 3,
        "new_keys": 3,
        "unmatched_keys": 1,
        "unmatched": ["no\x1b[31m-body"],
        "tables": {"text": {"items": 2, "shards": 1}, "framed": {"items": 2, "shards": 1}},
        "dry_run": False,
        "notes": [
            "earlier generations (1) still hold what was taken down: "
            f"`tokenmill clean {root} --generations-before 2` lists what can be removed"
        ],
    }


def test_many_unmatched_keys_are_not_all_shown(run: Run, root: str, tmp_path: Path) -> None:
    (tmp_path / "many.txt").write_text("".join(f"nobody-{n}\n" for n in range(2000)))
    line = run("takedown", root, "--keys", str(tmp_path / "many.txt")).out.splitlines()[1]
    assert line.startswith("no row has 2,000 of the new keys: nobody-0, nobody-1, ")
    assert line.endswith("nobody-9, …")


def test_what_the_other_commands_show(run: Run, root: str, keys: str) -> None:
    run("takedown", root, "--keys", keys)
    shown = run("inspect", root).out
    assert "takedown     list 1: no row has a key on it" in shown
    assert "37 (1 items rejected, 2 taken down)" in shown
    document = run("inspect", root, "--json").json
    assert (document["takedown"], document["tables"]["text"]["taken_down"]) == (1, 2)
    ran = run("verify", root)
    assert ran.code == 0
    assert "note: earlier generations (1) may hold keys that were taken down" in ran.out


def test_earlier_generations_are_removed_on_demand(run: Run, root: str, keys: str) -> None:
    run("takedown", root, "--keys", keys)
    listed = run("clean", root, "--generations-before", "2", "--older-than", "0s")
    assert "manifests/000001.json" in listed.out
    assert "nothing was removed: pass --delete" in listed.out
    storage = Storage.open(root)
    assert any(b"text 4 text 4" in storage.read(entry.path) for entry in storage.list())
    ran = run("clean", root, "--generations-before", "2", "--older-than", "0s", "--delete", "--json")
    assert ran.json["generations_before"] == 2
    assert {file["kind"] for file in ran.json["files"]} == {"generation", "orphan", "sidecar"}
    assert not any(b"text 4 text 4" in storage.read(entry.path) for entry in storage.list())
    assert run("verify", root).out.startswith("ok: ")
    assert run("clean", root, "--generations-before", "3").code == 2


@pytest.mark.parametrize("content", [b"", b"\n\r\n", b"\xff\n", None])
def test_a_wrong_file_of_keys(run: Run, root: str, tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "wrong.txt"
    if content is not None:
        path.write_bytes(content)
    ran = run("takedown", root, "--keys", str(path))
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("error: ")
    assert open_dataset(root).generation == 1


def test_no_dataset(run: Run, tmp_path: Path, keys: str) -> None:
    ran = run("takedown", str(tmp_path), "--keys", keys)
    assert ran.code == 1
    assert "holds no dataset" in ran.err


def test_sound_that_goes_is_counted_no_more(run: Run, sounds: Path) -> None:
    (sounds / "keys").write_text("1.wav\n4.wav\n")
    assert run("takedown", str(sounds / "out"), "--keys", str(sounds / "keys")).code == 0
    for name in ("fine", "coarse"):
        table = open_dataset(str(sounds / "out"))[name]
        assert [row.key for row in table] == ["0.wav", "2.wav", "3.wav"]
        sound = table.summary["overall"]["sound"]
        assert (sound["seconds"], sound["rejected_seconds"]) == (1.6, 0)
        assert sound["source_channels"] == [{"channels": 1, "documents": 2}, {"channels": 2, "documents": 1}]
    assert run("verify", str(sounds / "out")).code == 0


def test_lost_seconds_of_others_stay(run: Run, sounds: Path) -> None:
    (sounds / "keys").write_text("1.wav\n")
    assert run("takedown", str(sounds / "out"), "--keys", str(sounds / "keys")).code == 0
    assert open_dataset(str(sounds / "out"))["fine"].summary["overall"]["sound"]["rejected_seconds"] == 1.0
