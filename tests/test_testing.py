"""The contract kit passes what keeps the contract, and names each promise that is broken."""

from __future__ import annotations

import io
import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from tests.toy_codec import ToyCodec, ToyDecoder, ToyEncoder
from tokenmill.audio.recording import Recording
from tokenmill.audio.sound import Sound
from tokenmill.contract import Asset, Decoder, Encoded, Encoder, TokenClasses, Tokenizer, hash_file
from tokenmill.errors import SpecError, TokenizerError
from tokenmill.images.geometry import Geometry, Placed
from tokenmill.images.image_file import ImageFile
from tokenmill.images.tokenizer import ImagePreparation, ImageTokenizer
from tokenmill.streams import Jagged, StreamSpec
from tokenmill.testing import Case, audio_case, check_tokenizer

COUNTER = itertools.count()


class Characters(Tokenizer):
    """A tokenizer of ASCII characters that keeps every promise."""

    id: ClassVar[str] = "characters"
    locations: ClassVar[frozenset[str]] = frozenset({"path"})

    path: str
    upper: bool = False

    def assets(self) -> dict[str, Asset]:
        return {"vocabulary": hash_file(self.path)}

    def streams(self) -> dict[str, StreamSpec]:
        return {"ids": StreamSpec("uint8", vocabulary_size=128)}

    def load(self, device: str = "cpu") -> Encoder:
        if device != "cpu":
            raise TokenizerError(f"{device!r} is not a device of this tokenizer")
        return _Encoder(self)

    def decoder(self) -> Decoder | None:
        return _Decoder()

    def ids_of(self, texts: Sequence[str]) -> list[bytes]:
        return [text.encode("ascii") for text in texts]


class _Encoder:
    def __init__(self, tokenizer: Characters) -> None:
        self._tokenizer = tokenizer

    def encode(self, payloads: Sequence[Any]) -> Encoded:
        rows = self._tokenizer.ids_of(payloads)
        lengths = np.array([len(row) for row in rows], np.int64)
        return Encoded({"ids": Jagged.from_lengths(np.frombuffer(b"".join(rows), np.uint8), lengths)})


class _Decoder:
    def decode(self, streams: Mapping[str, Any]) -> str:
        text: str = streams["ids"].tobytes().decode()
        return text


class DependsOnNeighbours(Characters):
    def ids_of(self, texts: Sequence[str]) -> list[bytes]:
        width = max((len(text) for text in texts), default=0)
        return [text.ljust(width).encode() if text else b"" for text in texts]


class DependsOnThePast(Characters):
    def ids_of(self, texts: Sequence[str]) -> list[bytes]:
        return [text.encode() + bytes([next(COUNTER) % 100]) if text else b"" for text in texts]


class LeavesTheVocabulary(Characters):
    def ids_of(self, texts: Sequence[str]) -> list[bytes]:
        return [b"\xff" if text else b"" for text in texts]


class DropsEmptyTexts(Characters):
    def ids_of(self, texts: Sequence[str]) -> list[bytes]:
        return [text.encode() or b"?" for text in texts]


class DecodesWrongly(Characters):
    def decoder(self) -> Decoder:
        class Wrong:
            def decode(self, streams: Mapping[str, Any]) -> str:
                return "?"

        return Wrong()


class NeedsItsWeightsToPlan(Characters):
    def streams(self) -> dict[str, StreamSpec]:
        self.load()
        return super().streams()


class TakesAnyDevice(Characters):
    def load(self, device: str = "cpu") -> Encoder:
        return _Encoder(self)


class ForgetsAField(Characters):
    locations: ClassVar[frozenset[str]] = frozenset({"path", "upper"})


class IgnoresItsAsset(Characters):
    def assets(self) -> dict[str, Asset]:
        return {"vocabulary": Asset(self.path, "0" * 64, 1)}


class HasRandomStreams(Characters):
    def streams(self) -> dict[str, StreamSpec]:
        return {"ids": StreamSpec("uint8", vocabulary_size=128 + next(COUNTER))}


class HasClassesOutside(Characters):
    def token_classes(self) -> TokenClasses:
        return TokenClasses(special=(128,))


class HidesAField(Characters):
    def __repr__(self) -> str:
        return "HidesAField()"


class IsNotFrozen(Characters, frozen=False):
    pass


class NamesNoFieldAsLocation(Characters):
    locations: ClassVar[frozenset[str]] = frozenset({"path", "pth"})


def case(kind: type[Characters], directory: Path, **changes: Any) -> Case:
    source = directory / "vocabulary"
    source.write_bytes(b"abc")

    def moved(to: Path) -> Characters:
        (to / "moved").write_bytes(b"abc")
        return kind(path=str(to / "moved"))

    fields: dict[str, Any] = {
        "tokenizer": kind(path=str(source)),
        "payloads": ["a", "bc" * 20, "d e f"],
        "variants": [kind(path=str(source), upper=True)],
        "moved": moved,
    }
    return Case(**(fields | changes))


