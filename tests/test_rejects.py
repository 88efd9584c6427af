import hashlib
import json

import pytest

from tokenmill import rejects
from tokenmill.rejects import RejectLines
from tokenmill.sources.items import Reject


def reject(ordinal: int, message: str = "") -> Reject:
    return Reject(ordinal, "ключ", f"a b.jsonl:{ordinal}", "invalid_json", message, lost_items=2)


@pytest.mark.parametrize("held_bytes", [10, 1 << 20])
def test_lines_in_memory_and_in_a_file(monkeypatch: pytest.MonkeyPatch, held_bytes: int) -> None:
    monkeypatch.setattr(rejects, "_HELD_BYTES", held_bytes)
    with RejectLines("text", 5, "docs") as lines:
        lines.add([reject(3), reject(1)])
        lines.add([])
        lines.add([reject(7, "line\nfeed")])
        content = bytes(lines.content())
        assert lines.sha256 == hashlib.sha256(content).hexdigest()
        assert lines.lost_items == 6
    decoded = [json.loads(line) for line in content.splitlines()]
    assert [line["ordinal"] for line in decoded] == [1, 3, 7]
    assert decoded[2]["message"] == "line\nfeed"
    assert decoded[0]["replay"] == "tokenmill replay . --table text --split 5 --ordinal 1"
    assert content.isascii()


def test_no_rejects() -> None:
    with RejectLines("text", 5, "docs") as lines:
        assert lines.lost_items == 0
        assert bytes(lines.content()) == b""


def test_seconds_are_told_where_some_are_lost() -> None:
    with RejectLines("text", 5, "docs") as lines:
        lines.add([Reject(1, "k", "a.wav:0", "damaged_audio", "", lost_seconds=1.25), reject(2)])
        lost, other = [json.loads(line) for line in bytes(lines.content()).splitlines()]
    assert lost["lost_seconds"] == 1.25
    assert "lost_seconds" not in other
