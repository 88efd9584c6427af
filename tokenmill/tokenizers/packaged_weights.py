"""Weights that ship with the package, and a file of one's own in their place."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Generic, TypeVar

from tokenmill.contract import Asset, hash_file
from tokenmill.errors import AssetError

Model = TypeVar("Model")


class PackagedWeights(Generic[Model]):
    """The weights file beside a tokenizer's module; a model is loaded once for each content.

    Args:
        module: The module's `__file__`, which the packaged file lies beside.
        load: Makes the model of a file's bytes and its path (for messages); raises AssetError where they are damaged.
        name: Name of the packaged file.
    """

    def __init__(self, module: str, load: Callable[[bytes, str], Model], name: str = "weights.npz") -> None:
        self._path = Path(module).with_name(name)
        self._location = f"package:tokenmill/tokenmill/tokenizers/{self._path.parent.name}/{self._path.name}"
        self._load = lru_cache(maxsize=4)(load)

    def asset(self, own: str | None) -> Asset:
        """Return the packaged file, or the one of one's own; raises AssetError where it cannot be read."""
        return hash_file(self._path, self._location) if own is None else hash_file(own)

    def model(self, own: str | None) -> Model:
        """Return the model of the packaged file, or of one's own; raises AssetError where it is damaged or absent."""
        path = self._path if own is None else Path(own)
        try:
            data = path.read_bytes()
        except OSError as error:
            raise AssetError(f"cannot read this file: {error.strerror}", where=str(path)) from error
        return self._load(data, str(path))
