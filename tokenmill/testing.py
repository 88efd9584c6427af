"""The contract kit: what every tokenizer must pass, built in or from a third party.

    from tokenmill.testing import Case, check_tokenizer

    def test_contract(tmp_path):
        check_tokenizer(Case(MyTokenizer(...), payloads=["some", "items"], variants=[MyTokenizer(other=...)]), tmp_path)

Each `check_…` function is one promise of `tokenmill.contract` and raises AssertionError saying how it is broken. They
need no test framework. `audio_case` makes the case of an audio tokenizer, with sounds.
"""

from __future__ import annotations

import copy
import json
import os
import pickle
import random
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from tokenmill.contract import Encoded, Encoder, PrefixDecoder, PreparingEncoder, Tokenizer, resolve
from tokenmill.errors import ItemError, TokenizerError
from tokenmill.streams import Jagged, StreamSpec

if TYPE_CHECKING:
    from tokenmill.audio.audio_file import AudioClip, AudioFile
    from tokenmill.audio.recording import Recording

Row = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Case:
    """A tokenizer and what to check it with.

    Attributes:
        tokenizer: The config under test. Its class must be importable by name (not defined inside a function).
        payloads: Items that tokenize, at least three different ones, of very unequal sizes.
        variants: Other configs of the same class; together they change every field that is no location.
        empty: A payload that holds nothing, or None where the modality has no such thing.
        empty_tokens: Tokens of the first stream in the row of `empty` (1 for a BOS).
        decodes_to: What the payloads decode to; None where that is the payloads themselves, and for sound, which must
            be as long as what went in. Ignored without a decoder.
        decodes: Says whether a payload may decode to what it did, for media that lose something; it is asked in place
            of a comparison with `decodes_to`.
        moved: Returns the same tokenizer with its assets copied below a directory; None where it has no assets.
    """

    tokenizer: Tokenizer
    payloads: Sequence[Any]
    variants: Sequence[Tokenizer] = ()
    empty: Any = ""
    empty_tokens: int = 0
    decodes_to: Sequence[Any] | None = None
    decodes: Callable[[Any, Any], bool] | None = None
    moved: Callable[[Path], Tokenizer] | None = None


def audio_case(
    tokenizer: Tokenizer, variants: Sequence[Tokenizer] = (), *, seconds: float = 0.5, **changes: Any
) -> Case:
    """Return the case of an audio tokenizer, with synthesized sounds as payloads.

    Args:
        tokenizer: The config under test.
        variants: As in `Case`.
        seconds: How long a sound is, roughly; one of them is ten times as long.
        changes: Other fields of `Case`.
    """
    from tokenmill.audio.testing import no_sound, sounds

    return replace(Case(tokenizer, sounds(seconds), variants, empty=no_sound()), **changes)


def check_tokenizer(case: Case, directory: Path) -> None:
    """Run every check.

    Args:
        case: What to check.
        directory: An empty directory to write to.
    """
    check_declarations(case)
    check_json_round_trip(case)
    check_pickle_round_trip(case)
    check_frozen(case)
    check_repr(case)
    check_plans_without_loading(case)
    check_streams_name_each_other(case)
    check_fingerprint_is_stable(case)
    check_fingerprint_depends_on_every_field(case)
    check_fingerprint_depends_on_assets(case, directory)
    check_unknown_device_is_refused(case)
    check_rows_fit_their_specs(case)
    check_empty_payload(case)
    check_batch_invariance(case)
    check_recordings(case)
    check_blocks_of_any_length(case)
    check_decoding(case)
    check_prefixes(case)
    check_reports(case)


def check_declarations(case: Case) -> None:
    """The class says its id, modality and version, and its locations are fields."""
    kind = type(case.tokenizer)
    _check(isinstance(getattr(kind, "id", None), str) and bool(kind.id), f"{kind.__name__} declares no `id`")
    _check(isinstance(kind.implementation_version, int), f"{kind.__name__}.implementation_version is no int")
    unknown = kind.locations - set(kind.model_fields)
    _check(not unknown, f"{kind.__name__}.locations names what are no fields: {sorted(unknown)}")


