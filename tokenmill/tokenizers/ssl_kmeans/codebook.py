"""The file of a codebook: k-means of the vectors of a layer of a model, and how it was made. Works without torch."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tokenmill.errors import AssetError, TokenizerError

#: Of the file; raised whenever what it holds comes to mean something else.
VERSION = 1
_KIND = "tokenmill ssl-kmeans codebook"
_FIX = "make one with `tokenmill train ssl-kmeans`"


@dataclass(frozen=True)
class Codebook:
    """Codes, and what they are codes of.

    Attributes:
        codes: float32 `[code, component]`.
        model: SHA-256 of each file of the model whose vectors they are the means of, by its name.
        layer: The layer of that model, the first is 1.
        made: How it was made: frames, seed, error and what else is worth knowing. Nothing depends on it.
    """

    codes: npt.NDArray[np.float32]
    model: Mapping[str, str]
    layer: int
    made: Mapping[str, Any]

    def save(self) -> bytes:
        """Return the file's bytes, the same for the same codebook."""
        header = {
            "kind": _KIND,
            "version": VERSION,
            "model": dict(self.model),
            "layer": self.layer,
            "made": dict(self.made),
        }
        text = json.dumps(header, sort_keys=True).encode()
        file = io.BytesIO()
        np.savez(file, codes=self.codes, header=np.frombuffer(text, np.uint8))
        return file.getvalue()

    def check_origin(self, model: Mapping[str, str], layer: int, where: str) -> None:
        """Raise TokenizerError where this is a codebook of another layer or another model.

        Args:
            model: As the attribute: of the model that is to be used with it.
            layer: And its layer.
            where: The codebook's file.
        """
        if self.layer != layer:
            raise TokenizerError(
                f"this codebook was fitted on layer {self.layer}; `layer` is {layer}",
                where=where,
                fix=f"set `layer: {self.layer}`, or fit a codebook on layer {layer}",
            )
        names = sorted({*self.model, *model})
        if changed := [name for name in names if self.model.get(name) != model.get(name)]:
            raise TokenizerError(
                f"this codebook was fitted on another model: {' and '.join(changed)} differ",
                where=where,
                fix="give the model that it was fitted on, or fit one on this model with `tokenmill train ssl-kmeans`",
            )


def read_codebook(path: str | Path) -> Codebook:
    """Read and check a file that `Codebook.save` made; raises AssetError."""
    try:
        with np.load(io.BytesIO(Path(path).read_bytes()), allow_pickle=False) as file:
            codes, header = file["codes"], json.loads(file["header"].tobytes())
        if header["kind"] != _KIND:
            raise ValueError(f"it is a {header['kind']}")
        version = header["version"]
        codebook = Codebook(codes, dict(header["model"]), header["layer"], dict(header["made"]))
    except FileNotFoundError as error:
        raise AssetError("there is no such codebook", where=str(path), fix=_FIX) from error
    except (
        zipfile.BadZipFile, AttributeError, EOFError, KeyError, NotImplementedError, OSError, TypeError, ValueError
    ) as error:  # fmt: skip
        raise AssetError(
            f"this is no intact codebook: {type(error).__name__}: {str(error)[:300]}", where=str(path), fix=_FIX
        ) from error
    if version != VERSION:
        raise AssetError(
            f"this codebook has version {version}; version {VERSION} is known here",
            where=str(path),
            fix="use the release of tokenmill that made it, or make it again",
        )
    if codes.dtype != np.float32 or codes.ndim != 2 or not codes.size or not np.isfinite(codes).all():
        raise AssetError(
            f"holds {codes.dtype}{list(codes.shape)} in place of finite float32 [code, component]",
            where=str(path),
            fix=_FIX,
        )
    return codebook
