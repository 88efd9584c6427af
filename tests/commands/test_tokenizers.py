import subprocess
import sys
from typing import Annotated, ClassVar, Literal

import pytest
from pydantic import Field

from tests.commands.conftest import Run
from tokenmill import registry
from tokenmill.contract import Tokenizer
from tokenmill.errors import MissingExtraError, TokenizerError


def test_list(run: Run) -> None:
    ran = run("tokenizers")
    assert ran.code == 0
    lines = ran.out.splitlines()
    assert [line.split()[0] for line in lines] == registry.tokenizer_names()
    assert any(line.split()[:2] == ["bytes", "text"] and "UTF-8 bytes" in line for line in lines)


def test_list_json(run: Run) -> None:
    found = {one["id"]: one for one in run("tokenizers", "--json").json}
    assert set(found) == set(registry.tokenizer_names())
    assert found["bytes"]["modality"] == "text"
    assert found["bytes"]["description"].startswith("UTF-8 bytes")
    assert found["bytes"]["problem"] is None


def test_one(run: Run) -> None:
    out = run("tokenizers", "bytes").out
    assert out.startswith("bytes (text): UTF-8 bytes")
    assert "bos: bool, default False" in out
    assert "Put a beginning-of-document id before each document." in out


def test_the_fields_of_nested_mappings_are_shown(run: Run) -> None:
    out = run("tokenizers", "klt").out
    assert "geometry: Geometry, default {'mode': 'crop', 'edge': 256}" in out
    assert "mode: 'crop' | 'fit' | 'native', default 'crop'" in out
    assert "Search: The fewest tokens with which the decoded image meets a target." in out
    assert "measure: 'l1' | 'mse', default 'l1'" in out


def test_one_json_is_its_schema(run: Run) -> None:
    schema = run("tokenizers", "bytes", "--json").json
    assert schema["$schema"].startswith("https://json-schema.org/")
    assert schema["properties"]["bos"] == {
        "default": False,
        "description": "Put a beginning-of-document id before each document.",
        "title": "Bos",
        "type": "boolean",
    }
    assert schema["additionalProperties"] is False


def test_unknown(run: Run) -> None:
    ran = run("tokenizers", "byte")
    assert (ran.code, ran.out) == (2, "")
    assert "did you mean 'bytes'?" in ran.err


class _Fancy(Tokenizer):
    """Has fields of every kind.

    And a second paragraph.
    """

    id: ClassVar[str] = "fancy"
    modality: ClassVar[str] = "image"

    size: int
    mode: Literal["a", "b"] | None = None
    names: dict[str, tuple[int, ...]] = Field(default_factory=dict)
    width: Annotated[int, Field(ge=1, description="How wide.")] = 3


def test_every_kind_of_field(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "tokenizer_class", lambda name: _Fancy)
    assert run("tokenizers", "fancy").out.splitlines() == [
        "fancy (image): Has fields of every kind.",
        "",
        "  size: int, required",
        "  mode: 'a' | 'b' | None, default None",
        "  names: dict[str, tuple[int, ...]], default {}",
        "  width: int, default 3",
        "      How wide.",
    ]


@pytest.mark.parametrize("error", [MissingExtraError("needs torch", fix="pip install it"), TokenizerError("is broken")])
def test_one_that_does_not_load_hides_no_other(run: Run, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    load = registry.tokenizer_class

    def load_or_fail(name: str) -> type[Tokenizer]:
        if name == "tiktoken":
            raise error
        return load(name)

    monkeypatch.setattr(registry, "tokenizer_class", load_or_fail)
    ran = run("tokenizers")
    assert ran.code == 0
    assert "not usable: " in ran.out
    assert "UTF-8 bytes" in ran.out
    found = {one["id"]: one for one in run("tokenizers", "--json").json}
    assert str(error).split("\n")[0] in found["tiktoken"]["problem"]
    assert found["tiktoken"]["modality"] is None


def test_one_is_listed_with_its_options_where_its_extra_is_missing() -> None:
    blocked = "import sys; sys.modules['numba'] = None; from tokenmill.commands import main; main()"

    def without_numba(*arguments: str) -> str:
        command = [sys.executable, "-c", blocked, "tokenizers", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    (line,) = (line for line in without_numba().splitlines() if line.startswith("llvm-ir"))
    assert line.split()[:3] == ["llvm-ir", "llvm-ir", "Tokens"]
    assert "mode: 'lexeme' | 'line', default 'line'" in without_numba("llvm-ir")