def check_json_round_trip(case: Case) -> None:
    """The JSON form is JSON, holds the id, and makes an equal config."""
    for tokenizer in (case.tokenizer, *case.variants):
        text = json.dumps(tokenizer.to_json(), allow_nan=False)
        fields = json.loads(text)
        _check(fields.pop("id", None) == type(tokenizer).id, f"the JSON form lacks its id: {text}")
        again = type(tokenizer).model_validate(fields)
        _check(again == tokenizer, f"JSON round trip: {tokenizer!r} came back as {again!r}")


def check_pickle_round_trip(case: Case) -> None:
    """Configs reach worker processes by pickle, and stay equal."""
    again = pickle.loads(pickle.dumps(case.tokenizer))  # noqa: S301 - what we have just written
    _check(again == case.tokenizer, f"pickle round trip: {case.tokenizer!r} came back as {again!r}")
    _check(copy.deepcopy(case.tokenizer) == case.tokenizer, "a deep copy is not equal")


def check_frozen(case: Case) -> None:
    """No field can be assigned, and unknown fields are refused."""
    for name in type(case.tokenizer).model_fields:
        try:
            setattr(case.tokenizer, name, getattr(case.tokenizer, name))
        except (ValidationError, AttributeError, TypeError):
            continue
        raise AssertionError(f"field {name!r} can be assigned; the config must be frozen")
    try:
        type(case.tokenizer).model_validate({**case.tokenizer.model_dump(), "no_such_field": 1})
    except ValidationError:
        return
    raise AssertionError("an unknown field is accepted; a typo in a job would have no effect")


def check_repr(case: Case) -> None:
    """The repr shows every field, so that a log line says what ran."""
    text = repr(case.tokenizer)
    missing = [name for name in type(case.tokenizer).model_fields if name not in text]
    _check(not missing, f"repr {text} lacks {missing}")


def check_plans_without_loading(case: Case) -> None:
    """Streams, assets and fingerprint need no encoder; a plan is made where there are neither weights nor a device."""
    kind = type(case.tokenizer)
    own = kind.__dict__.get("load")

    def load(self: Tokenizer, device: str = "cpu") -> Any:
        raise AssertionError("resolve() called load(); planning must do without")

    kind.load = load  # type: ignore[method-assign]
    try:
        resolved = resolve(case.tokenizer)
    finally:
        if own is None:
            del kind.load
        else:
            kind.load = own  # type: ignore[method-assign]
    _check(bool(resolved.streams), "streams() names no stream")


def check_streams_name_each_other(case: Case) -> None:
    """Where a stream points into another or holds its error, that one exists; an error is one float a row."""
    specs = case.tokenizer.streams()
    for name, spec in specs.items():
        for role in ("ends_of", "error_of"):
            other = getattr(spec, role)
            _check(other is None or other in specs, f"stream {name!r} is {role} {other!r}, which is no stream")
        one_float = spec.shape == (1,) and np.dtype(spec.dtype).kind == "f"
        _check(spec.error_of is None or one_float, f"stream {name!r} is an error, and not one float a row")


_FINGERPRINT = """
import importlib, json, sys
from tokenmill.contract import resolve
given = json.load(sys.stdin)
kind = importlib.import_module(given["module"])
for name in given["class"].split("."):
    kind = getattr(kind, name)
print(resolve(kind.model_validate(given["config"])).fingerprint)
"""


def check_fingerprint_is_stable(case: Case) -> None:
    """Another process, with another hash seed, computes the same fingerprint."""
    kind = type(case.tokenizer)
    given = {"module": kind.__module__, "class": kind.__qualname__, "config": case.tokenizer.model_dump(mode="json")}
    seed = "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"
    paths = os.pathsep.join(path or os.curdir for path in sys.path)
    done = subprocess.run(
        [sys.executable, "-c", _FINGERPRINT],
        input=json.dumps(given),
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": paths},
    )
    _check(done.returncode == 0, f"another process cannot resolve this tokenizer:\n{done.stderr}")
    here, there = resolve(case.tokenizer).fingerprint, done.stdout.strip()
    _check(here == there, f"the fingerprint is {here} here and {there} in another process")


