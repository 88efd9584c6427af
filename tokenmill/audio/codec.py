"""The shape of a codec: rate, hop, codebooks, and how much of a recording it must see around a piece of it."""

from __future__ import annotations

from dataclasses import dataclass

from tokenmill.streams import StreamSpec, narrowest_dtype


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
        left_frames: Frames before a chunk that the codec is shown with it.
        right_frames: Frames after it.
        exact: Whether codes computed so are those of the recording in one piece: whether the context covers all that
            a frame can depend on.
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

    @property
    def frame_hz(self) -> float:
        """Frames a second of the finest codebook."""
        return self.rate_hz / self.hop_samples

    def streams(self) -> dict[str, StreamSpec]:
        """Return the codes' streams.

        `codes` (frame, codebook) where all strides are 1; of a ragged codec `codes_<stride>` for each stride, with the
        codebooks of that stride.
        """
        counts: dict[int, int] = {}
        for stride in self.strides:
            counts[stride] = counts.get(stride, 0) + 1
        return {
            "codes" if set(counts) == {1} else f"codes_{stride}": StreamSpec(
                narrowest_dtype(self.codebook_size),
                dims=("frame", "codebook"),
                shape=(None, count),
                vocabulary_size=self.codebook_size,
                bands="codebook",
                frame_hz=self.frame_hz / stride,
            )
            for stride, count in counts.items()
        }
