import json
import pickle
from pathlib import Path
from typing import Any, ClassVar

import pytest

from tokenmill.contract import Asset, ResolvedTokenizer, Tokenizer, empty_streams, hash_file, identity, resolve
from tokenmill.errors import AssetError
from tokenmill.streams import StreamSpec


class WithFile(Tokenizer):
    """A made-up tokenizer with an asset, and an option that a later version has added."""

    id: ClassVar[str] = "with-file"
    locations: ClassVar[frozenset[str]] = frozenset({"path"})

    path: str
    lower: bool = False
    added_later: int | None = None

    def assets(self) -> dict[str, Asset]:
        return {"vocabulary": hash_file(self.path)}

    def streams(self) -> dict[str, StreamSpec]:
        return {"ids": StreamSpec("uint8", vocabulary_size=256)}

    def notes(self) -> list[str]:
        return ["slow"]


def vocabulary(directory: Path, content: bytes = b"abc") -> str:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "v").write_bytes(content)
    return str(directory / "v")


def test_the_place_of_an_asset_is_no_part_of_the_fingerprint(tmp_path: Path) -> None:
    here = resolve(WithFile(path=vocabulary(tmp_path / "a")))
    there = resolve(WithFile(path=vocabulary(tmp_path / "b")))
    assert here.fingerprint == there.fingerprint
    assert here.identity == there.identity
    assert str(tmp_path) not in json.dumps(here.identity)
    assert here.config != there.config


def test_what_changes_tokens_changes_the_fingerprint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = vocabulary(tmp_path)
    fingerprints = {resolve(WithFile(path=path)).fingerprint, resolve(WithFile(path=path, lower=True)).fingerprint}
    vocabulary(tmp_path, b"abcd")
    fingerprints.add(resolve(WithFile(path=path)).fingerprint)
    monkeypatch.setattr(WithFile, "implementation_version", 2)
    fingerprints.add(resolve(WithFile(path=path)).fingerprint)
    assert len(fingerprints) == 4


def test_an_option_that_is_left_out_changes_nothing(tmp_path: Path) -> None:
    """A new version may add options: what does not use them keeps its fingerprint."""
    config = WithFile(path=vocabulary(tmp_path), lower=False)
    assert identity(config, {}, {})["config"] == {}
    assert config.to_json() == {"id": "with-file", "path": config.path}


def test_resolved_tokenizers_survive_json_and_pickle(tmp_path: Path) -> None:
    resolved = resolve(WithFile(path=vocabulary(tmp_path)))
    assert ResolvedTokenizer.from_json(json.loads(json.dumps(resolved.to_json()))) == resolved
    assert pickle.loads(pickle.dumps(resolved)) == resolved


def test_a_missing_asset_is_named(tmp_path: Path) -> None:
    with pytest.raises(AssetError, match=r"none: cannot read this file: No such file"):
        hash_file(tmp_path / "none")
    with pytest.raises(AssetError, match="Is a directory"):
        hash_file(tmp_path)


def test_hash_file(tmp_path: Path) -> None:
    path = Path(vocabulary(tmp_path, b"abc"))
    sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert hash_file(path) == Asset(str(path), sha256, 3)
    assert hash_file(path, "package:x/v").location == "package:x/v"


@pytest.mark.parametrize("wrong", [{"path": "x", "other": 1}, {}, {"path": 1}])
def test_configs_are_strict(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="validation error"):
        WithFile.model_validate(wrong)


def test_empty_streams() -> None:
    specs = {"ids": StreamSpec("uint16"), "grid": StreamSpec("uint8", ("row", "column"), (None, 4))}
    for name, batch in empty_streams(specs).items():
        batch.check(name, specs[name], 0)