def check_fingerprint_depends_on_every_field(case: Case) -> None:
    """Every field that is no location changes the fingerprint: else two different tokenizers would pass for one."""
    kind = type(case.tokenizer)
    fingerprints = {resolve(case.tokenizer).fingerprint: case.tokenizer}
    for variant in case.variants:
        _check(type(variant) is kind, f"variant {variant!r} is no {kind.__name__}")
        fingerprint = resolve(variant).fingerprint
        same = fingerprints.get(fingerprint)
        _check(same is None, f"{variant!r} has the fingerprint of {same!r}")
        fingerprints[fingerprint] = variant
    for name in set(kind.model_fields) - kind.locations:
        changed = any(getattr(variant, name) != getattr(case.tokenizer, name) for variant in case.variants)
        _check(changed, f"no variant changes the field {name!r}; add one")


def check_fingerprint_depends_on_assets(case: Case, directory: Path) -> None:
    """A moved asset leaves the fingerprint as it was; one with a byte more changes it, or is refused."""
    if case.moved is None:
        _check(not case.tokenizer.assets(), "the tokenizer has assets: the case needs `moved`")
        return
    fingerprint = resolve(case.tokenizer).fingerprint
    moved = case.moved(directory)
    _check(resolve(moved).fingerprint == fingerprint, "copying the assets elsewhere changed the fingerprint")
    for asset in moved.assets().values():
        path = Path(asset.location)
        _check(path.is_relative_to(directory), f"`moved` left the asset {path} outside {directory}")
        with path.open("ab") as file:
            file.write(b"\n")
        digests = {name: found.sha256 for name, found in moved.assets().items()}
        before = {name: found.sha256 for name, found in case.tokenizer.assets().items()}
        _check(digests != before, f"{path} was changed and assets() did not notice")


def check_unknown_device_is_refused(case: Case) -> None:
    """A device that the tokenizer cannot run on is a TokenizerError, not a silent fall back."""
    try:
        case.tokenizer.load("no-such-device")
    except TokenizerError:
        return
    raise AssertionError("load('no-such-device') did not raise TokenizerError")


def check_rows_fit_their_specs(case: Case) -> None:
    """Encoding gives the declared streams, each a Jagged that passes its spec's check, and no failures."""
    _check(len(case.payloads) >= 3, "the case needs at least three payloads")
    specs = case.tokenizer.streams()
    for payloads in (case.payloads, []):
        encoded = _encode(case.tokenizer.load(), payloads)
        _check(not encoded.failures, f"payloads of the case failed: {encoded.failures}")
        _check(set(encoded.streams) == set(specs), f"streams {sorted(encoded.streams)}, declared {sorted(specs)}")
        for name, spec in specs.items():
            encoded.streams[name].check(name, spec, len(payloads))


def check_empty_payload(case: Case) -> None:
    """A payload that holds nothing is a row of no tokens (or of what is added to every row), not a failure."""
    if case.empty is None:
        return
    encoded = _encode(case.tokenizer.load(), [case.empty, case.payloads[0], case.empty])
    _check(not encoded.failures, f"the empty payload failed: {encoded.failures}")
    name = next(iter(case.tokenizer.streams()))
    lengths = encoded.streams[name].lengths.tolist()
    _check(
        lengths[0] == lengths[2] == case.empty_tokens,
        f"empty payloads have {lengths[0]} and {lengths[2]} tokens in {name!r}, expected {case.empty_tokens}",
    )


def check_batch_invariance(case: Case) -> None:
    """An item's tokens depend on neither its neighbours, nor the batch's size, nor what was encoded before."""
    encoder = case.tokenizer.load()
    payloads = list(case.payloads)
    alone = [_rows(_encode(encoder, [payload]))[0] for payload in payloads]
    order = random.Random(0).sample(range(len(payloads)), len(payloads))  # noqa: S311 - a shuffle, not a secret
    batches = {
        "all in one batch": list(range(len(payloads))),
        "shuffled": order,
        "reversed": list(reversed(range(len(payloads)))),
        "twice in one batch": [*order, *order],
        "in a batch of two": [order[0], order[-1]],
    }
    for how, indices in batches.items():
        rows = _rows(_encode(encoder, [payloads[index] for index in indices]))
        _check(len(rows) == len(indices), f"{how}: {len(rows)} rows for {len(indices)} payloads")
        for row, index in zip(rows, indices, strict=True):
            _check_equal(row, alone[index], f"{how}, payload {index}")
    fresh = _rows(_encode(case.tokenizer.load(), payloads))
    for index, row in enumerate(fresh):
        _check_equal(row, alone[index], f"in another encoder, payload {index}")


