"""Learning codebooks of levels and shapes, and the order of codes, from coefficients of recordings.

The same coefficients and settings give the same tables on one machine with one set of library versions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from tokenmill.tokenizers.mdct_rvq import coding
from tokenmill.tokenizers.mdct_rvq.model import (
    CODES,
    GAIN_UNIT,
    LARGEST_LEVEL,
    LARGEST_SHAPE,
    LEVEL_UNIT,
    MOST_CODEBOOKS,
    SHAPE_UNIT,
    VERSION,
    MdctRvqModel,
    search_of,
)
from tokenmill.tokenizers.mdct_rvq.transform import HOP, RATE_HZ

Floats = npt.NDArray[np.float64]
Singles = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]

#: A codebook that refines fewer of the frames than this share is left out.
_LEAST_USE = 0.002
#: Of fewer vectors than this nothing is learned: then those that the codebook before it was learned from are taken.
_FEWEST_VECTORS = 4 * CODES


@dataclass(frozen=True)
class TrainingSettings:
    """How large the tables become, and what they are made for.

    Attributes:
        band_widths: Coefficients of each band.
        group_widths: Coefficients of each group.
        stages: Codes of a frame that say its levels.
        depth: Most codes of a group.
        masking: By which power of its level a band hides errors: 0 for the least squared error, 1 for the same relative
            error everywhere.
        tilt: By which power of a group's frequency its errors are heard less, above 1 kHz.
        noise: Level of the noise that stands in for a group without codes, relative to the group's.
        level_vectors: Most frames that levels are learned from.
        shape_vectors: Most frames that a codebook of shapes is learned from.
        iterations: Rounds of k-means.
        seed: Of all that is drawn.
    """

    band_widths: tuple[int, ...] = (8,) * 12 + (16,) * 6 + (32,) * 4
    group_widths: tuple[int, ...] = (8,) * 12 + (16,) * 6 + (32,) * 4
    stages: int = 3
    depth: int = 6
    masking: float = 0.4
    tilt: float = 0.7
    noise: float = 0.5
    level_vectors: int = 120_000
    shape_vectors: int = 40_000
    iterations: int = 10
    seed: int = 0


def learn(frames: Singles, settings: TrainingSettings, report: Callable[[str], None]) -> MdctRvqModel:
    """Learn all tables.

    Args:
        frames: Whole numbers `[frame, coefficient]`, of frames that are not silent.
        settings: How large the tables become.
        report: Is told what is being done.
    """
    draw = np.random.default_rng(settings.seed)
    model = _blank(settings)
    levels = np.concatenate([coding.band_levels(model, some.astype(np.float64)) for some in _pieces(frames)])
    model = replace(model, levels=_learn_levels(levels, settings, draw))
    decoded = np.concatenate([coding.search_levels(model, some)[1] for some in _pieces(levels)])
    apart = np.sqrt(np.square(levels - decoded).mean()) * 10 * np.log10(2) / LEVEL_UNIT
    report(f"levels of {len(frames):,} frames: {apart:.2f} dB apart from what {settings.stages} codes say")
    shapes = np.concatenate(
        [
            coding.normalise(model, some.astype(np.float64), its)
            for some, its in zip(_pieces(frames), _pieces(decoded), strict=True)
        ]
    )
    return _learn_shapes(model, shapes, decoded, settings, draw, report)


def _pieces(values: npt.NDArray[Any]) -> Iterator[npt.NDArray[Any]]:
    for start in range(0, len(values), 4096):
        yield values[start : start + 4096]


def _blank(settings: TrainingSettings) -> MdctRvqModel:
    """Return a model whose codebooks hold nothing yet, and whose codes stand in the order that theory expects."""
    bands = np.concatenate([[0], np.cumsum(settings.band_widths)])
    groups = np.concatenate([[0], np.cumsum(settings.group_widths)])
    widths = np.diff(groups)
    # A code of 10 bits for n Gaussian values leaves 4 ** (-10 / n) of their power.
    left = 4.0 ** (-np.log2(CODES) / widths[:, None] * np.arange(settings.depth + 1))
    common = np.minimum(bands[1:, None], groups[1:]) - np.maximum(bands[:-1, None], groups[:-1])
    share = np.maximum(common, 0) / widths
    return MdctRvqModel(
        version=np.array([VERSION], np.int16),
        bands=bands.astype(np.int16),
        groups=groups.astype(np.int16),
        levels=np.zeros((settings.stages, CODES, len(bands) - 1), np.int16),
        shapes=np.zeros(HOP * settings.depth * CODES, np.int16),
        cell_groups=np.repeat(np.arange(len(widths)), settings.depth).astype(np.int16),
        cell_gains=_gains(left, groups, settings),
        weights=np.rint(GAIN_UNIT * (1 - settings.masking) * share).astype(np.int32),
        noise=np.zeros(len(widths), np.int16),
    )


def _gains(left: Floats, groups: Integers, settings: TrainingSettings) -> npt.NDArray[np.int32]:
    """Return how much each code of a group lowers the error as heard, at level 0: `[group * depth]`.

    Args:
        left: The share of the power that is left after so many codes, `[group, depth + 1]`.
        groups: Where groups begin, and the end of the last.
        settings: What is heard.
    """
    centres_khz = (groups[:-1] + groups[1:]) / 2 * RATE_HZ / 2 / HOP / 1000
    heard = np.diff(groups) * np.maximum(centres_khz, 1.0) ** -settings.tilt
    drops = np.maximum(left[:, :-1] - left[:, 1:], 1e-9) * heard[:, None]
    # A code never comes before the one that it refines.
    falling = np.minimum.accumulate(np.log2(drops), axis=1)
    gains: npt.NDArray[np.int32] = np.rint(falling * LEVEL_UNIT * GAIN_UNIT).astype(np.int32).reshape(-1)
    return gains


def _learn_levels(levels: Singles, settings: TrainingSettings, draw: np.random.Generator) -> npt.NDArray[np.int16]:
    rest = levels[draw.permutation(len(levels))[: settings.level_vectors]]
    stages = []
    for stage in range(settings.stages):
        codes = np.rint(k_means(rest, CODES if stage else CODES - 1, settings.iterations, draw))
        rest = rest - codes[coding.nearest(rest, *search_of(codes))]
        stages.append(codes if stage else np.concatenate([np.zeros((1, codes.shape[1]), np.float32), codes]))
    return np.stack(stages).clip(-LARGEST_LEVEL, LARGEST_LEVEL).astype(np.int16)


def _learn_shapes(
    model: MdctRvqModel,
    shapes: Singles,
    levels: Integers,
    settings: TrainingSettings,
    draw: np.random.Generator,
    report: Callable[[str], None],
) -> MdctRvqModel:
    groups = model.groups.astype(np.int64)
    wanted = MOST_CODEBOOKS - settings.stages
    # How many codes each group of each frame is given.
    depths = np.concatenate(
        [
            (coding.order_cells(model, some)[:, :wanted, None] // settings.depth == np.arange(len(groups) - 1)).sum(1)
            for some in _pieces(levels)
        ]
    )
    tables, cell_groups = [], []
    left = np.zeros((len(groups) - 1, settings.depth + 1))
    for group in range(len(groups) - 1):
        rest, given = shapes[:, groups[group] : groups[group + 1]], depths[:, group]
        left[group, 0] = np.square(rest).mean() / SHAPE_UNIT**2
        for depth in range(settings.depth):
            chosen = given > depth
            if depth and chosen.sum() < _LEAST_USE * len(levels):
                break
            if chosen.sum() >= _FEWEST_VECTORS:
                rest, given = rest[chosen], given[chosen]
            some = rest[draw.permutation(len(rest))[: settings.shape_vectors]]
            limit = LARGEST_SHAPE * SHAPE_UNIT
            codes = np.rint(k_means(some, CODES, settings.iterations, draw)).clip(-limit, limit)
            after = rest - codes[coding.nearest(rest, *search_of(codes))]
            left[group, depth + 1] = left[group, depth] * np.square(after).mean() / max(np.square(rest).mean(), 1.0)
            rest = after
            tables.append(codes.astype(np.int16).reshape(-1))
            cell_groups.append(group)
        decibels = " ".join(f"{10 * np.log10(share):.1f}" for share in left[group] if share)
        report(f"group {group}, {len(codes[0])} coefficients: power left after each code, in dB: {decibels}")
    counts = np.bincount(cell_groups)
    gains = _gains(left, groups, settings).reshape(len(counts), -1)
    noise = settings.noise * np.sqrt(left[:, 0]) * SHAPE_UNIT
    return replace(
        model,
        shapes=np.concatenate(tables),
        cell_groups=np.array(cell_groups, np.int16),
        cell_gains=np.concatenate([its[:count] for its, count in zip(gains, counts, strict=True)]),
        noise=np.rint(noise).astype(np.int16),
    )


def k_means(vectors: Singles, count: int, iterations: int, draw: np.random.Generator) -> Singles:
    """Return `count` codes near which vectors `[vector, value]` lie: `[code, value]` (Lloyd's algorithm).

    There are at least as many vectors as codes.
    """
    codes = vectors[draw.permutation(len(vectors))[:count]]
    for _ in range(iterations):
        named = coding.nearest(vectors, *search_of(codes))
        sizes = np.bincount(named, minlength=count)
        sums = np.stack([np.bincount(named, weights=column, minlength=count) for column in vectors.T], axis=1)
        apart = np.square(vectors - codes[named]).sum(axis=1)
        codes = (sums / np.maximum(sizes, 1)[:, None]).astype(np.float32)
        # Codes that nothing is near to go where the vectors are farthest from theirs.
        empty = np.flatnonzero(sizes == 0)
        codes[empty] = vectors[np.argsort(-apart, kind="stable")[: len(empty)]]
    return codes
