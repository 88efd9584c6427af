"""Encoders in a process: loaded once each, checked against the plan, and never brought down by one item."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from tokenmill.contract import Encoded, Encoder, Failure, ResolvedTokenizer, empty_streams, resolve
from tokenmill.devices import actual_device
from tokenmill.errors import (
    AssetError,
    ConfigurationError,
    ItemError,
    RunError,
    SpecError,
    StorageError,
    TokenmillError,
)
from tokenmill.plans import Plan
from tokenmill.registry import parse_tokenizer
from tokenmill.streams import Jagged, StreamSpec

# Keyed by fingerprint and device. A process that forks workers loads encoders first, so that they share the memory.
_loaded: dict[tuple[str, str], Encoder] = {}


#: What reading an item may raise that says nothing of the item: a server that is gone, a file that has changed.
NOT_OF_AN_ITEM = (StorageError, ConfigurationError, RunError)


def loaded_encoder(resolved: ResolvedTokenizer, device: str) -> Encoder:
    """Return this process's encoder for a planned tokenizer, loading it at the first call.

    Raises AssetError where the vocabulary or weights found here are not those that were planned.
    """
    device = actual_device(device, resolved)
    key = (resolved.fingerprint, device)
    if key not in _loaded:
        tokenizer = parse_tokenizer(resolved.config)
        here = resolve(tokenizer)
        if here.fingerprint != resolved.fingerprint:
            raise AssetError(
                f"the tokenizer {resolved.config['id']!r} found here has fingerprint {here.fingerprint[:16]}…; "
                f"the plan has {resolved.fingerprint[:16]}… ({_difference(resolved, here)})",
                fix="give this machine the vocabulary and the tokenmill version that the plan was made with",
            )
        _loaded[key] = tokenizer.load(device)
    return _loaded[key]


def _difference(planned: ResolvedTokenizer, here: ResolvedTokenizer) -> str:
    for name, asset in planned.assets.items():
        if name in here.assets and here.assets[name].sha256 != asset.sha256:
            return f"asset {name!r} at {here.assets[name].location} differs from the planned one"
    return "their configurations differ"


def tokenizer_notes(plan: Plan) -> list[str]:
    """Return what operators should know of a plan's tokenizers, such as engine fallbacks; loads the engines."""
    tables = [(table.name, parse_tokenizer(table.tokenizer.config)) for table in plan.tables]
    return [f"table {name!r}: {note}" for name, tokenizer in tables for note in tokenizer.notes()]


def encode_batch(encoder: Encoder, specs: Mapping[str, StreamSpec], payloads: Sequence[Any]) -> Encoded:
    """Tokenize a batch and check the result; items that make the encoder raise become failures, the others stay.

    Args:
        encoder: The encoder.
        specs: Its streams.
        payloads: The items; of an encoder that prepares them, what `prepare` returned.

    Raises:
        SpecError: The encoder returned what its specs do not allow: that is a fault of the plug-in, not of an item,
            and no shard may hide it.
        StorageError, ConfigurationError: An item is read while it is encoded, and its file has changed or cannot be.
        RunError: The encoder ran out of its device's memory, or otherwise says that it is no item's fault.
    """
    try:
        encoded = encoder.encode(payloads)
    except (SpecError, *NOT_OF_AN_ITEM, MemoryError, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:  # noqa: BLE001  native code panics with classes derived from BaseException
        if len(payloads) == 1:
            return Encoded(empty_streams(specs), (item_failure(0, error),))
        return _join(specs, [encode_batch(encoder, specs, [payload]) for payload in payloads])
    failed = [failure.index for failure in encoded.failures]
    if len(set(failed)) != len(failed) or not set(failed) <= set(range(len(payloads))):
        raise SpecError(f"the encoder reports failures at {failed} in a batch of {len(payloads)}: twice, or outside it")
    rows = len(payloads) - len(failed)
    if encoded.streams.keys() != specs.keys():
        raise SpecError(f"the encoder returned streams {sorted(encoded.streams)}; its specs name {sorted(specs)}")
    for name, spec in specs.items():
        encoded.streams[name].check(name, spec, rows)
    return encoded


def item_failure(index: int, error: BaseException) -> Failure:
    """Return the failure of the item that made preparing or encoding raise."""
    reason = error.reason if isinstance(error, ItemError) else "tokenizer_failed"
    text = error.what if isinstance(error, TokenmillError) else f"{type(error).__name__}: {error}"
    lost_seconds = error.lost_seconds if isinstance(error, ItemError) else 0.0
    return Failure(index, reason, text[:500], lost_seconds)


def _join(specs: Mapping[str, StreamSpec], single: Sequence[Encoded]) -> Encoded:
    """Put the results of single-item batches together."""
    failures = tuple(
        replace(failure, index=index) for index, encoded in enumerate(single) for failure in encoded.failures
    )
    streams = {}
    for name, spec in specs.items():
        rows = [encoded.streams[name][0] for encoded in single if len(encoded.streams[name])]
        streams[name] = Jagged.from_rows(rows, spec)
    return Encoded(streams, failures)
