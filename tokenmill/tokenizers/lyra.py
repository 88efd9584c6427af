"""The `lyra` tokenizer: Lyra's SoundStream codec of speech, by its own TFLite networks, whose path is given.

Zeghidour et al., "SoundStream: an end-to-end neural audio codec", 2021; https://github.com/google/lyra has the
networks. They see one frame at a time and keep what they need of those before in state of their own, which nothing
sets back: each recording gets a fresh one. So codes of a recording depend on it alone, and memory does not grow.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import Field

from tokenmill.audio.audio_file import Samples
from tokenmill.audio.codec import CodecShape
from tokenmill.audio.recording import Recording
from tokenmill.audio.sound import Sound
from tokenmill.audio.tokenizer import AudioEncoder, AudioTokenizer, trimmed
from tokenmill.contract import Asset, hash_file
from tokenmill.errors import AssetError, TokenizerError
from tokenmill.registry import missing_extra
from tokenmill.streams import StreamSpec

RATE_HZ = 16_000
HOP_SAMPLES = 320
CODEBOOKS = 46
CODEBOOK_SIZE = 16
FILES = ("soundstream_encoder.tflite", "quantizer.tflite", "lyragan.tflite")

_CODES = "codes"
_FEATURES = 64
#: A TFLite file is a FlatBuffer: the offset of its root table, then its kind. Nothing smaller holds a network.
_KIND, _LEAST_BYTES = b"TFL3", 1024
_Shapes = dict[str, tuple[int, ...]]
#: What each network is called with and returns, by signature: names and shapes.
_SIGNATURES: dict[str, dict[str, tuple[_Shapes, _Shapes]]] = {
    FILES[0]: {"serving_default": ({"input_audio": (1, HOP_SAMPLES)}, {"output_0": (1, 1, _FEATURES)})},
    FILES[1]: {
        "encode": (
            {"input_frames": (1, 1, _FEATURES), "num_quantizers": ()},
            {"output_0": (CODEBOOKS, 1, 1), "output_1": ()},
        ),
        "decode": ({"encoding_indices": (CODEBOOKS, 1, 1)}, {"output_0": (1, 1, _FEATURES)}),
    },
    FILES[2]: {"serving_default": ({"input_audio": (1, 1, _FEATURES)}, {"output_0": (1, HOP_SAMPLES)})},
}


class LyraTokenizer(AudioTokenizer):
    """Lyra's SoundStream: speech at 16 kHz, 50 frames a second, up to 46 codebooks of 16 codes, each 0.2 kbit/s."""

    id: ClassVar[str] = "lyra"
    libraries: ClassVar[tuple[str, ...]] = (*AudioTokenizer.libraries, "ai-edge-litert")
    locations: ClassVar[frozenset[str]] = frozenset({"weights"})

    weights: str
    """A directory with Lyra's `soundstream_encoder.tflite`, `quantizer.tflite` and `lyragan.tflite`."""
    codebooks: int = Field(default=CODEBOOKS, ge=1, le=CODEBOOKS)
    """How many of the 46 codebooks: Lyra's own bitrates of 3.2, 6 and 9.2 kbit/s are 16, 30 and 46. The first of more
    are those of fewer, so that a loader can take fewer of a table that has all."""

    def shape(self) -> CodecShape:
        """Return the codec's shape: causal, a frame at a time, and exact at any length."""
        return CodecShape(
            rate_hz=RATE_HZ,
            hop_samples=HOP_SAMPLES,
            codebooks=self.codebooks,
            codebook_size=CODEBOOK_SIZE,
            strides=(1,) * self.codebooks,
            causal=True,
            chunk_frames=1,
            left_frames=0,  # the network's state holds what went before
            right_frames=0,
            exact=True,
        )

    def assets(self) -> dict[str, Asset]:
        """Hash the three files; raises AssetError where one is absent, or is no TFLite file."""
        for name in FILES:
            _read(self._path(name))
        return {name: hash_file(self._path(name)) for name in FILES}

    def code_streams(self) -> dict[str, StreamSpec]:
        """Return `codes`, (frame, codebook)."""
        return self.shape().streams()

    def check(self) -> None:
        """Load all three networks: planning finds those that are damaged, or are other ones than Lyra's."""
        self.load()
        self.decoder()

    def load(self, device: str = "cpu") -> LyraEncoder:
        """Return an encoder; raises AssetError, or MissingExtraError naming the extra."""
        if device != "cpu":
            raise TokenizerError(f"tokenizer {self.id!r} runs on the device 'cpu' (given {device!r})")
        return LyraEncoder(self.streams(), self.codebooks, self._network(FILES[0]), self._network(FILES[1]))

    def decoder(self) -> LyraDecoder:
        """Return a decoder; raises as `load` does."""
        return LyraDecoder(self._network(FILES[1]), self._network(FILES[2]))

    def _network(self, name: str) -> _Network:
        return _Network(self._path(name))

    def _path(self, name: str) -> Path:
        return Path(self.weights) / name