def run(checked: Case, directory: Path) -> None:
    (directory / "work").mkdir()
    check_tokenizer(checked, directory / "work")


def test_what_keeps_the_contract_passes(tmp_path: Path) -> None:
    run(case(Characters, tmp_path), tmp_path)


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        (DependsOnNeighbours, "all in one batch, payload 0"),
        (DependsOnThePast, "payload 0: stream 'ids'"),
        (LeavesTheVocabulary, "holds id 255"),
        (DropsEmptyTexts, "empty payloads have 1 and 1 tokens"),
        (DecodesWrongly, "payload 0 decodes to"),
        (NeedsItsWeightsToPlan, "planning must do without"),
        (TakesAnyDevice, "did not raise TokenizerError"),
        (ForgetsAField, "has the fingerprint of"),
        (IgnoresItsAsset, "did not notice"),
        (HasRandomStreams, "in another process"),
        (HasClassesOutside, "outside the vocabulary of 128"),
        (HidesAField, r"lacks \['path', 'upper'\]"),
        (IsNotFrozen, "must be frozen"),
        (NamesNoFieldAsLocation, "what are no fields"),
    ],
)
def test_what_breaks_it_is_named(kind: type[Characters], says: str, tmp_path: Path) -> None:
    with pytest.raises((AssertionError, SpecError), match=says):
        run(case(kind, tmp_path), tmp_path)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (lambda made: {"variants": []}, "no variant changes the field 'upper'"),
        (lambda made: {"payloads": ["a"]}, "at least three payloads"),
        (lambda made: {"moved": None}, "the case needs `moved`"),
        (lambda made: {"moved": lambda _: made}, "outside"),
        (lambda made: {"decodes_to": ["a", "x", "d e f"]}, "payload 1 decodes to"),
    ],
)
def test_a_case_that_checks_too_little_is_refused(
    changes: Callable[[Characters], dict[str, Any]], says: str, tmp_path: Path
) -> None:
    source = tmp_path / "vocabulary"
    source.write_bytes(b"abc")
    with pytest.raises(AssertionError, match=says):
        run(case(Characters, tmp_path, **changes(Characters(path=str(source)))), tmp_path)


class Brightness(ImageTokenizer):
    """An image tokenizer of few words: an image's brightness, then that of what the earlier tokens leave over."""

    id: ClassVar[str] = "brightness"

    geometry: Geometry = Geometry(mode="crop", edge=16)
    tokens: int = 4

    def code_streams(self) -> dict[str, StreamSpec]:
        one = StreamSpec("float32", dims=("value",), shape=(1,), error_of="ids")
        return {"ids": StreamSpec("uint8", vocabulary_size=256, bands="octave"), "error": one}

    def load(self, device: str = "cpu") -> Encoder:
        if device != "cpu":
            raise TokenizerError(f"{device!r} is not a device of this tokenizer")
        return _BrightnessEncoder(self)

    def decoder(self) -> Decoder | None:
        return _BrightnessDecoder()


class _BrightnessEncoder(ImagePreparation):
    def __init__(self, tokenizer: Brightness) -> None:
        super().__init__(tokenizer.geometry)
        self._tokenizer = tokenizer

    def encode(self, payloads: Sequence[Placed]) -> Encoded:
        ids, errors = [], []
        for placed in payloads:
            mean = int(placed.pixels.mean())
            # A dark image takes one token.
            ids.append(np.array([mean] + [255 - mean] * (self._tokenizer.tokens - 1 if mean > 20 else 0)))
            errors.append(np.array([abs(placed.pixels.astype(np.float32) - mean).mean() / 255], np.float32))
        specs = self._tokenizer.streams()
        streams = {"ids": ids, "error": errors, "geometry": [placed.numbers(16) for placed in payloads]}
        return Encoded({name: Jagged.from_rows(rows, specs[name]) for name, rows in streams.items()})


class _BrightnessDecoder:
    def decode(self, streams: Mapping[str, Any]) -> Image.Image:
        height, width = streams["geometry"][2:4]
        return Image.new("RGB", (int(width), int(height)), (int(streams["ids"][0]),) * 3)

    def prefix(self, streams: Mapping[str, npt.NDArray[Any]], fraction: float) -> Mapping[str, npt.NDArray[Any]]:
        tokens = self.cut(len(streams["ids"]), fraction)
        return {**streams, "ids": streams["ids"][:tokens]}

    def cut(self, tokens: int, fraction: float) -> int:
        return max(round(tokens * fraction), min(tokens, 1))


