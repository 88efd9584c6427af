from __future__ import annotations

import subprocess
import sys
from importlib.metadata import EntryPoint, EntryPoints
from typing import Any, ClassVar

import pytest

from tokenmill import registry
from tokenmill.contract import Tokenizer
from tokenmill.errors import MissingExtraError, TokenizerError
from tokenmill.registry import parse_tokenizer, tokenizer_class, tokenizer_names

BUILT_IN = ["bytes", "huggingface", "sentencepiece", "tiktoken"]


class Fake(Tokenizer):
    id: ClassVar[str] = "fake"

    size: int
    lower: bool = False


class Distribution:
    def __init__(self, name: str) -> None:
        self.name = name
        self.version = "1.0"


def register(monkeypatch: pytest.MonkeyPatch, *entries: tuple[str, str, str]) -> None:
    """Register `(name, value, distribution)`s, and nothing else."""
    made = []
    for name, value, distribution in entries:
        entry = EntryPoint(name, value, registry.GROUP)
        vars(entry)["dist"] = Distribution(distribution)
        made.append(entry)
    monkeypatch.setattr(registry, "entry_points", lambda group: EntryPoints(made).select(group=group))


def test_built_ins_are_registered() -> None:
    assert set(BUILT_IN) <= set(tokenizer_names())
    for name in BUILT_IN:
        assert tokenizer_class(name).id == name


def test_names_are_listed_without_importing_any() -> None:
    code = (
        "import sys; from tokenmill.registry import tokenizer_names; names = tokenizer_names();"
        "assert not [name for name in sys.modules if name.startswith('tokenmill.tokenizers')], names"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_unknown_name_lists_what_there_is() -> None:
    with pytest.raises(TokenizerError, match="did you mean 'tiktoken'") as caught:
        parse_tokenizer({"id": "tiktokn"})
    assert all(name in str(caught.value) for name in BUILT_IN)


@pytest.mark.parametrize("config", [{}, {"id": 3}, {"vocabulary": "x"}])
def test_an_id_is_needed(config: dict[str, Any]) -> None:
    with pytest.raises(TokenizerError, match="needs an `id`") as caught:
        parse_tokenizer(config, where="tables.0.tokenizer")
    assert caught.value.where == "tables.0.tokenizer"


def test_a_name_declared_twice_names_both(monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, ("fake", "a:B", "first"), ("fake", "c:D", "second"))
    with pytest.raises(TokenizerError, match=r"declared twice: by first 1\.0 \(a:B\) and by second 1\.0 \(c:D\)"):
        tokenizer_names()


def test_a_third_party_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, ("fake", "tests.test_registry:Fake", "third-party"))
    assert parse_tokenizer({"id": "fake", "size": 3}) == Fake(size=3)
    assert parse_tokenizer(Fake(size=3, lower=True).to_json()) == Fake(size=3, lower=True)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({}, "here.size: is required and missing"),
        ({"size": "x"}, "here.size: Input should be a valid integer"),
        ({"size": 1, "lowr": True}, "here.lowr: no such field (given True); did you mean 'lower'?"),
        ({"size": 1, "zzz": 0}, "here.zzz: no such field (given 0)"),
    ],
)
def test_a_wrong_field_is_named_with_what_is_allowed(
    fields: dict[str, Any], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(monkeypatch, ("fake", "tests.test_registry:Fake", "third-party"))
    with pytest.raises(TokenizerError) as caught:
        parse_tokenizer({"id": "fake", **fields}, where="here")
    assert says in str(caught.value)
    assert "fields of 'fake': size, lower" in str(caught.value)


def test_a_failed_import_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, ("tiktoken", "tokenmill.tokenizers.tiktoken:TiktokenTokenizer", "tokenmill"))
    for name in [name for name in sys.modules if name.startswith("tokenmill.tokenizers.tiktoken")]:
        monkeypatch.delitem(sys.modules, name)
    error = ModuleNotFoundError("No module named 'tiktoken'", name="tiktoken")

    def load(self: EntryPoint) -> Any:
        raise error

    monkeypatch.setattr(EntryPoint, "load", load)
    with pytest.raises(MissingExtraError, match=r"pip install 'tokenmill\[text\]'"):
        tokenizer_class("tiktoken")
    error = ModuleNotFoundError("No module named 'strange'", name="strange.inner")
    with pytest.raises(MissingExtraError, match="the package that provides 'strange'"):
        tokenizer_class("tiktoken")


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("tests.test_registry:NoSuchClass", "does not load"),
        ("tests.test_registry:BUILT_IN", "not a subclass"),
        ("tokenmill.tokenizers.bytes:BytesTokenizer", "whose id is 'fake'"),
    ],
)
def test_an_entry_that_names_no_tokenizer_is_refused(value: str, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, ("fake", value, "third-party"))
    with pytest.raises(TokenizerError, match=says) as caught:
        tokenizer_class("fake")
    assert "third-party 1.0" in str(caught.value)
