"""The tokenizer `mdct-rvq`: its config, its encoder and its decoder."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import Field

from tokenmill.audio.codec import CodecShape
from tokenmill.audio.recording import Recording
from tokenmill.audio.sound import Sound
from tokenmill.audio.tokenizer import AudioEncoder, AudioTokenizer, Row, trimmed
from tokenmill.contract import Asset
from tokenmill.errors import TokenizerError
from tokenmill.streams import StreamSpec
from tokenmill.tokenizers.mdct_rvq.coding import decode, encode
from tokenmill.tokenizers.mdct_rvq.model import CODES, MOST_CODEBOOKS, MdctRvqModel, load_model
from tokenmill.tokenizers.mdct_rvq.transform import BLOCK_FRAMES, HOP, RATE_HZ, Synthesis, analyse
from tokenmill.tokenizers.packaged_weights import PackagedWeights

_WEIGHTS = PackagedWeights(__file__, load_model)


class MdctRvqTokenizer(AudioTokenizer):
    """Codec tokens of sound by a cosine transform and learned codebooks, on any machine, without a download.

    75 frames a second of 24 kHz sound; each codebook is 0.75 kbit/s. Codes of fewer codebooks are the first of those of
    more, and decode, to a coarser sound.
    """

    id: ClassVar[str] = "mdct-rvq"
    locations: ClassVar[frozenset[str]] = frozenset({"weights"})

    codebooks: int = Field(default=8, ge=1, le=MOST_CODEBOOKS)
    """Codes of a frame: 4 are 3, 8 are 6, 16 are 12 and 32 are 24 kbit/s."""
    weights: str | None = None
    """Path of a weights file of one's own, made by `tokenmill train mdct-rvq`; without it the packaged one is used."""

    def assets(self) -> dict[str, Asset]:
        """Return the weights file."""
        return {"weights": _WEIGHTS.asset(self.weights)}

    def shape(self) -> CodecShape:
        """Return the codec's shape. A frame sees HOP samples before and after its own place, and nothing else."""
        return CodecShape(
            rate_hz=RATE_HZ,
            hop_samples=HOP,
            codebooks=self.codebooks,
            codebook_size=CODES,
            strides=(1,) * self.codebooks,
            causal=False,
            chunk_frames=BLOCK_FRAMES,
            left_frames=1,
            right_frames=1,
            exact=True,
        )

    def code_streams(self) -> dict[str, StreamSpec]:
        """Return `codes` (frame, codebook)."""
        return self.shape().streams()

    def load(self, device: str = "cpu") -> MdctRvqEncoder:
        """Return an encoder; raises AssetError where the weights are damaged, TokenizerError for another device."""
        if device != "cpu":
            raise TokenizerError(f"tokenizer {self.id!r} runs on the device 'cpu' alone (given {device!r})")
        return MdctRvqEncoder(_WEIGHTS.model(self.weights), self.codebooks, self.streams())

    def decoder(self) -> MdctRvqDecoder:
        """Return a decoder; raises AssetError where the weights are damaged."""
        return MdctRvqDecoder(_WEIGHTS.model(self.weights))


class MdctRvqEncoder(AudioEncoder):
    """Turns recordings into codes, block by block: nothing about a frame depends on any other.

    Args:
        model: The learned tables.
        codebooks: Codes of a frame.
        specs: The tokenizer's streams.
    """

    def __init__(self, model: MdctRvqModel, codebooks: int, specs: Mapping[str, StreamSpec]) -> None:
        super().__init__(RATE_HZ, specs)
        self._model = model
        self._codebooks = codebooks

    def row(self, recording: Recording) -> Row:
        """Return `codes` `[frame, codebook]`: `ceil(samples / HOP) + 1` frames, none of a recording of no samples."""
        blocks = [encode(self._model, some, self._codebooks) for some in analyse(recording.blocks())]
        return {"codes": np.concatenate([np.empty((0, self._codebooks), np.uint16), *blocks])}


class MdctRvqDecoder:
    """Turns codes, of any number of codebooks, back into sound."""

    def __init__(self, model: MdctRvqModel) -> None:
        self._model = model

    def decode(self, streams: Mapping[str, npt.NDArray[Any]]) -> Sound:
        """Return the sound at 24 kHz that a row's `codes` `[frame, codebook]`, whole or cut, stand for.

        With `recording`, it has the recording's own number of samples; without, as many as the frames complete.
        """
        codes = streams["codes"]
        synthesis = Synthesis()
        parts = [np.empty(0, np.float32)]
        for start in range(0, len(codes), BLOCK_FRAMES):
            some = codes[start : start + BLOCK_FRAMES].astype(np.int64)
            parts.append(synthesis.samples(decode(self._model, some, start)))
        samples = np.concatenate(parts)
        return Sound(trimmed(samples, streams), RATE_HZ)

    def prefix(self, streams: Mapping[str, npt.NDArray[Any]], fraction: float) -> dict[str, npt.NDArray[Any]]:
        """Return the row with that fraction of its codebooks, one at least; it decodes coarser."""
        codes = streams["codes"]
        return {**streams, "codes": codes[:, : max(math.ceil(codes.shape[1] * fraction), 1)]}
