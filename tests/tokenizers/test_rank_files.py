import base64
import gzip
import sys
from pathlib import Path

import pytest

from tests.tokenizers.vocabularies import ranks, tiktoken_encoding
from tokenmill.errors import AssetError, MissingExtraError
from tokenmill.tokenizers import rank_files
from tokenmill.tokenizers.rank_files import (
    PATTERNS,
    VOCABULARIES,
    parse_ranks,
    read_rank_file,
    well_known_file,
)

BYTES = [(bytes([byte]), byte) for byte in range(256)]


def lines(*more: tuple[bytes, int], first: list[tuple[bytes, int]] = BYTES) -> list[bytes]:
    return [base64.b64encode(token) + b" %d" % rank for token, rank in [*first, *more]]


def parsed(content: list[bytes]) -> dict[bytes, int]:
    return parse_ranks(b"\n".join(content) + b"\n", "v.tiktoken")


@pytest.mark.parametrize("name", VOCABULARIES)
def test_well_known_vocabularies_are_tiktokens(name: str) -> None:
    encoding = tiktoken_encoding(name)
    known = VOCABULARIES[name]
    assert PATTERNS[known.pattern] == encoding._pat_str
    assert dict(known.special_tokens) == encoding._special_tokens
    assert known.rank_count == max(encoding._mergeable_ranks.values()) + 1


def test_the_well_known_file_is_found_without_importing_its_package() -> None:
    for name in [name for name in sys.modules if name.startswith("bpe_openai")]:
        del sys.modules[name]
    assert well_known_file("o200k_base").is_file()
    assert not [name for name in sys.modules if name.startswith("bpe_openai")]


def test_a_missing_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rank_files, "find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match=r"tokenmill\[text\]"):
        well_known_file("o200k_base")


def test_a_file_parses_plain_and_gzipped(tmp_path: Path) -> None:
    content = b"\n".join(lines((b"ab", 300)))
    (tmp_path / "v.tiktoken").write_bytes(content)
    (tmp_path / "v.tiktoken.gz").write_bytes(gzip.compress(content))
    for name in ("v.tiktoken", "v.tiktoken.gz"):
        found = parse_ranks(read_rank_file(tmp_path / name), name)
        assert found[b"ab"] == 300
        assert len(found) == 257


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (b"YWI 300", "is not `<base64> <rank>`"),
        (b"YWI=", "is not `<base64> <rank>`"),
        (b"YW=I 300", "is not `<base64> <rank>`"),
        (b"YWI= x", "is not `<base64> <rank>`"),
        (b"YWI= 300 1", "is not `<base64> <rank>`"),
        (b"YWI= -1", "impossible rank"),
        (b"YWI= 99999999999", "impossible rank"),
        (b"YQ== 300", "occurs a second time"),
        (b"YWI= 97", "rank 97 occurs a second time"),
    ],
)
def test_a_corrupt_line_is_named(line: bytes, says: str) -> None:
    with pytest.raises(AssetError, match=says) as caught:
        parsed([*lines(), line])
    assert caught.value.where == "v.tiktoken:257"


def test_a_missing_byte_is_named() -> None:
    with pytest.raises(AssetError, match="0x41"):
        parsed(lines(first=[pair for pair in BYTES if pair[0] != b"A"]))


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    whole = well_known_file("cl100k_base").read_bytes()
    (tmp_path / "cut.tiktoken.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(AssetError, match="not intact gzip"):
        read_rank_file(tmp_path / "cut.tiktoken.gz")
    text = read_rank_file(well_known_file("cl100k_base"))
    with pytest.raises(AssetError, match="is not `<base64> <rank>`"):
        parse_ranks(text[: len(text) // 2 - 3], "cut.tiktoken")


def test_an_unreadable_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(AssetError, match="No such file"):
        read_rank_file(tmp_path / "absent.tiktoken")


def test_gaps_between_ranks_are_allowed() -> None:
    assert parsed(lines((b"ab", 1000)))[b"ab"] == 1000
    assert len(ranks("o200k_base")) == 199998
