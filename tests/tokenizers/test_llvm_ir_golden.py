"""The vocabulary's format, and the tokens that one gives: files of released versions are read for ever.

`golden_llvm_ir` holds a vocabulary's file and the ids of a text, as version 1 made them. A new version of the format
gets files of its own beside these. Where ids change for a vocabulary that does not, `implementation_version` of
`LlvmIrTokenizer` must be raised.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.tokenizers.llvm_ir_texts import FUNCTION, RUST
from tokenmill.tokenizers.llvm_ir import LlvmIrTokenizer
from tokenmill.tokenizers.llvm_ir.coding import Coder
from tokenmill.tokenizers.llvm_ir.vocabulary import MODES, Mode, Vocabulary

_GOLDEN = Path(__file__).with_name("golden_llvm_ir")


@pytest.mark.parametrize("mode", MODES)
def test_a_vocabulary_of_version_1_gives_its_ids(mode: Mode) -> None:
    written = json.loads((_GOLDEN / "ids-v1.json").read_text())
    assert written["implementation_version"] == LlvmIrTokenizer.implementation_version
    text = FUNCTION + RUST
    assert written["text"] == text.decode()
    coder = Coder(Vocabulary.from_bytes((_GOLDEN / "vocabulary-v1.bin").read_bytes(), "golden"), mode)
    tokens = coder.encode(text)
    assert tokens.ids.tolist() == written[mode]["ids"]
    assert tokens.functions.tolist() == written[mode]["functions"]
    assert coder.decode(np.array(written[mode]["ids"], np.uint16)) == text
