"""Ragged codecs: codebooks of different frame rates, each rate a stream of its own, put side by side in time.

from tokenmill.loader import Flat, Ragged

ragged = Ragged((4, 2, 1))  # SNAC's strides: codes_4, codes_2 and codes_1
layout = Flat().layout_of(ragged.books, codebook_size=4096)
tokens = layout.lay_out(ragged.join(streams))  # one coarse code, its two, its four; then the next coarse one
ragged.split(layout.undo(tokens))              # the streams again

What is one frame to a pattern is here as long as a code of the coarsest codebook.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from tokenmill.errors import LoaderError


class Ragged:
    """Streams `codes_<stride>` of one codec, coarsest first.

    Args:
        strides: For each codebook, how many frames of the finest one a code of it stands for (`CodecShape.strides`).

    Attributes:
        widths: Name of each stream → codes of it in a frame of the coarsest.
        books: int `[code]`, the codebook of each code of such a frame, coarsest first.

    Raises:
        LoaderError: the strides are not multiples of one another, or not in descending order.
    """

    def __init__(self, strides: Sequence[int]) -> None:
        coarsest = strides[0]
        if any(fine < 1 or coarse % fine for coarse, fine in pairwise(strides)) or coarsest < 1:
            raise LoaderError(
                f"codebooks with the strides {tuple(strides)} have no frames in common: each stride must be a multiple "
                "of the next one"
            )
        self.widths: dict[str, int] = {}
        self._repeats: dict[str, int] = {}
        books: list[int] = []
        for stride in dict.fromkeys(strides):
            own = [book for book, other in enumerate(strides) if other == stride]
            repeats = coarsest // stride
            self.widths[f"codes_{stride}"] = len(own) * repeats
            self._repeats[f"codes_{stride}"] = repeats
            books += own * repeats
        self.books = tuple(books)

    def join(self, streams: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[np.int64]:
        """Put a row's streams side by side.

        Args:
            streams: Name → integers `[frame, codebook]`; others are left out.

        Returns:
            int64 `[frame of the coarsest, code]`.

        Raises:
            LoaderError: a stream is missing, or is not as long as the others.
        """
        missing = [name for name in self.widths if name not in streams]
        if missing:
            raise LoaderError(f"there is no stream {missing[0]!r} among {', '.join(streams)}")
        frames = {divmod(streams[name].size, width) for name, width in self.widths.items()}
        if len(frames) > 1 or frames.pop()[1]:
            lengths = ", ".join(f"{name} {len(streams[name])}" for name in self.widths)
            raise LoaderError(f"the streams of one row are not equally long in time: {lengths} frames")
        return np.concatenate(
            [streams[name].reshape(-1, width) for name, width in self.widths.items()], axis=1, dtype=np.int64
        )

    def split(self, codes: npt.NDArray[Any]) -> dict[str, npt.NDArray[Any]]:
        """Return the streams `[frame, codebook]` of codes `[frame of the coarsest, code]`, of the first codebooks."""
        streams: dict[str, npt.NDArray[Any]] = {}
        kept = self._kept(codes.shape[1])
        begin = 0
        for (name, repeats), count in zip(self._repeats.items(), kept, strict=True):
            if count:
                streams[name] = codes[:, begin : begin + count * repeats].reshape(-1, count)
            begin += count * repeats
        return streams

    def _kept(self, columns: int) -> list[int]:
        """Return how many codebooks of each stream are there where so many codes of a frame are."""
        kept, left = [], columns
        for name, repeats in self._repeats.items():
            kept.append(min(left, self.widths[name]) // repeats)
            left -= kept[-1] * repeats
        if left:
            raise LoaderError(
                f"{columns} codes of a frame are not those of the first codebooks of {tuple(self.widths)}"
            )
        return kept
