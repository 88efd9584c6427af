"""JSON lines: which lines are items, what becomes of the others, and where each is found again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.sources.corpora import Result, read_source, small_pieces, write
from tokenmill.job_sources import Source
from tokenmill.sources.limits import ReadLimits
from tokenmill.sources.planning import plan_source
from tokenmill.sources.reading import open_split


def _read(tmp_path: Path, data: bytes, limits: ReadLimits | None = None, **source: Any) -> Result:
    root, files = write(tmp_path, {"a.jsonl": data})
    return read_source(Source(name="s", uris=("x",), **source), root, files, limits=limits)


@pytest.mark.parametrize(
    ("line", "reason", "part_of_message"),
    [
        (b'{"text": "a"', "invalid_json", "delimiter"),
        (b'{"text": "a"} {"text": "b"}', "invalid_json", "Extra data"),
        (b'{"text": NaN}', "invalid_json", "NaN"),
        (b'{"text": "a\x00b"}', "invalid_json", "control character"),
        (b'{"text": "a", "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "invalid_json", "nested too deeply"),
        (b"[1]", "not_an_object", "list"),
        (b"null", "not_an_object", "NoneType"),
        (b'{"txt": "a"}', "missing_field", "no 'text'"),
        (b"{}", "missing_field", "no 'text'"),
        (b'{"text": null}', "null_text", "'text' is null"),
        (b'{"text": 7}', "wrong_type", "int"),
        (b'{"text": ["a"]}', "wrong_type", "list"),
        (b'{"text": "\xff"}', "invalid_utf8", "byte 10"),
        (b'{"text": "\xed\xa0\x80"}', "invalid_utf8", "byte 10"),
        (b'{"text": "\\ud800"}', "invalid_utf8", "surrogate"),
        (b'{"text": "\\udc00 \\ud800"}', "invalid_utf8", "surrogate"),
        (b'{"text": "a", "other": "\\ud83d"}', "invalid_utf8", "surrogate"),
    ],
)
def test_a_bad_line_is_rejected_with_its_place_and_reason(
    tmp_path: Path, line: bytes, reason: str, part_of_message: str
) -> None:
    result = _read(tmp_path, b'{"text": "before"}\n' + line + b'\n{"text": "after"}\n')
    assert [(item.ordinal, item.text) for item in result.items] == [(0, "before"), (2, "after")]
    (reject,) = result.rejects
    assert (reject.ordinal, reject.reason, reject.locator, reject.key) == (1, reason, "a.jsonl:19", "a.jsonl")
    assert part_of_message in reject.message
    assert len(reject.message) < 1000
    assert (reject.lost_bytes, reject.lost_items) == (0, 1)


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (b'{"text": "a", "text": "b"}', "b"),
        (b'{"text": "\\ud83d\\ude00"}', "😀"),
        (b'{"text": "a\\u0000b"}', "a\0b"),
        (b'{"text": ""}', ""),
        (b' \t{ "te\\u0078t" : "escaped name" } \t', "escaped name"),
        ('{"other": "ä", "text": "日本語"}'.encode(), "日本語"),
        (b'{"text": "a", "other": "\xff"}', "a"),
    ],
)
def test_what_is_fine(tmp_path: Path, line: bytes, text: str) -> None:
    result = _read(tmp_path, line)
    assert (result.texts, result.rejects) == ([text], [])


@pytest.mark.parametrize(
    ("data", "texts"),
    [
        (b'{"text":"a"}{"text":"b"}\n{"text":\n"c"}\n{"text":"d"}\n', ["d"]),
        (b'{"text":"a"} {"text":"b"}\n\n{"text":"c"}\n', ["c"]),
        (b'{"text":"a"}{"text":"b"}\n{"n":{}\n,"text":"c"}\n{"text":"d"}', ["d"]),
        (b'{"text":"a"}{"text":"b"}\n{"n":[{}\n{}],"text":"c"}\n', []),
        (b'{"text":"a"}{"text":"b"}\n{"n":"x}\n{y","text":"c"}\n', []),
    ],
)
def test_objects_that_share_a_line_or_span_several_are_none(tmp_path: Path, data: bytes, texts: list[str]) -> None:
    """Here the objects are as many as the lines that are not blank, but not one a line."""
    result = _read(tmp_path, data)
    assert result.texts == texts
    assert len(result.rejects) == sum(bool(line) for line in data.split(b"\n")) - len(texts)


def test_marks_blank_lines_and_line_ends(tmp_path: Path) -> None:
    data = b'\xef\xbb\xbf{"text": "a"}\r\n\r\n  \n\n{"text": "b"}\n\t\n{"text": "c"}'
    result = _read(tmp_path, data)
    assert [(item.ordinal, item.text) for item in result.items] == [(0, "a"), (1, "b"), (2, "c")]
    assert result.rejects == []
    assert result.items[-1].end == len(data)


@pytest.mark.parametrize("data", [b"", b"\n", b"\r\n\n", b"\xef\xbb\xbf", b"\xef\xbb\xbf\n"])
def test_a_file_without_a_line_has_no_items(tmp_path: Path, data: bytes) -> None:
    result = _read(tmp_path, data)
    assert (result.items, result.rejects) == ([], [])


def test_dots_descend_into_objects(tmp_path: Path) -> None:
    lines = [
        {"document": {"body": {"text": "a"}, "name": "n"}},
        {"document": {"body": "flat", "name": "n"}},
        {"document": None},
        {"document.body.text": "not descended", "document": {"name": "n"}},
    ]
    result = _read(
        tmp_path,
        b"".join(json.dumps(line).encode() + b"\n" for line in lines),
        fields={"text": "document.body.text", "id": "document.name"},
        metadata=["document.body", "document.absent.deep"],
    )
    assert [(item.key, item.text, item.metadata) for item in result.items] == [("n", "a", ('{"text":"a"}', None))]
    assert result.reasons == ["missing_field"] * 3


@pytest.mark.parametrize(
    ("value", "key"),
    [
        ('"x"', "x"),
        ('""', ""),
        ("12", "12"),
        ("123456789012345678901234567890", "123456789012345678901234567890"),
        ("-1.5", "-1.5"),
        ("null", "missing_field"),
        (None, "missing_field"),
        ("true", "wrong_type"),
        ("[1]", "wrong_type"),
        ('"' + "é" * 51 + '"', "metadata_too_large"),
    ],
)
def test_ids(tmp_path: Path, value: str | None, key: str) -> None:
    line = '{"text": "a"' + (f', "id": {value}' if value is not None else "") + "}"
    result = _read(tmp_path, line.encode(), ReadLimits(1000, 100), fields={"id": "id"})
    assert [item.key for item in result.items] + result.reasons == [key]


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        ("string", "x", "x"),
        ("string", 5, "5"),
        ("string", {"b": [1, None], "a": "ä"}, '{"b":[1,null],"a":"ä"}'),
        ("string", True, "true"),
        ("string", None, None),
        ("int64", 5, 5),
        ("int64", -(1 << 63), -(1 << 63)),
        ("int64", 1 << 63, "wrong_type"),
        ("int64", 5.0, "wrong_type"),
        ("int64", True, "wrong_type"),
        ("int64", "5", "wrong_type"),
        ("float64", 5, 5.0),
        ("float64", 0.25, 0.25),
        ("float64", "0.25", "wrong_type"),
        ("bool", False, False),
        ("bool", 0, "wrong_type"),
        ("string", "x" * 101, "metadata_too_large"),
        ("string", ["x" * 101], "metadata_too_large"),
    ],
)
def test_metadata(tmp_path: Path, kind: str, value: Any, expected: Any) -> None:
    lines = [{"text": "a", "m": value}, {"text": "absent"}]
    data = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    result = _read(tmp_path, data, ReadLimits(1000, 100), metadata={"m": kind})
    found: list[Any] = [item.metadata[0] for item in result.items]
    assert result.reasons + found == [expected, None]
    assert type(found[0]) is type(expected) or result.reasons


def test_the_first_problem_of_an_item_is_its_reason(tmp_path: Path) -> None:
    result = _read(tmp_path, b'{"text": null, "m": "x"}\n', fields={"id": "id"}, metadata={"m": "int64"})
    assert result.reasons == ["null_text"]


@pytest.mark.parametrize("chunk_bytes", [1, 7, 64, 1 << 20])
def test_long_lines_are_passed_over(tmp_path: Path, chunk_bytes: int) -> None:
    lines = [b'{"text": "a"}', b'{"text": "' + b"b" * 88 + b'"}', b'{"text": "' + b"c" * 89 + b'"}', b'{"text": "d"}']
    with small_pieces(chunk_bytes):
        result = _read(tmp_path, b"\n".join(lines), ReadLimits(max_item_bytes=100))
    assert [(item.ordinal, item.text[:1]) for item in result.items] == [(0, "a"), (1, "b"), (3, "d")]
    (reject,) = result.rejects
    assert (reject.ordinal, reject.reason, reject.locator) == (2, "item_too_large", f"a.jsonl:{14 + 101}")
    assert "max_item_bytes is 100" in reject.message


def test_a_large_item_is_a_batch_of_its_own(tmp_path: Path) -> None:
    texts = ["a" * 1000, "b" * (3 << 20), "c" * 1000, "d" * (1 << 20)]
    data = b"".join(json.dumps({"text": text}).encode() + b"\n" for text in texts)
    root, files = write(tmp_path, {"a.jsonl": data})
    source = Source(name="s", uris=("x",))
    (split,) = plan_source(source, root, files, 1 << 30)
    with open_split(source, root, split, ReadLimits()) as reader:
        assert [[text[0] for text in batch.payloads] for batch in reader.batches()] == [["a"], ["b"], ["c"], ["d"]]


def test_batches_are_bounded_by_items_and_by_bytes(tmp_path: Path) -> None:
    data = b'{"text": "x"}\n' * 5000 + b"bad\n" * 5000 + (b'{"text": "' + b"y" * 5000 + b'"}\n') * 1000
    root, files = write(tmp_path, {"a.jsonl": data})
    source = Source(name="s", uris=("x",))
    (split,) = plan_source(source, root, files, 1 << 30)
    with open_split(source, root, split, ReadLimits()) as reader:
        batches = list(reader.batches())
    assert max(len(batch) + len(batch.rejects) for batch in batches) == 1024
    assert max(int(batch.sizes.sum()) for batch in batches) <= (1 << 20) + 5000
    assert len(batches) < 20
    assert sum(map(len, batches)) == 6000


_MEMBERS = st.dictionaries(
    st.sampled_from(["text", "id", "m", "other"]),
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.lists(st.integers(), max_size=2),
)
_LINES = st.lists(
    st.one_of(
        _MEMBERS.map(lambda value: json.dumps(value).encode("utf-8")),
        _MEMBERS.map(lambda value: json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")),
        st.binary(max_size=20).filter(lambda line: b"\n" not in line),
    ),
    max_size=30,
)


def _reference(lines: list[bytes]) -> list[tuple[int, str, str]]:
    """Read the slow and obvious way."""
    found = []
    ordinal = 0
    for line in lines:
        if not line.strip(b" \t\r"):
            continue
        try:
            value = json.loads(line.decode("utf-8"), parse_constant=lambda name: 1 / 0)
            value["text"].encode("utf-8")
            json.dumps(value, ensure_ascii=False).encode("utf-8")
            key = value["id"]
            if type(key) in (str, int):
                found.append((ordinal, str(key), value["text"]))
        except (ValueError, KeyError, TypeError, AttributeError, ZeroDivisionError):
            pass
        ordinal += 1
    return found


@given(lines=_LINES, chunk_bytes=st.integers(1, 50))
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_agrees_with_a_plain_reading(tmp_path: Path, lines: list[bytes], chunk_bytes: int) -> None:
    with small_pieces(chunk_bytes):
        result = _read(tmp_path, b"\n".join(lines), fields={"id": "id"})
    lines[:1] = [line.removeprefix(b"\xef\xbb\xbf") for line in lines[:1]]
    assert [(item.ordinal, item.key, item.text) for item in result.items] == _reference(lines)
    ordinals = {item.ordinal for item in result.items} | {reject.ordinal for reject in result.rejects}
    assert ordinals == set(range(sum(bool(line.strip(b" \t\r")) for line in lines)))