def check_recordings(case: Case) -> None:
    """Rows of sound say of their recordings what is so, and streams that run in time are as long as those are."""
    if not _is_audio(case):
        return
    from tokenmill.audio.testing import recording_faults

    encoder, specs = case.tokenizer.load(), case.tokenizer.streams()
    for index, (payload, row) in enumerate(zip(case.payloads, _rows(_encode(encoder, case.payloads)), strict=True)):
        faults = [*recording_faults(row, specs, _opened(encoder, payload))]
        _check(not faults, f"payload {index}: {'; '.join(faults)}")


def check_blocks_of_any_length(case: Case) -> None:
    """A recording's tokens do not depend on the lengths of the blocks that its samples come in."""
    if not _is_audio(case):
        return
    from tokenmill.audio.testing import InPieces

    encoder = case.tokenizer.load()
    whole = _rows(_encode(encoder, case.payloads))
    pieces = _rows(encoder.encode([InPieces(_opened(encoder, payload)) for payload in case.payloads]))
    for index, (row, wanted) in enumerate(zip(pieces, whole, strict=True)):
        _check_equal(row, wanted, f"payload {index}, in blocks of other lengths", "otherwise it")


def check_decoding(case: Case) -> None:
    """Where there is a decoder, rows decode to what went in (or to what the case says)."""
    decoder = case.tokenizer.decoder()
    if decoder is None:
        return
    encoder = case.tokenizer.load()
    rows = _rows(_encode(encoder, case.payloads))
    for index, (payload, row) in enumerate(zip(case.payloads, rows, strict=True)):
        decoded = decoder.decode(row)
        if case.decodes is not None:
            close = case.decodes(payload, decoded)
            _check(close, f"payload {index} decodes to {str(decoded)[:200]!r}, which the case's `decodes` refuses")
        elif case.decodes_to is None and _is_audio(case):
            _check_sound(decoded, row, _opened(encoder, payload), f"what payload {index} decodes to")
        else:
            wanted = payload if case.decodes_to is None else case.decodes_to[index]
            told = f"payload {index} decodes to {str(decoded)[:200]!r}, expected {str(wanted)[:200]!r}"
            _check(decoded == wanted, told)


def check_prefixes(case: Case) -> None:
    """Where a decoder cuts rows short, every prefix is a row that decodes, a larger one is no shorter, 1 is all.

    A row of several codebooks is cut to the first of them: all its frames, and fewer codes a frame.
    """
    decoder = case.tokenizer.decoder()
    if not isinstance(decoder, PrefixDecoder):
        return
    specs = case.tokenizer.streams()
    codes = [name for name, spec in specs.items() if spec.bands == "codebook"] or [next(iter(specs))]
    named = f"{codes[0]!r}" if len(codes) == 1 else " and ".join(map(repr, codes))
    encoder = case.tokenizer.load()
    for index, row in enumerate(_rows(_encode(encoder, case.payloads))):
        whole = sum(row[name].size for name in codes)
        shortest = min(whole, 1)
        for fraction in (0.25, 0.5, 1):
            where = f"payload {index}, prefix {fraction}"
            cut = decoder.prefix(row, fraction)
            _check(set(cut) == set(specs), f"{where}: streams {sorted(cut)}, declared {sorted(specs)}")
            for stream, spec in specs.items():
                Jagged.from_rows([cut[stream]], _of_fewer_codebooks(spec)).check(stream, _of_fewer_codebooks(spec), 1)
            tokens = sum(cut[name].size for name in codes)
            _check(
                shortest <= tokens <= whole,
                f"{where}: {tokens} tokens in {named}; the next shorter prefix has {shortest}, the row {whole}",
            )
            shortest = tokens
            decoded = decoder.decode(cut)
            kind, expected = type(decoded), type(decoder.decode(row))
            _check(kind is expected, f"{where} decodes to {kind.__name__}, the row to {expected.__name__}")
            if _is_audio(case) and case.decodes_to is None and case.decodes is None:
                _check_sound(decoded, row, _opened(encoder, case.payloads[index]), f"what {where} decodes to")
        _check_equal(cut, row, f"payload {index}, prefix 1", "the row")


