"""How many tokens an image is given: a fixed number, the fewest that meet a target, or a predicted number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from tokenmill.images.geometry import Placed
from tokenmill.images.image_file import Pixels
from tokenmill.images.tokenizer import CAPPED, FIXED, MET, MISSED
from tokenmill.tokenizers.klt.coding import Analysed, Coded, Order, add_up, encode_together, synthesise
from tokenmill.tokenizers.klt.model import KltModel
from tokenmill.tokenizers.klt.predictor import Curve, crossing, likely_crossing
from tokenmill.tokenizers.klt.transform import EDGE, UNIT, squares_of

#: Edge of the square of pixels by which tokens are counted where a policy counts by area.
AREA_EDGE = 64

Measure = Literal["l1", "mse"]


class Fixed(BaseModel):
    """The same number of tokens for every image, or for the same area of every image."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    policy: Literal["fixed"]
    tokens: int = Field(default=32, ge=1)
    """How many, for each 64 x 64 pixels or for an image; an image that has fewer tokens in all gives those."""
    per: Literal["tile", "image"] = "tile"
    """`tile`: for each 64 x 64 pixels, begun ones included; how they are shared out within the image depends on what
    is in it. `image`: for an image, however large."""
    measure: Measure | None = None
    """What the stream `error` holds: `l1` or `mse` of the pixels that the tokens decode to, which takes as long as
    encoding does. Default: the mean squared error as the transform knows it, for nothing: of whole tiles, before pixels
    are rounded and clipped."""


