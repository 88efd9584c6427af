from __future__ import annotations

import torch

from tests.quantizers.cases import DIMENSION, draw, error, fitted
from tokenmill.quantizers import GraphAnchorConfig, ResidualConfig

STATE = {
    "anchors": torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]]),
    "relations": torch.tensor([[1.0, 2.0], [-9.0, 2.0], [1.0, -8.0], [0.0, 3.0]]),
}


def test_a_vector_is_its_anchors_and_its_relations_to_them() -> None:
    quantizer = GraphAnchorConfig(dimension=2, anchors=3, relations=4, nearest=3).build(STATE)
    # (1, 2) lies a translation away from each anchor that is a relation itself.
    codes = quantizer.encode(torch.tensor([[1.0, 2.0]]))
    assert codes.tolist() == [[0, 0, 2, 2, 1, 1]]
    assert quantizer.decode(codes).tolist() == [[1.0, 2.0]]
    assert quantizer.decode(codes[:, :2]).tolist() == [[1.0, 2.0]]


def test_a_relation_makes_up_for_the_one_before() -> None:
    quantizer = GraphAnchorConfig(dimension=2, anchors=3, relations=4, nearest=2).build(STATE)
    # From the first anchor (0.5, 2.5) falls short by (-0.5, 0.5); the second's wanted (0.5, -7.5) becomes (0, -7).
    codes = quantizer.encode(torch.tensor([[0.5, 2.5]]))
    assert codes.tolist() == [[0, 0, 2, 2]]
    assert quantizer.decode(codes).tolist() == [[1.0, 2.0]]


def test_anchors_are_distinct_and_the_nearest_come_first() -> None:
    quantizer = fitted("graph-anchor")
    vectors = draw(1000, seed=1)
    anchors = quantizer.encode(vectors)[:, ::2]
    state = GraphAnchorConfig(dimension=DIMENSION, anchors=30, relations=40, nearest=3).fit(draw(3000), iterations=8)
    distances = torch.cdist(vectors.double(), state["anchors"].double())
    assert torch.equal(anchors, distances.argsort(dim=1)[:, :3])


def test_the_error_is_the_last_relations_divided_by_the_anchors() -> None:
    config = GraphAnchorConfig(dimension=DIMENSION, anchors=30, relations=40, nearest=3)
    state = config.fit(draw(3000), iterations=8)
    quantizer = config.build(state)
    vectors = draw(1000, seed=1)
    codes = quantizer.encode(vectors)
    short = torch.zeros_like(vectors)
    for pair in range(3):
        wanted = vectors - state["anchors"][codes[:, 2 * pair]] + short
        nearest = torch.cdist(wanted.double(), state["relations"].double()).argmin(dim=1)
        assert (nearest == codes[:, 2 * pair + 1]).float().mean() > 0.999
        short = wanted - state["relations"][codes[:, 2 * pair + 1]]
    assert torch.allclose(vectors - quantizer.decode(codes), short / 3, atol=1e-5)


def test_one_anchor_is_as_good_as_two_residual_codebooks() -> None:
    vectors = draw(1000, seed=1)
    pair = GraphAnchorConfig(dimension=DIMENSION, anchors=30, relations=30, nearest=1)
    residual = ResidualConfig(dimension=DIMENSION, codebooks=2, codebook_size=30)
    errors = [error(kind.build(kind.fit(draw(3000), iterations=8)), vectors) for kind in (pair, residual)]
    assert errors[0] < 1.05 * errors[1]