class CutsToNothing(Brightness):
    def decoder(self) -> Decoder:
        class Decoder(_BrightnessDecoder):
            def cut(self, tokens: int, fraction: float) -> int:
                return int(tokens * fraction * fraction)

        return Decoder()


class CutsAtWill(Brightness):
    def decoder(self) -> Decoder:
        class Decoder(_BrightnessDecoder):
            def cut(self, tokens: int, fraction: float) -> int:
                return max(1, round(tokens * (1 - fraction))) if fraction < 1 else tokens

        return Decoder()


class NeverWhole(Brightness):
    def decoder(self) -> Decoder:
        class Decoder(_BrightnessDecoder):
            def cut(self, tokens: int, fraction: float) -> int:
                return 1

        return Decoder()


class PrefixesDecodeToSomethingElse(Brightness):
    def decoder(self) -> Decoder:
        class Decoder(_BrightnessDecoder):
            def decode(self, streams: Mapping[str, Any]) -> Any:
                return super().decode(streams) if len(streams["ids"]) in (1, 4) else None

        return Decoder()


class PreparesBySharedMemory(Brightness):
    """Its `prepare` is not safe to call from several threads: images come back with the pixels of others."""

    def load(self, device: str = "cpu") -> Encoder:
        class Encoder(_BrightnessEncoder):
            def prepare(self, payload: Any) -> Placed:
                self.last = super().prepare(payload)
                time.sleep(0.05)
                return self.last

        return Encoder(self) if device == "cpu" else super().load(device)


class SaysNotHowMany(Brightness):
    def load(self, device: str = "cpu") -> Encoder:
        encoder = super().load(device)
        del encoder.batch_items  # type: ignore[attr-defined]
        return encoder


class ErrsOfNothing(Brightness):
    def code_streams(self) -> dict[str, StreamSpec]:
        streams = super().code_streams()
        return {**streams, "error": replace(streams["error"], error_of="codes")}


class ErrsTwice(Brightness):
    def code_streams(self) -> dict[str, StreamSpec]:
        streams = super().code_streams()
        return {**streams, "error": replace(streams["error"], shape=(2,))}


def image_file(level: int, size: tuple[int, int]) -> ImageFile:
    file = io.BytesIO()
    Image.new("RGB", size, (level, level, level)).save(file, "PNG")
    return ImageFile(file.getvalue())


IMAGES = [image_file(10, (40, 30)), image_file(200, (16, 16)), image_file(90, (300, 20))]


def images(kind: type[Brightness], **changes: Any) -> Case:
    def is_as_bright(payload: ImageFile, decoded: Image.Image) -> bool:
        return decoded.size == (16, 16) and decoded.getpixel((3, 3)) == tuple(payload.pixels()[0, 0].tolist())

    fields: dict[str, Any] = {
        "tokenizer": kind(),
        "payloads": IMAGES,
        "variants": [kind(tokens=3), kind(geometry=Geometry(mode="crop", edge=32))],
        "empty": None,
        "decodes": is_as_bright,
    }
    return Case(**(fields | changes))


def test_a_tokenizer_of_images_passes(tmp_path: Path) -> None:
    run(images(Brightness), tmp_path)


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        (CutsToNothing, r"payload 0, prefix 0.25: 0 tokens in 'ids'"),
        (CutsAtWill, r"payload 1, prefix 0.5: 2 tokens in 'ids'; the next shorter prefix has 3, the row 4"),
        (NeverWhole, r"payload 1, prefix 1: stream 'ids' is uint8\[1\] \[200\], the row is uint8\[4\]"),
        (PrefixesDecodeToSomethingElse, "payload 1, prefix 0.5 decodes to NoneType, the row to Image"),
        (PreparesBySharedMemory, "all in one batch, payload"),
        (SaysNotHowMany, "has `prepare` and no `batch_items`"),
        (ErrsOfNothing, "stream 'error' is error_of 'codes', which is no stream"),
        (ErrsTwice, "not one float a row"),
    ],
)
def test_what_breaks_a_promise_of_images_is_named(kind: type[Brightness], says: str, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=says):
        run(images(kind), tmp_path)


def test_an_image_of_a_case_must_decode(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="could not be prepared"):
        run(images(Brightness, payloads=[*IMAGES, ImageFile(b"GIF89a")]), tmp_path)


def test_what_a_lossy_payload_may_decode_to_is_the_cases_to_say(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=r"payload 0 decodes to .* which the case's `decodes` refuses"):
        run(images(Brightness, decodes=lambda payload, decoded: False), tmp_path)


