"""Tables, documents and parts that the statistics tests share."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st

from tokenmill.audio.streams import LEVEL_SPEC, RECORDING_SPEC
from tokenmill.ir.census import OPCODES, TYPES
from tokenmill.ir.streams import MODULE_STREAMS
from tokenmill.sources.items import Reject
from tokenmill.statistics import PartStatistics
from tokenmill.streams import Jagged, StreamSpec

#: For properties of whole parts; no deadline, since a busy machine is no failure.
whole_parts = settings(max_examples=40, deadline=None)
#: For properties of single values.
single_values = settings(max_examples=150, deadline=None)

#: One stream of each kind: counted, counted as byte pairs, of two dimensions, not counted.
SPECS = {
    "ids": StreamSpec("uint32", vocabulary_size=5_000),
    "bytes": StreamSpec("uint8", dims=("byte",), vocabulary_size=256),
    "codes": StreamSpec("uint16", dims=("frame", "codebook"), shape=(None, 2), vocabulary_size=1024),
    "latents": StreamSpec("float16", dims=("token", "channel"), shape=(None, 3)),
}


@dataclass(frozen=True)
class Document:
    """A row: its input bytes, and ids from which all streams are made."""

    input_bytes: int
    ids: tuple[int, ...]


def batch(documents: Sequence[Document]) -> tuple[np.ndarray, dict[str, Jagged]]:
    """Lay documents out as `add_rows` takes them."""
    rows = [np.array(document.ids, np.int64) for document in documents]
    streams = {
        "ids": Jagged.from_rows(rows, SPECS["ids"]),
        "bytes": Jagged.from_rows([row % 251 for row in rows], SPECS["bytes"]),
        "codes": Jagged.from_rows([np.stack([row % 1024, row % 7], axis=1) for row in rows], SPECS["codes"]),
        "latents": Jagged.from_rows([np.zeros((len(row), 3)) for row in rows], SPECS["latents"]),
    }
    for name, jagged in streams.items():
        jagged.check(name, SPECS[name], len(rows))
    return np.array([document.input_bytes for document in documents], np.int64), streams


def part(documents: Sequence[Document], rejects: Iterable[Reject] = (), batch_rows: int = 3) -> PartStatistics:
    """Count documents, a few at a time, and rejects."""
    statistics = PartStatistics.start(SPECS)
    for start in range(0, len(documents), batch_rows):
        statistics.add_rows(*batch(documents[start : start + batch_rows]))
    statistics.add_rejects(rejects)
    return statistics


def reject(reason: str, lost_items: int = 1, lost_bytes: int = 0) -> Reject:
    """Return a reject of which only the counted members matter."""
    return Reject(0, "key", "file:0", reason, "message", lost_bytes=lost_bytes, lost_items=lost_items)


documents = st.lists(
    st.builds(
        Document,
        input_bytes=st.one_of(st.integers(0, 300), st.integers(0, 1 << 40)),
        ids=st.lists(st.integers(0, SPECS["ids"].vocabulary_size - 1), max_size=12).map(tuple),  # type: ignore[operator]
    ),
    max_size=8,
)
rejects = st.lists(
    st.builds(
        reject,
        st.sampled_from(["torn_file", "invalid_json", "null_text"]),
        lost_items=st.integers(1, 1000),
        lost_bytes=st.integers(0, 1 << 40),
    ),
    max_size=4,
)


def golden_part() -> PartStatistics:
    """Return the statistics in golden/part-v1.arrow."""
    made = [Document(97 * n, tuple((k * k + 31 * n) % 5_000 for k in range(n * n % 53))) for n in range(40)]
    return part(made, [reject("torn_file", 12, 4096), reject("invalid_json"), reject("invalid_json")])


#: The streams of an adaptive tokenizer of images with a second, two-dimensional stream of codes.
IMAGE_SPECS = {
    "ids": StreamSpec("uint16", vocabulary_size=300, bands="octave"),
    "books": StreamSpec("uint8", dims=("codebook", "frame"), shape=(3, None), vocabulary_size=9, bands="codebook"),
    "error": StreamSpec("float32", dims=("value",), shape=(1,), error_of="ids"),
    "outcome": StreamSpec("uint8", ("value",), (1,), vocabulary_size=3, labels=("fixed", "met", "capped")),
    "geometry": StreamSpec("int32", dims=("value",), shape=(6,)),
}


@dataclass(frozen=True)
class Picture:
    """A row of an image table, from which all its streams are made."""

    input_bytes: int
    ids: tuple[int, ...]
    error: float
    outcome: int


def picture_batch(pictures: Sequence[Picture]) -> tuple[np.ndarray, dict[str, Jagged]]:
    """Lay pictures out as `add_rows` takes them."""
    rows: Mapping[str, list[np.ndarray]] = {
        "ids": [np.array(picture.ids, np.int64) for picture in pictures],
        "books": [np.array([picture.ids] * 3, np.int64).reshape(3, -1) % 9 for picture in pictures],
        "error": [np.array([picture.error], np.float32) for picture in pictures],
        "outcome": [np.array([picture.outcome]) for picture in pictures],
        "geometry": [np.array([480, 640, 256, 256, 4, 4]) for _ in pictures],
    }
    streams = {name: Jagged.from_rows(rows[name], spec) for name, spec in IMAGE_SPECS.items()}
    return np.array([picture.input_bytes for picture in pictures], np.int64), streams


def picture_part(pictures: Sequence[Picture], batch_rows: int = 3) -> PartStatistics:
    """Count pictures, a few at a time."""
    statistics = PartStatistics.start(IMAGE_SPECS)
    for start in range(0, len(pictures), batch_rows):
        statistics.add_rows(*picture_batch(pictures[start : start + batch_rows]))
    return statistics


pictures = st.lists(
    st.builds(
        Picture,
        input_bytes=st.integers(0, 1 << 40),
        ids=st.lists(st.integers(0, 299), max_size=70).map(tuple),
        error=st.one_of(st.floats(0, 1, width=32), st.floats(width=32)),
        outcome=st.integers(0, 2),
    ),
    max_size=8,
)


def golden_picture_part() -> PartStatistics:
    """Return the statistics in golden/part-images-v1.arrow."""
    made = [
        Picture(1000 + n, tuple((k * k + 7 * n) % 300 for k in range(n * n % 67)), 0.25 / (n + 1), n % 3)
        for n in range(40)
    ]
    return picture_part([*made, Picture(1, (1,), float("nan"), 2)])


#: The streams of a codec of ragged codebooks, with one of no rate beside them.
SOUND_SPECS = {
    "codes_2": StreamSpec("uint8", ("frame", "codebook"), (None, 1), 16, bands="codebook", frame_hz=25.0),
    "codes_1": StreamSpec("uint8", ("frame", "codebook"), (None, 2), 16, bands="codebook", frame_hz=50.0),
    "phones": StreamSpec("uint8", vocabulary_size=40),
    "recording": RECORDING_SPEC,
    "level": LEVEL_SPEC,
}


@dataclass(frozen=True)
class Sounding:
    """A row of a table of sound, from which all its streams are made."""

    source_hz: int
    channels: int
    samples: int
    rms: float
    peak: float
    silence: float


def sound_batch(sounds: Sequence[Sounding]) -> tuple[np.ndarray, dict[str, Jagged]]:
    """Lay recordings out as `add_rows` takes them."""
    frames = [-(-25 * sound.samples // sound.source_hz) for sound in sounds]
    rows: Mapping[str, list[np.ndarray]] = {
        "codes_2": [np.arange(n).reshape(-1, 1) % 4 for n in frames],
        "codes_1": [np.stack([np.arange(2 * n) % 16, np.zeros(2 * n, np.int64)], axis=1) for n in frames],
        "phones": [np.arange(n // 3) % 40 for n in frames],
        "recording": [np.array([s.source_hz, s.channels, -1, 0, s.samples, s.samples // 2]) for s in sounds],
        "level": [np.array([s.rms, s.peak, s.silence], np.float32) for s in sounds],
    }
    streams = {name: Jagged.from_rows(rows[name], spec) for name, spec in SOUND_SPECS.items()}
    return np.array([2 * s.channels * s.samples for s in sounds], np.int64), streams


def sound_part(sounds: Sequence[Sounding], rejects: Iterable[Reject] = (), batch_rows: int = 3) -> PartStatistics:
    """Count recordings, a few at a time."""
    statistics = PartStatistics.start(SOUND_SPECS)
    for start in range(0, len(sounds), batch_rows):
        statistics.add_rows(*sound_batch(sounds[start : start + batch_rows]))
    statistics.add_rejects(rejects)
    return statistics


sounds = st.lists(
    st.builds(
        Sounding,
        source_hz=st.sampled_from([8_000, 11_025, 44_100, 48_000]),
        channels=st.integers(1, 6),
        samples=st.integers(0, 100_000),
        rms=st.floats(-130, 10, width=32),
        peak=st.one_of(st.floats(-130, 200, width=32), st.just(float("nan"))),
        silence=st.floats(0, 1, width=32),
    ),
    max_size=8,
)
lost_recordings = st.lists(
    st.builds(
        lambda reason, seconds: Reject(0, "key", "file:0", reason, "message", lost_seconds=seconds),
        st.sampled_from(["damaged_audio", "too_long"]),
        st.floats(0, 100_000),
    ),
    max_size=4,
)


def golden_sound_part() -> PartStatistics:
    """Return the statistics in golden/part-sound-v1.arrow."""
    made = [
        Sounding((8_000, 44_100, 48_000)[n % 3], 1 + n % 2, n * n * 1001, -20 - n / 3, -n / 7, n / 40)
        for n in range(40)
    ]
    lost = Reject(0, "key", "file:0", "damaged_audio", "message", lost_seconds=7200.25)
    return sound_part(made, [lost, reject("empty_file")])


#: The streams of a tokenizer of LLVM IR.
MODULE_SPECS = {
    "ids": StreamSpec("uint16", vocabulary_size=300),
    "functions": StreamSpec("uint32", dims=("function",)),
    **MODULE_STREAMS,
}


@dataclass(frozen=True)
class Compiled:
    """A row of a table of LLVM IR, from which all its streams are made: modules of equal content are the same.

    Functions are given by their instructions, and those of equal length are the same.
    """

    content: int
    functions: tuple[int, ...]
    called: tuple[tuple[bytes, int], ...] = ()
    declared: int = 0


def module_batch(modules: Sequence[Compiled]) -> tuple[np.ndarray, dict[str, Jagged]]:
    """Lay modules out as `add_rows` takes them."""
    instructions = [sum(module.functions) for module in modules]
    opcodes = [np.eye(len(OPCODES), dtype=np.int64)[[n % 5 for n in module.functions]] for module in modules]
    rows: Mapping[str, list[np.ndarray]] = {
        "ids": [np.arange(2 * n) % 300 for n in instructions],
        "functions": [np.cumsum(module.functions) for module in modules],
        "sha256": [np.frombuffer(_hashed(module.content, 32), np.uint8) for module in modules],
        "function_hashes": [
            np.frombuffer(b"".join(_hashed(n, 8) for n in module.functions), "<u8") for module in modules
        ],
        "opcodes": [(rows.T * module.functions).sum(axis=1) for rows, module in zip(opcodes, modules, strict=True)],
        "module": [
            np.array([10 * n, 40 * n, len(module.functions), module.declared, 3])
            for n, module in zip(instructions, modules, strict=True)
        ],
        "types": [np.array([3 + n] + [0] * (len(TYPES) - 1)) for n in instructions],
        "instructions": [np.array(module.functions, np.int64) for module in modules],
        "called_names": [
            np.frombuffer(b"".join(name + b"\n" for name, _ in module.called), np.uint8) for module in modules
        ],
        "called_counts": [np.array([count for _, count in module.called], np.int64) for module in modules],
    }
    streams = {name: Jagged.from_rows(rows[name], spec) for name, spec in MODULE_SPECS.items()}
    return np.array([10 * n for n in instructions], np.int64), streams


def _hashed(content: int, size: int) -> bytes:
    return hashlib.blake2b(str(content).encode(), digest_size=size).digest()


def module_part(modules: Sequence[Compiled], batch_rows: int = 3) -> PartStatistics:
    """Count modules, a few at a time."""
    statistics = PartStatistics.start(MODULE_SPECS)
    for start in range(0, len(modules), batch_rows):
        statistics.add_rows(*module_batch(modules[start : start + batch_rows]))
    return statistics


calls = st.dictionaries(
    st.one_of(st.sampled_from([b"puts", b'"odd name"', b"llvm.memcpy.p0.p0.i64"]), st.binary(max_size=3)),
    st.integers(1, 1 << 30),
    max_size=4,
).map(lambda called: tuple((name.replace(b"\n", b"."), count) for name, count in called.items()))
modules = st.lists(
    st.builds(
        Compiled,
        content=st.integers(0, 5),
        functions=st.lists(st.integers(1, 300), max_size=5).map(tuple),
        called=calls,
        declared=st.integers(0, 9),
    ),
    max_size=8,
)


def golden_module_part() -> PartStatistics:
    """Return the statistics in golden/part-modules-v2.arrow."""
    return module_part(
        [
            Compiled(n % 17, tuple(1 + (k * n) % 90 for k in range(n % 7)), ((b"puts", n + 1), (b"f%d" % n, 2)), n % 3)
            for n in range(40)
        ]
    )


GOLDEN_EXTRA = {"tokenmill.part": b'{"part":3,"split":"00017"}', "a": b"\x00\xff"}
