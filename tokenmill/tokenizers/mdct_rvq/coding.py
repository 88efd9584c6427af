"""Coefficients to codes and back.

A frame's first codes say its levels: the power of each band, together, in residual stages. Which groups of
coefficients the codes after them refine, and in which order, follows from these levels: at each step the group where a
code is expected to lower the audible error most. Nothing of this order is stored, and every number of codes decodes.

Everything that is searched for is a small whole number, so that distances are exact in float32: codes depend on no
BLAS, no batch and no neighbour.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tokenmill.tokenizers.mdct_rvq.model import LARGEST_LEVEL, LEVEL_UNIT, SHAPE_UNIT, MdctRvqModel

Floats = npt.NDArray[np.float64]
Singles = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]

#: Levels of a frame's bands lie at most this far below its loudest.
LEVEL_RANGE = 20 * LEVEL_UNIT
#: The lowest level: coefficients of about one unit.
LOWEST_LEVEL = LEVEL_UNIT
#: Coefficients are cut off at this many times their band's level: sums of products with codes stay below 2**24.
_LARGEST = 16
#: First codes of the levels with which the search for the others begins.
_STARTS = 6
#: Rows of a table of distances: few enough that it stays in a core's cache.
_ROWS_AT_ONCE = 256

_DIVISORS = 2.0 ** (np.arange(LARGEST_LEVEL + 1) / (-2 * LEVEL_UNIT)) * SHAPE_UNIT
_FACTORS = 2.0 ** (np.arange(LARGEST_LEVEL + 1) / (2 * LEVEL_UNIT)) / SHAPE_UNIT


def band_levels(model: MdctRvqModel, coefficients: Floats) -> Singles:
    """Return the mean power of each band, its logarithm to base 2 in LEVEL_UNIT: whole numbers `[frame, band]`."""
    powers = np.add.reduceat(np.square(coefficients), model.bands[:-1], axis=1)
    powers /= model.band_widths
    levels = np.rint(np.log2(np.maximum(powers, 1.0)) * LEVEL_UNIT)
    floors = np.maximum(levels.max(axis=1, keepdims=True) - LEVEL_RANGE, LOWEST_LEVEL)
    found: Singles = np.maximum(levels, floors).astype(np.float32)
    return found


def nearest(vectors: Singles, codebook: Singles, offsets: Singles) -> Integers:
    """Return the nearest code of each vector, the first of equals.

    Args:
        vectors: Whole numbers `[vector, value]`.
        codebook: Whole numbers `[value, code]`, times -2.
        offsets: The codes' squared lengths `[code]`.
    """
    found = np.empty(len(vectors), np.int64)
    for start in range(0, len(vectors), _ROWS_AT_ONCE):
        some = slice(start, start + _ROWS_AT_ONCE)
        scores = vectors[some] @ codebook
        scores += offsets
        found[some] = scores.argmin(axis=1)
    return found


def search_levels(model: MdctRvqModel, levels: Singles) -> tuple[Integers, Integers]:
    """Return the codes of levels `[frame, band]`, `[frame, stage]`, and the levels that they stand for.

    The few nearest codes of the first stage are followed to the end, and the best of these ways is taken.
    """
    stages = len(model.levels)
    frames = len(levels)
    first = levels @ model.level_searches[0].codebook
    first += model.level_searches[0].offsets
    starts = min(_STARTS, first.shape[1])
    begun = np.argpartition(first, starts - 1, axis=1)[:, :starts]
    begun.sort(axis=1)
    codes = np.empty((frames * starts, stages), np.int64)
    codes[:, 0] = begun.reshape(-1)
    rest = np.repeat(levels, starts, axis=0) - model.level_codes[0][codes[:, 0]]
    for stage in range(1, stages):
        search = model.level_searches[stage]
        codes[:, stage] = nearest(rest, search.codebook, search.offsets)
        rest -= model.level_codes[stage][codes[:, stage]]
    errors = np.square(rest).sum(axis=1).reshape(frames, starts)
    best = np.arange(frames) * starts + errors.argmin(axis=1)
    return codes[best], np.rint(levels - rest[best]).astype(np.int64)


def decode_levels(model: MdctRvqModel, codes: Integers) -> Integers:
    """Return the levels that the first codes `[frame, stage]` stand for: `[frame, band]`."""
    total = np.zeros((len(codes), len(model.band_widths)), np.int64)
    for stage in range(codes.shape[1]):
        total += model.levels[stage].astype(np.int64)[codes[:, stage]]
    return np.clip(total, 0, LARGEST_LEVEL)


def order_cells(model: MdctRvqModel, levels: Integers) -> Integers:
    """Return which cell each code after the levels' belongs to: `[frame, code]`.

    Args:
        model: The learned tables.
        levels: As decoded, `[frame, band]`.
    """
    loudness = levels @ model.weights.astype(np.int64)
    gains = loudness[:, model.cell_groups] + model.cell_gains
    return np.argsort(-gains, axis=1, kind="stable")


def encode(model: MdctRvqModel, coefficients: Floats, codebooks: int) -> npt.NDArray[np.uint16]:
    """Return the first codes of frames.

    Args:
        model: The learned tables.
        coefficients: Whole numbers `[frame, coefficient]`.
        codebooks: How many codes of each.

    Returns:
        `[frame, codebook]`
    """
    stages = len(model.levels)
    codes = np.zeros((len(coefficients), codebooks), np.uint16)
    sounding = np.flatnonzero(coefficients.any(axis=1))
    if not len(sounding):
        return codes
    heard = coefficients[sounding]
    level_codes, levels = search_levels(model, band_levels(model, heard))
    found = np.empty((len(heard), codebooks), np.int64)
    found[:, :stages] = level_codes[:, :codebooks]
    levels = np.clip(levels, 0, LARGEST_LEVEL)
    shapes = codebooks - stages
    if shapes > 0:
        order = order_cells(model, levels)[:, :shapes]
        places = np.full((len(heard), len(model.cell_groups)), -1, np.int64)
        np.put_along_axis(places, order, np.arange(stages, codebooks)[None], axis=1)
        rest = normalise(model, heard, levels)
        for cell, (group, search) in enumerate(zip(model.cell_groups, model.shape_searches, strict=True)):
            rows = np.flatnonzero(places[:, cell] >= 0)
            if len(rows):
                at = slice(model.groups[group], model.groups[group + 1])
                vectors = rest[rows, at]
                chosen = nearest(vectors, search.codebook, search.offsets)
                found[rows, places[rows, cell]] = chosen
                rest[rows, at] = vectors - model.shape_codes[cell][chosen]
    codes[sounding] = found
    return codes


def normalise(model: MdctRvqModel, coefficients: Floats, levels: Integers) -> Singles:
    """Return coefficients in units of their bands' levels, SHAPE_UNIT to one: whole numbers `[frame, coefficient]`."""
    scaled = coefficients * np.repeat(_DIVISORS[levels], model.band_widths, axis=1)
    np.rint(scaled, out=scaled)
    limit = _LARGEST * SHAPE_UNIT
    return np.clip(scaled, -limit, limit, out=scaled).astype(np.float32)