class Hears(ToyCodec):
    """A codec whose rows can be made wrong."""

    def load(self, device: str = "cpu") -> Encoder:
        if device != "cpu":
            return super().load(device)
        kind = self

        class Encoder(ToyEncoder):
            def encode(self, payloads: Sequence[Recording]) -> Encoded:
                return kind.encoded(super().encode(payloads))

            def row(self, recording: Recording) -> dict[str, npt.NDArray[Any]]:
                return kind.heard(recording, super().row(recording))

        return Encoder(self)

    def encoded(self, encoded: Encoded) -> Encoded:
        return encoded

    def heard(self, recording: Recording, row: dict[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        return row


class HearsHalf(Hears):
    def heard(self, recording: Recording, row: dict[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        return {"codes": row["codes"][: (len(row["codes"]) + 1) // 2]}


class HearsBlocks(Hears):
    def heard(self, recording: Recording, row: dict[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        codes = row["codes"].copy()
        codes[:1, 0] = sum(1 for _ in recording.blocks()) % 16
        return {"codes": codes}


class SaysAnotherLevel(Hears):
    def encoded(self, encoded: Encoded) -> Encoded:
        level = encoded.streams["level"]
        return Encoded({**encoded.streams, "level": Jagged(level.values - 1, level.shapes)}, encoded.failures)


class PreparesSamples(ToyCodec):
    def load(self, device: str = "cpu") -> Encoder:
        class Encoder(ToyEncoder):
            def prepare(self, payload: Any) -> Any:
                return _Held(super().prepare(payload))

            def encode(self, payloads: Sequence[Any]) -> Encoded:
                return super().encode([held.recording for held in payloads])

        return Encoder(self) if device == "cpu" else super().load(device)


class _Held:
    def __init__(self, recording: Recording) -> None:
        self.recording = recording


class DecodesTo(ToyCodec):
    def decoder(self) -> Decoder:
        kind = self

        class Decoder(ToyDecoder):
            def decode(self, streams: Mapping[str, npt.NDArray[Any]]) -> Any:
                return kind.sounds(super().decode(streams))

        return Decoder(self)

    def sounds(self, sound: Sound) -> Any:
        return sound


class DecodesToNumbers(DecodesTo):
    def sounds(self, sound: Sound) -> Any:
        return sound.samples


class DecodesToDoubles(DecodesTo):
    def sounds(self, sound: Sound) -> Any:
        return sound._replace(samples=sound.samples.astype(np.float64))


class DecodesToNoise(DecodesTo):
    def sounds(self, sound: Sound) -> Any:
        return sound._replace(samples=sound.samples / np.float32(np.nan))


class DecodesTooLong(DecodesTo):
    def sounds(self, sound: Sound) -> Any:
        return sound._replace(samples=np.append(sound.samples, np.zeros(3, np.float32)))


class DecodesTooSlow(DecodesTo):
    def sounds(self, sound: Sound) -> Any:
        return sound._replace(rate_hz=4_000)


class CutsFrames(ToyCodec):
    def decoder(self) -> Decoder:
        class Decoder(ToyDecoder):
            def prefix(
                self, streams: Mapping[str, npt.NDArray[Any]], fraction: float
            ) -> Mapping[str, npt.NDArray[Any]]:
                return {**streams, "codes": streams["codes"][: round(len(streams["codes"]) * fraction)]}

        return Decoder(self)


def audio(kind: type[ToyCodec], **changes: Any) -> Case:
    return audio_case(kind(), [kind(hop_samples=5), kind(codebooks=3), kind(fewest_frames=1)], seconds=0.2, **changes)


def test_a_tokenizer_of_sound_passes(tmp_path: Path) -> None:
    run(audio(ToyCodec), tmp_path)


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        (HearsHalf, r"payload 0: stream 'codes' has 200 frames; 0.200 s at its frame_hz of 2000 are 400.0"),
        (HearsBlocks, r"payload 0, in blocks of other lengths: stream 'codes'"),
        (SaysAnotherLevel, r"payload 0: stream 'level' is \[.*\], its recording's \["),
        (PreparesSamples, r"returns a Recording, no _Held"),
        (DecodesToNumbers, r"what payload 0 decodes to is ndarray, no Sound"),
        (DecodesToDoubles, r"what payload 0 decodes to holds float64\[1600\] in place of float32 \[sample\]"),
        (DecodesToNoise, r"what payload 0 decodes to holds samples that are no finite numbers"),
        (DecodesTooLong, r"what payload 0 decodes to has 1603 samples; the recording had 1600"),
        (DecodesTooSlow, r"has a rate of 4000 Hz; the tokenizer was given 8000 Hz"),
        (CutsFrames, r"what payload 0, prefix 0.25 decodes to has 400 samples; the recording had 1600"),
    ],
)
def test_what_breaks_a_promise_of_sound_is_named(kind: type[ToyCodec], says: str, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=says):
        run(audio(kind), tmp_path)


def test_what_sound_may_decode_to_can_be_the_cases_to_say(tmp_path: Path) -> None:
    run(audio(DecodesToDoubles, decodes=lambda payload, decoded: decoded.rate_hz == 8_000), tmp_path)
