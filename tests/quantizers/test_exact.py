from __future__ import annotations

from fractions import Fraction

import pytest
import torch

from tests.quantizers.cases import draw
from tokenmill.quantizers.exact import Codes, linear, rounded, smallest, squared_lengths


@pytest.mark.parametrize("components", [1, 3, 64, 1000])
def test_no_order_of_adding_changes_a_product(components: int) -> None:
    vectors, codes = draw(60, components), draw(70, components, seed=1)
    order = torch.randperm(components)
    scores = Codes(codes).scores(vectors)
    assert torch.equal(scores, Codes(codes[:, order]).scores(vectors[:, order]))
    assert torch.equal(scores[7:8], Codes(codes).scores(vectors[7:8]))
    assert torch.equal(scores[:, 5:], Codes(codes[5:]).scores(vectors))


@pytest.mark.parametrize("components", [1, 5, 300])
def test_products_and_squares_of_rounded_rows_are_exact(components: int) -> None:
    one, other = rounded(draw(3, components)), rounded(1e-3 * draw(3, components, seed=1))
    rows, columns = ([[Fraction(value) for value in row] for row in rows.tolist()] for rows in (one, other))
    for i, row in enumerate((one @ other.T).tolist()):
        for j, product in enumerate(row):
            assert Fraction(product) == sum(a * b for a, b in zip(rows[i], columns[j], strict=True))
    for length, row in zip(squared_lengths(one).tolist(), rows, strict=True):
        assert Fraction(length) == sum(value * value for value in row)


def test_rounding_costs_no_more_than_float32_does() -> None:
    vectors, codes = draw(200, 256), draw(300, 256, seed=1)
    wanted = vectors.double() @ codes.double().T
    lengths = vectors.double().norm(dim=1)[:, None] * codes.double().norm(dim=1)
    assert ((rounded(vectors) @ rounded(codes).T - wanted).abs() / lengths).max() < 2**-22


@pytest.mark.parametrize("scale", [1e-38, 1e-20, 1.0, 1e20])
def test_small_and_large_vectors_are_as_exact(scale: float) -> None:
    vectors, codes = draw(50) * scale, draw(40, seed=1) * scale
    wanted = torch.cdist(vectors.double() / scale, codes.double() / scale).argmin(dim=1)
    assert torch.equal(Codes(codes).nearest(vectors), wanted)


def test_the_first_of_equal_codes_is_taken() -> None:
    codes = torch.tensor([[2.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [-1.0, 0.0]])
    vectors = torch.tensor([[1.0, 0.0], [0.0, 0.0], [1.5, 0.0]])
    assert Codes(codes).nearest(vectors).tolist() == [1, 1, 0]
    assert Codes(codes).nearest_few(vectors, 3).tolist() == [[1, 3, 0], [1, 2, 3], [0, 1, 3]]
    assert Codes(codes, cosine=True).nearest(vectors[:1] * 1e-3).tolist() == [0]


def test_the_smallest_come_in_order_and_equals_by_column() -> None:
    generator = torch.Generator().manual_seed(0)
    scores = torch.randint(0, 6, (500, 40), generator=generator).double()
    wanted = scores.sort(dim=1, stable=True).indices
    for count in (1, 2, 17, 40):
        assert torch.equal(smallest(scores, count), wanted[:, :count])


def test_large_tables_are_searched_in_pieces() -> None:
    vectors, codes = draw(300, 4), draw(40_000, 4, seed=1)
    wanted = torch.cdist(vectors.double(), codes.double()).argmin(dim=1)
    assert torch.equal(Codes(codes).nearest(vectors), wanted)


def test_linear_is_the_linear_layer() -> None:
    layer = torch.nn.Linear(64, 5)
    vectors = draw(100, 64)
    with torch.inference_mode():
        assert torch.allclose(linear(vectors, layer.weight, layer.bias), layer(vectors), atol=1e-6)
        assert torch.allclose(linear(vectors, layer.weight, None), layer(vectors) - layer.bias, atol=1e-6)