def check_reports(case: Case) -> None:
    """Token classes are ids of the vocabulary, tokens have a text each, and notes are sentences."""
    sizes = [spec.vocabulary_size for spec in case.tokenizer.streams().values() if spec.vocabulary_size]
    size = max(sizes, default=0)
    classes = case.tokenizer.token_classes()
    for name in ("byte_fallback", "unknown", "special"):
        outside = [number for number in getattr(classes, name) if not 0 <= number < size]
        _check(not outside, f"token_classes().{name} holds {outside[:5]}, which are outside the vocabulary of {size}")
    ids = list(range(min(size, 300)))
    texts = case.tokenizer.token_text(ids)
    _check(len(texts) == len(ids) and all(isinstance(text, str) for text in texts), "token_text() is not a text an id")
    notes = case.tokenizer.notes()
    _check(all(isinstance(note, str) and note for note in notes), f"notes() holds what is no text: {notes}")


def _encode(encoder: Encoder, payloads: Sequence[Any]) -> Encoded:
    """Encode as a run does: where items are to be prepared, several threads do it at once."""
    if not isinstance(encoder, PreparingEncoder):
        _check(
            not hasattr(encoder, "prepare"), "the encoder has `prepare` and no `batch_items`: it would not be called"
        )
        return encoder.encode(payloads)
    with ThreadPoolExecutor(4) as threads:
        try:
            items = list(threads.map(encoder.prepare, payloads))
        except ItemError as error:
            raise AssertionError(f"a payload of the case could not be prepared: {error.reason}: {error}") from error
    return encoder.encode(items)


def _is_audio(case: Case) -> bool:
    return type(case.tokenizer).modality == "audio"


def _opened(encoder: Encoder, payload: AudioFile | AudioClip) -> Recording:
    """Return a recording as a run's threads open it."""
    prepared: Any = encoder.prepare(payload) if isinstance(encoder, PreparingEncoder) else None
    _check(
        hasattr(prepared, "blocks") and hasattr(prepared, "rate_hz"),
        f"`prepare` of an audio encoder returns a Recording, no {type(prepared).__name__}",
    )
    recording: Recording = prepared
    return recording


def _check_sound(decoded: Any, row: Row, recording: Recording, what: str) -> None:
    from tokenmill.audio.testing import sound_faults

    faults = [*sound_faults(decoded, row, recording)]
    _check(not faults, f"{what} {'; '.join(faults)}")


def _of_fewer_codebooks(spec: StreamSpec) -> StreamSpec:
    """Return a spec that lets rows have fewer codebooks than they are made with."""
    sizes = zip(spec.dims, spec.shape, strict=True)
    return replace(spec, shape=tuple(None if dim == "codebook" else size for dim, size in sizes))


def _rows(encoded: Encoded) -> list[Row]:
    count = len(next(iter(encoded.streams.values())))
    return [{name: jagged[index] for name, jagged in encoded.streams.items()} for index in range(count)]


def _check_equal(row: Row, wanted: Row, where: str, what: str = "alone it") -> None:
    for name, values in wanted.items():
        same = row[name].shape == values.shape and row[name].tobytes() == values.tobytes()
        _check(same, f"{where}: stream {name!r} is {_short(row[name])}, {what} is {_short(values)}")


def _short(values: npt.NDArray[Any]) -> str:
    return f"{values.dtype}{list(values.shape)} {np.array2string(values.reshape(-1), threshold=8)}"


def _check(holds: bool, otherwise: str) -> None:
    if not holds:
        raise AssertionError(otherwise)