def decode(model: MdctRvqModel, codes: Integers, first_frame: int) -> Floats:
    """Return coefficients that codes stand for.

    Args:
        model: The learned tables.
        codes: `[frame, codebook]`, one codebook at least.
        first_frame: Number of the first of these frames in the recording: it decides the noise.

    Returns:
        `[frame, coefficient]`
    """
    stages = len(model.levels)
    levels = decode_levels(model, codes[:, :stages])
    values = np.zeros((len(codes), int(model.groups[-1])), np.float64)
    strengths = np.repeat(model.noise[None].astype(np.float64), len(codes), axis=0)
    if codes.shape[1] > stages:
        order = order_cells(model, levels)[:, : codes.shape[1] - stages]
        places = np.full((len(codes), len(model.cell_groups)), -1, np.int64)
        np.put_along_axis(places, order, np.arange(stages, codes.shape[1])[None], axis=1)
        for cell, group in enumerate(model.cell_groups):
            rows = np.flatnonzero(places[:, cell] >= 0)
            at = slice(model.groups[group], model.groups[group + 1])
            values[rows, at] += model.shape_codes[cell][codes[rows, places[rows, cell]]]
            strengths[rows, group] = 0
    values += noise(first_frame, len(codes), values.shape[1]) * np.repeat(strengths, model.group_widths, axis=1)
    values *= np.repeat(_FACTORS[levels], model.band_widths, axis=1)
    values[codes[:, 0] == 0] = 0
    return values


def noise(first_frame: int, frames: int, coefficients: int) -> Floats:
    """Return noise of power 1 that depends on its place alone: `[frame, coefficient]`, between -1.73 and 1.73.

    It is the finalizer of SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014).
    """
    places = np.arange(first_frame, first_frame + frames, dtype=np.uint64)[:, None] * np.uint64(1 << 16)
    mixed = (places + np.arange(1, coefficients + 1, dtype=np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    mixed ^= mixed >> np.uint64(31)
    uniform = (mixed >> np.uint64(11)).astype(np.float64) * 2.0**-52 - 1
    uniform *= np.sqrt(3.0)
    return uniform