class _Target(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    error: float = Field(gt=0, le=1)
    """The error to stay at or below, of the used pixels as they decode, in [0, 1]."""
    measure: Measure = "l1"
    """`l1`: mean absolute difference; `mse`: mean squared difference. Black to white is 1."""
    max_tokens: int = Field(default=256, ge=1)
    """Most tokens for each 64 x 64 pixels, begun ones included, on average over the image. An image that does not meet
    the target with so many, or with all it has, gets them, and the outcome `capped`."""


class Search(_Target):
    """The fewest tokens with which the decoded image meets a target."""

    policy: Literal["search"]


class Predict(_Target):
    """A number of tokens that is likely to meet a target, without trying one after another."""

    policy: Literal["predict"]


Length = Annotated[Fixed | Search | Predict, Field(discriminator="policy")]


@dataclass(frozen=True)
class Chosen:
    """An image's tokens.

    Attributes:
        ids: `[token]`.
        error: The error of the pixels that they decode to, or what `Fixed.measure` says.
        outcome: Index into OUTCOMES.
    """

    ids: npt.NDArray[np.int64]
    error: float
    outcome: int


def join_tiles(tiles: Pixels, grid: tuple[int, int], height: int, width: int) -> Pixels:
    """Put tiles `[tile, row, column, channel]` together and cut off what filled up the last ones."""
    rows, columns = grid
    whole = tiles.reshape(rows, columns, EDGE, EDGE, 3).swapaxes(1, 2).reshape(rows * EDGE, columns * EDGE, 3)
    return whole[:height, :width]


def difference(one: Pixels, other: Pixels, measure: Measure) -> float:
    """Return the error between two images of a size, in [0, 1]; sums are of whole numbers and exact."""
    if measure == "l1":
        apart = np.maximum(one, other) - np.minimum(one, other)
        return float(apart.sum(dtype=np.int64) / (apart.size * 255))
    wide = one.astype(np.int32) - other
    return float(np.square(wide).sum(dtype=np.int64) / (wide.size * 255 * 255))


class Trial:
    """An image whose tokens are known, to be decoded with fewer of them."""

    def __init__(self, model: KltModel, placed: Placed, image: Analysed, coded: Coded) -> None:
        self._model = model
        self._placed = placed
        self._image = image
        self.coded = coded

    @property
    def areas(self) -> int:
        """The image's size in 64 x 64 areas, begun ones included."""
        rows, columns = self._placed.grid(AREA_EDGE)
        return rows * columns

    def error(self, count: int, measure: Measure) -> float:
        """Return the error of the image decoded from its first `count` tokens."""
        order = Order(self._image.order.units[:count], self._image.order.rows[:count])
        values = add_up(self._model, self._image.layout, order, self.coded.points[:count])
        tiles = synthesise(self._model, self._image.layout, values)
        pixels = self._placed.pixels
        decoded = join_tiles(tiles, self._placed.grid(EDGE), *pixels.shape[:2])
        return difference(decoded, pixels, measure)

    def squares(self) -> npt.NDArray[np.float64]:
        """Return the mean square error of all tiles after 0, 1, 2 … tokens, as the transform knows it: [0, 1]."""
        left = np.concatenate([[0.0], np.cumsum(self.coded.drops)])
        tiles = self._placed.tiles(EDGE)
        whole = squares_of(tiles).sum()
        values = tiles.size
        mean: npt.NDArray[np.float64] = np.maximum(whole - left, 0.0) / (values * (255.0 * UNIT) ** 2)
        return mean


def choose(
    model: KltModel, placed: Sequence[Placed], images: Sequence[Analysed], length: Fixed | Search | Predict
) -> list[Chosen]:
    """Return the tokens that a policy gives each of some images."""
    counts = [_most(one, image, length) for one, image in zip(placed, images, strict=True)]
    coded = encode_together(model, images, counts)
    return [_chosen(model, Trial(model, *parts), length) for parts in zip(placed, images, coded, strict=True)]


def _most(placed: Placed, image: Analysed, length: Fixed | Search | Predict) -> int:
    """Return the most tokens that an image may be given."""
    rows, columns = placed.grid(AREA_EDGE)
    if isinstance(length, Fixed):
        wanted = length.tokens * (rows * columns if length.per == "tile" else 1)
    else:
        wanted = length.max_tokens * rows * columns
    return min(wanted, len(image.order.rows))


def _chosen(model: KltModel, trial: Trial, length: Fixed | Search | Predict) -> Chosen:
    most = len(trial.coded.ids)
    if isinstance(length, Fixed):
        error = float(trial.squares()[-1]) if length.measure is None else trial.error(most, length.measure)
        return Chosen(trial.coded.ids, error, FIXED)
    curve = Curve(trial.squares(), trial.areas)
    if isinstance(length, Search):
        count, error = search(trial, curve, length, most)
    else:
        count, error = _predict(model, trial, curve, length, most)
    outcome = MET if error <= length.error else CAPPED if count == most else MISSED
    return Chosen(trial.coded.ids[:count], error, outcome)


def search(trial: Trial, curve: Curve, length: Search, most: int) -> tuple[int, float]:
    """Return the number of tokens that meets the target where one fewer does not, and its error.

    The error need not fall with every single token, so that far below this number another one may meet the target by
    a hair; that is not looked for.
    """
    failing, meeting = 0, most
    errors: dict[int, float] = {}
    guess = crossing(curve, length.error, length.measure)
    stride = 1
    while meeting - failing > 1 or meeting not in errors:
        if not failing < guess <= meeting or guess in errors:
            guess = max((failing + meeting) // 2, 1)
            guess = meeting if guess in errors or guess <= failing else guess
        errors[guess] = trial.error(guess, length.measure)
        ratio = errors[guess] / curve.level(guess, length.measure)
        if errors[guess] <= length.error:
            meeting = guess
            aim = -stride
        else:
            if guess == most:
                return most, errors[most]
            failing = guess
            aim = stride
        # From here the curve, scaled to what was measured, says where the target is; a step past it, ever longer,
        # so that the target is soon enclosed from both sides.
        guess = curve.first_below(length.error / ratio, length.measure) + aim // 2
        stride *= 2
    return meeting, errors[meeting]


def _predict(model: KltModel, trial: Trial, curve: Curve, length: Predict, most: int) -> tuple[int, float]:
    measured: dict[int, float] = {}

    def error_of(count: int) -> float:
        if count not in measured:
            measured[count] = trial.error(count, length.measure)
        return measured[count]

    count = min(likely_crossing(model.predictor, curve, length.error, length.measure, error_of), most)
    return count, error_of(count)
