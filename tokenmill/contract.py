"""The tokenizer contract: what a plug-in provides and what it may rely on.

- A `Tokenizer` is a frozen, picklable, JSON-round-trip config. Its registered name is its `id`.
- `resolve` finds its assets (vocabulary, weights) and hashes them; from then on their sha256 stands in for the path.
- `streams` and `fingerprint` need headers at most, never weights or a device.
- `load` gives an `Encoder`, once a worker process. An encoder takes a batch of payloads and returns named streams.
- Where items need decoding, an encoder has `prepare` too, which threads call ahead of it (`PreparingEncoder`).
- Batch invariance: within one environment an item's tokens depend on neither its neighbours, nor the batch's size,
  nor the number of workers.
- `tokenmill.testing` is the kit that checks all of this, for built-ins and plug-ins alike.

No tokenizer lives here, and nothing that knows how they are found.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from tokenmill.canonical import digest
from tokenmill.errors import AssetError
from tokenmill.streams import Jagged, StreamSpec


@dataclass(frozen=True)
class Asset:
    """A file that a tokenizer needs.

    Attributes:
        location: A local path, or `package:<distribution package>/<file in it>` for files shipped in a Python package.
        sha256: Of the file as stored, in hexadecimal.
        size_bytes: Its size.
    """

    location: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True)
class Failure:
    """An item of a batch that the encoder could not tokenize: index in the batch, reason (snake_case), message.

    `lost_seconds` is how many seconds of a recording have no row for it.
    """

    index: int
    reason: str
    message: str
    lost_seconds: float = 0.0


@dataclass(frozen=True)
class Encoded:
    """What an encoder returns for a batch: each stream's rows of the items that did not fail, in order."""

    streams: Mapping[str, Jagged]
    failures: tuple[Failure, ...] = ()


class Encoder(Protocol):
    """A loaded tokenizer: lives in one process, on one device."""

    def encode(self, payloads: Sequence[Any]) -> Encoded:
        """Tokenize a batch (text: `str`s). Where it raises, the caller tries items singly and rejects the guilty."""
        ...


@runtime_checkable
class PreparingEncoder(Encoder, Protocol):
    """An encoder whose items need work that is no business of the device: decoding a file, resizing an image.

    Threads prepare items ahead of `encode`, which is then given what `prepare` returned. Prepared items that tell
    their `nbytes` never fill the memory.

    Attributes:
        batch_items: How many items `encode` likes to get at once; it gets fewer at a part's end, and of large ones.
    """

    batch_items: int

    def prepare(self, payload: Any) -> Any:
        """Return an item ready for `encode`; raises ItemError where it cannot be. Called by several threads at once."""
        ...


@runtime_checkable
class Decoder(Protocol):
    """Optional: turns a row's streams back into a payload (text: a `str`)."""

    def decode(self, streams: Mapping[str, npt.NDArray[Any]]) -> Any:
        """Decode one row. Lossy inputs decode as the tokenizer's own library would."""
        ...


@runtime_checkable
class PrefixDecoder(Decoder, Protocol):
    """A decoder of rows that can be cut short: fewer tokens decode to something coarser."""

    def prefix(self, streams: Mapping[str, npt.NDArray[Any]], fraction: float) -> Mapping[str, npt.NDArray[Any]]:
        """Return a row's streams with that fraction (above 0, up to 1) of its tokens, at least one if it has any."""
        ...


@dataclass(frozen=True)
class TokenClasses:
    """Ids that statistics count apart: `byte_fallback` (one raw byte each) and `unknown`; `special` are control ids."""

    byte_fallback: tuple[int, ...] = ()
    unknown: tuple[int, ...] = ()
    special: tuple[int, ...] = ()