class LyraEncoder(AudioEncoder):
    """Sound to codes, a frame at a time.

    Args:
        specs: The tokenizer's streams.
        codebooks: How many codes a frame gets.
        encoder: From a frame's samples to its features.
        quantizer: From features to codes; it has no state.
    """

    def __init__(self, specs: Mapping[str, StreamSpec], codebooks: int, encoder: _Network, quantizer: _Network) -> None:
        super().__init__(RATE_HZ, specs)
        self._codebooks = codebooks
        self._encoder = encoder
        self._quantize = quantizer.fresh("encode")

    def row(self, recording: Recording) -> dict[str, npt.NDArray[Any]]:
        """Return `codes` of all frames, the last one filled up with silence; raises ItemError where it is damaged."""
        encode = self._encoder.fresh("serving_default")
        wanted = np.int32(self._codebooks)
        codes = bytearray()
        for frames in _frames(recording.blocks()):
            for number in range(len(frames)):
                features = encode(input_audio=frames[number : number + 1])["output_0"]
                found = self._quantize(input_frames=features, num_quantizers=wanted)["output_0"]
                codes += found[: self._codebooks].astype(np.uint8).tobytes()
        return {_CODES: np.frombuffer(codes, np.uint8).reshape(-1, self._codebooks)}


class LyraDecoder:
    """Codes to sound.

    Args:
        quantizer: From codes to features; it has no state.
        generator: From features to samples.
    """

    def __init__(self, quantizer: _Network, generator: _Network) -> None:
        self._dequantize = quantizer.fresh("decode")
        self._generator = generator

    def decode(self, streams: Mapping[str, npt.NDArray[Any]]) -> Sound:
        """Decode `codes` `[frame, codebook]`, of any number of codebooks up to 46."""
        codes = streams[_CODES]
        generate = self._generator.fresh("serving_default")
        samples = np.empty(len(codes) * HOP_SAMPLES, np.float32)
        # The quantizer's own mark of a codebook that is not there.
        indices = np.full((CODEBOOKS, 1, 1), -1, np.int32)
        for number, frame in enumerate(codes):
            indices[: len(frame), 0, 0] = frame
            features = self._dequantize(encoding_indices=indices)["output_0"]
            start = number * HOP_SAMPLES
            samples[start : start + HOP_SAMPLES] = generate(input_audio=features)["output_0"][0]
        return Sound(trimmed(samples, streams), RATE_HZ)

    def prefix(self, streams: Mapping[str, npt.NDArray[Any]], fraction: float) -> Mapping[str, npt.NDArray[Any]]:
        """Return a row with that fraction of its codebooks, the first ones, at least one."""
        codes = streams[_CODES]
        return {**streams, _CODES: codes[:, : max(1, round(fraction * codes.shape[1]))]}


class _Network:
    """A TFLite file, and as many interpreters of it as are wanted: each has state of its own.

    Args:
        path: One of Lyra's files.

    Raises:
        AssetError: It is none, or not the network that Lyra has under this name.
        MissingExtraError: The interpreter is not installed.
    """

    def __init__(self, path: Path) -> None:
        try:
            from ai_edge_litert.interpreter import Interpreter
        except ModuleNotFoundError as error:
            raise missing_extra(error, "tokenizer 'lyra'") from error
        self._interpreter = Interpreter
        self._content = _read(path)
        self._path = path
        wanted = _SIGNATURES[path.name]
        try:
            found = {name: _called_with(self.fresh(name)) for name in wanted}
            if found == wanted:
                for name in wanted:  # some damage shows only when a network runs
                    _try(self.fresh(name))
        except Exception as error:  # the interpreter raises several kinds, and they say why
            raise AssetError(
                f"the interpreter cannot run this network: {type(error).__name__}: {str(error)[:300]}",
                where=str(path),
                fix="give the files of Lyra's repository, whole",
            ) from error
        if found != wanted:
            raise AssetError(
                f"this network is called with other arrays than Lyra's: {found}; expected {wanted}",
                where=str(path),
                fix="give the files of Lyra's repository, version 1.3",
            )

    def fresh(self, signature: str) -> Any:
        """Return a function of an interpreter that has seen nothing yet: from named arrays to named arrays."""
        # One thread: a worker a core, and no sum that is added up in another order.
        interpreter = self._interpreter(model_content=self._content, num_threads=1)
        return interpreter.get_signature_runner(signature)


def _called_with(runner: Any) -> tuple[_Shapes, _Shapes]:
    return _shapes(runner.get_input_details()), _shapes(runner.get_output_details())


def _try(runner: Any) -> None:
    runner(**{name: np.ones(detail["shape"], detail["dtype"]) for name, detail in runner.get_input_details().items()})


def _shapes(details: Mapping[str, Any]) -> _Shapes:
    return {name: tuple(detail["shape"].tolist()) for name, detail in details.items()}


def _read(path: Path) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise AssetError(
            f"cannot read this file: {error.strerror}",
            where=str(path),
            fix=f"`weights` is a directory with Lyra's {', '.join(FILES)}",
        ) from error
    if len(content) < _LEAST_BYTES or content[4:8] != _KIND:
        raise AssetError(f"this is no TFLite file ({len(content):,} bytes)", where=str(path))
    return content


def _frames(blocks: Iterator[Samples]) -> Iterator[npt.NDArray[np.float32]]:
    """Cut blocks of any length into frames `[frame, sample]`; silence fills up the last one."""
    left = np.empty(0, np.float32)
    for block in blocks:
        samples = np.concatenate([left, block])
        whole = len(samples) // HOP_SAMPLES * HOP_SAMPLES
        left = samples[whole:]
        yield samples[:whole].reshape(-1, HOP_SAMPLES)
    if len(left):
        yield np.pad(left, (0, HOP_SAMPLES - len(left))).reshape(1, HOP_SAMPLES)
