"""Ids that the reference libraries gave when these fixtures were written: they must never change."""

import json
from typing import Any

import pytest

from tests.tokenizers.golden_texts import GOLDEN, TEXTS
from tests.tokenizers.vocabularies import sentencepiece_model, tokenizer_json
from tokenmill.contract import Tokenizer
from tokenmill.registry import parse_tokenizer


def made(name: str) -> Tokenizer:
    kind, _, vocabulary = name.partition("-")
    config: dict[str, Any] = {"id": kind}
    if kind == "tiktoken":
        config["vocabulary"] = vocabulary
    elif kind == "huggingface":
        config["tokenizer_json"] = str(tokenizer_json())
    elif kind == "sentencepiece":
        config["model"] = str(sentencepiece_model())
    return parse_tokenizer(config)


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.json")), ids=lambda path: path.stem)
def test_ids_are_those_of_the_fixture(path: Any) -> None:
    rows = json.loads(path.read_text())
    assert [row["text"] for row in rows] == list(TEXTS)
    encoded = made(path.stem).load().encode([row["text"] for row in rows])
    assert not encoded.failures
    for index, row in enumerate(rows):
        assert encoded.streams["ids"][index].tolist() == row["ids"], row["text"]


def test_every_built_in_has_a_fixture() -> None:
    stems = {path.stem.partition("-")[0] for path in GOLDEN.glob("*.json")}
    assert stems == {"bytes", "huggingface", "sentencepiece", "tiktoken"}