class Tokenizer(BaseModel):
    """Base of tokenizer configs.

    Subclasses declare `id`, `modality`, `implementation_version` (raised whenever the same config gives other tokens),
    `devices`, the kinds that it can run on, `libraries`, the distributions that decide its tokens (their versions are
    recorded with what was made), and, in `locations`, the names of fields that only say where an asset lies:
    those enter no fingerprint.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    id: ClassVar[str]
    modality: ClassVar[str] = "text"
    implementation_version: ClassVar[int] = 1
    devices: ClassVar[tuple[str, ...]] = ("cpu",)
    libraries: ClassVar[tuple[str, ...]] = ()
    locations: ClassVar[frozenset[str]] = frozenset()

    def to_json(self) -> dict[str, Any]:
        """Return the config with its id, as a job or a plan holds it."""
        return {"id": type(self).id, **self.model_dump(mode="json", exclude_defaults=True)}

    def assets(self) -> dict[str, Asset]:
        """Find and hash the files that this config needs; raises AssetError naming the file. Default: none."""
        return {}

    def check(self) -> None:
        """Raise for a config that cannot work, where `assets` and `streams` do not show it. Planning asks."""

    def streams(self) -> dict[str, StreamSpec]:
        """Return the streams of a row. May read headers of assets."""
        raise NotImplementedError

    def load(self, device: str = "cpu") -> Encoder:
        """Return an encoder; raises AssetError, or MissingExtraError naming the extra."""
        raise NotImplementedError

    def decoder(self) -> Decoder | None:
        """Return a decoder, or None where this tokenizer has none."""
        return None

    def token_classes(self) -> TokenClasses:
        """Return the ids that statistics count apart."""
        return TokenClasses()

    def token_text(self, ids: Sequence[int]) -> list[str]:
        """Return printable forms of ids, for reports."""
        return [str(number) for number in ids]

    def notes(self) -> list[str]:
        """Return what operators should know of this config, such as an engine fallback and why. May load the engine."""
        return []


@dataclass(frozen=True)
class ResolvedTokenizer:
    """A tokenizer config with its assets' digests, its streams and its fingerprint: what plans and manifests hold.

    `identity` is what the fingerprint hashes (no locations): it goes into every shard, so that a shard's bytes do not
    depend on where a vocabulary lay.
    """

    config: Mapping[str, Any]
    identity: Mapping[str, Any]
    assets: Mapping[str, Asset]
    streams: Mapping[str, StreamSpec]
    fingerprint: str

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form, which `from_json` reads back."""
        return {
            "config": dict(self.config),
            "identity": dict(self.identity),
            "assets": {
                name: {"location": asset.location, "sha256": asset.sha256, "size_bytes": asset.size_bytes}
                for name, asset in self.assets.items()
            },
            "streams": {name: spec.to_json() for name, spec in self.streams.items()},
            "fingerprint": self.fingerprint,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> ResolvedTokenizer:
        """Read what `to_json` wrote."""
        return cls(
            config=value["config"],
            identity=value["identity"],
            assets={name: Asset(**asset) for name, asset in value["assets"].items()},
            streams={name: StreamSpec.from_json(spec) for name, spec in value["streams"].items()},
            fingerprint=value["fingerprint"],
        )


def resolve(tokenizer: Tokenizer) -> ResolvedTokenizer:
    """Find and hash a tokenizer's assets and fix its identity. Neither weights nor a device are needed."""
    assets = tokenizer.assets()
    streams = tokenizer.streams()
    known = identity(tokenizer, assets, streams)
    return ResolvedTokenizer(
        config=tokenizer.to_json(),
        identity=known,
        assets=assets,
        streams=streams,
        fingerprint=digest(known),
    )


def identity(tokenizer: Tokenizer, assets: Mapping[str, Asset], streams: Mapping[str, StreamSpec]) -> dict[str, Any]:
    """Return what makes a tokenizer itself: id, implementation version, config, streams and asset digests.

    Its `digest` is the fingerprint. Runner, limits, uris and the locations of assets enter it nowhere.
    """
    return {
        "id": type(tokenizer).id,
        "implementation_version": type(tokenizer).implementation_version,
        "config": tokenizer.model_dump(mode="json", exclude=set(tokenizer.locations), exclude_defaults=True),
        "streams": {name: spec.to_json() for name, spec in streams.items()},
        "assets": {name: asset.sha256 for name, asset in assets.items()},
    }


def hash_file(path: str | Path, location: str | None = None) -> Asset:
    """Hash a local file into an Asset; raises AssetError where it cannot be read."""
    hasher = hashlib.sha256()
    size = 0
    try:
        with open(path, "rb") as file:
            while chunk := file.read(1 << 20):
                hasher.update(chunk)
                size += len(chunk)
    except OSError as error:
        raise AssetError(f"cannot read this file: {error.strerror}", where=str(path)) from error
    return Asset(location=location or str(path), sha256=hasher.hexdigest(), size_bytes=size)


def empty_streams(specs: Mapping[str, StreamSpec]) -> dict[str, Jagged]:
    """Return a batch of no rows for every stream."""
    return {
        name: Jagged(np.empty(0, spec.dtype), np.empty((0, len(spec.dims)), np.int64)) for name, spec in specs.items()
    }
