"""The shape of a codec: rate, hop, codebooks, and how much of a recording it must see around a piece of it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tokenmill.streams import StreamSpec, narrowest_dtype

#: The codes of one piece of a recording, or of all of it: `[frame, codebook]` for each stream.
Codes = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True, slots=True)
class CodecShape:
    """What a codec's tables and the cutting of long recordings need to know of it.

    Attributes:
        rate_hz: Sample rate of its input and output.
        hop_samples: Samples that a frame of the finest codebook stands for.
        codebooks: How many codebooks there are.
        codebook_size: Ids of each.
        strides: For each codebook, how many frames one code of it stands for: all 1, or ragged, as SNAC's 4, 2, 1.
        causal: Whether a frame depends on nothing after it.
        chunk_frames: Frames that are computed at once of a long recording; a multiple of all strides.
        left_frames: Frames before a chunk that the codec is shown with it; a multiple of all strides.
        right_frames: Frames after it.
        exact: Whether codes computed so are those of the recording in one piece: whether the context, and what is
            carried from chunk to chunk, cover all that a frame can depend on.
        overlap_samples: Samples that neighbouring chunks share, of a codec that codes every chunk by itself.
    """

    rate_hz: int
    hop_samples: int
    codebooks: int
    codebook_size: int
    strides: tuple[int, ...]
    causal: bool
    chunk_frames: int
    left_frames: int
    right_frames: int
    exact: bool
    overlap_samples: int = 0

    @property
    def frame_hz(self) -> float:
        """Frames a second of the finest codebook."""
        chunk_samples = self.chunk_frames * self.hop_samples
        return self.rate_hz / self.hop_samples * (chunk_samples / (chunk_samples - self.overlap_samples))

    @property
    def whole_frames(self) -> int:
        """The least number of frames that is a whole number of codes in every codebook."""
        return math.lcm(*self.strides)

    def streams(self) -> dict[str, StreamSpec]:
        """Return the codes' streams.

        `codes` (frame, codebook) where all strides are 1; of a ragged codec `codes_<stride>` for each stride, with the
        codebooks of that stride.
        """
        return {
            name: StreamSpec(
                narrowest_dtype(self.codebook_size),
                dims=("frame", "codebook"),
                shape=(None, self.strides.count(stride)),
                vocabulary_size=self.codebook_size,
                bands="codebook",
                frame_hz=self.frame_hz / stride,
            )
            for name, stride in self._names().items()
        }

    def kept(self, codes: Codes, skip_frames: int, keep_frames: int | None) -> dict[str, npt.NDArray[Any]]:
        """Return the codes of some frames of a piece.

        Args:
            codes: The piece's, each stream `[frame, codebook]`.
            skip_frames: Frames before the wanted ones; a multiple of all strides.
            keep_frames: How many are wanted, a multiple of all strides; None for all that are left.
        """
        stop = None if keep_frames is None else skip_frames + keep_frames
        return {
            name: codes[name][skip_frames // stride : None if stop is None else stop // stride]
            for name, stride in self._names().items()
        }

    def joined(self, pieces: Sequence[Codes]) -> dict[str, npt.NDArray[Any]]:
        """Return the codes of a recording from those of its pieces, in order, cast to their streams' dtypes."""
        return {
            name: np.concatenate(
                [np.empty((0, spec.shape[1] or 0), spec.dtype), *(piece[name].astype(spec.dtype) for piece in pieces)]
            )
            for name, spec in self.streams().items()
        }

    def _names(self) -> dict[str, int]:
        """Return each stream's stride."""
        if set(self.strides) == {1}:
            return {"codes": 1}
        return {f"codes_{stride}": stride for stride in dict.fromkeys(self.strides)}
