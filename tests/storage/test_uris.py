from pathlib import Path

import pytest

from tokenmill.errors import ConfigurationError
from tokenmill.storage.uris import join, parse


def test_local_paths_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/somebody")
    assert parse("data/../x.jsonl").uri == str(tmp_path / "x.jsonl")
    assert parse("./data/").uri == str(tmp_path / "data")
    assert parse("file:///a/b").uri == "/a/b"
    assert parse("~/corpus").uri == "/home/somebody/corpus"
    assert parse("/odd/a:b@c?d#e").uri == "/odd/a:b@c?d#e"


def test_other_uris_keep_what_follows_the_scheme() -> None:
    assert (parse("s3://bucket/a?b#c/").scheme, parse("s3://bucket/a?b#c/").path) == ("s3", "bucket/a?b#c/")
    assert parse("S3A://bucket/key").uri == "s3://bucket/key"
    assert parse("https://host/x.gz").uri == "https://host/x.gz"


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("", "empty"),
        ("s3://", "empty"),
        ("s3:///key", "no bucket"),
        ("zip://x::s3://b/y.zip", "chained"),
        ("s3://key:secret@bucket/x", "credentials"),
        ("https://somebody:secret@host/x", "credentials"),
    ],
)
def test_refused(uri: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said) as caught:
        parse(uri)
    assert "secret" not in str(caught.value)


def test_join() -> None:
    assert join("s3://bucket/a", "b/c") == "s3://bucket/a/b/c"
    assert join("/", "b") == "/b"
    assert join("s3://bucket/a", "") == "s3://bucket/a"
