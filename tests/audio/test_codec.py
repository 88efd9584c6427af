from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tokenmill.audio.codec import CodecShape

PLAIN = CodecShape(24_000, 320, 8, 1024, (1,) * 8, True, 750, 6, 0, True)
#: As SNAC has it: one coarse codebook, one of twice its rate, one of four times its rate.
RAGGED = CodecShape(24_000, 512, 3, 4096, (4, 2, 1), False, 16, 8, 8, True)


def test_codes_of_one_rate_are_one_stream() -> None:
    (name, spec), *others = PLAIN.streams().items()
    assert (name, others) == ("codes", [])
    assert (spec.dtype, spec.dims, spec.shape) == ("uint16", ("frame", "codebook"), (None, 8))
    assert (spec.vocabulary_size, spec.bands, spec.frame_hz) == (1024, "codebook", 75.0)


def test_ragged_codes_are_a_stream_for_each_rate() -> None:
    specs = RAGGED.streams()
    assert {name: spec.frame_hz for name, spec in specs.items()} == {
        "codes_4": 11.71875,
        "codes_2": 23.4375,
        "codes_1": 46.875,
    }
    assert {spec.shape for spec in specs.values()} == {(None, 1)}
    assert RAGGED.whole_frames == 4
    two = replace(RAGGED, codebooks=4, strides=(2, 2, 1, 1)).streams()
    assert {name: spec.shape for name, spec in two.items()} == {"codes_2": (None, 2), "codes_1": (None, 2)}


@pytest.mark.parametrize("shape", [PLAIN, RAGGED], ids=["plain", "ragged"])
def test_pieces_join_to_the_whole(shape: CodecShape) -> None:
    rng = np.random.default_rng(0)
    frames = 40
    whole = {
        name: rng.integers(0, shape.codebook_size, (frames // stride, spec.shape[1] or 0))
        for (name, spec), stride in zip(shape.streams().items(), dict.fromkeys(shape.strides), strict=True)
    }
    # Windows of 24 frames with 8 of context on either side, the last one shorter: what each keeps, in its own frames.
    windows = [(0, 24, 0, 16), (8, 32, 8, 8), (16, 40, 8, None)]
    pieces = [shape.kept(shape.kept(whole, start, stop - start), skip, keep) for start, stop, skip, keep in windows]
    joined = shape.joined(pieces)
    for name, spec in shape.streams().items():
        assert joined[name].dtype == spec.dtype
        assert joined[name].tolist() == whole[name].tolist()


def test_no_pieces_join_to_no_codes() -> None:
    assert {name: codes.shape for name, codes in RAGGED.joined([]).items()} == {
        "codes_4": (0, 1),
        "codes_2": (0, 1),
        "codes_1": (0, 1),
    }


def test_chunks_that_overlap_have_more_frames_a_second() -> None:
    shape = CodecShape(48_000, 320, 4, 1024, (1,) * 4, False, 150, 0, 0, True, overlap_samples=480)
    assert shape.frame_hz == pytest.approx(150 / 0.99)
