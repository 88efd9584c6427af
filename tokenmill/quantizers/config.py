"""Configs of the quantizer family: sizes and rules, as a tokenizer's config holds them. Works without torch.

`QuantizerConfig` is the union of them all, told apart by `kind`. What they do with vectors is written in the modules
that `build` and `fit` import.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from tokenmill.errors import MissingExtraError
from tokenmill.streams import narrowest_dtype

if TYPE_CHECKING:
    from torch import Tensor

    from tokenmill.quantizers.quantizer import Quantizer

#: Codes of the largest codebook: more ids than a vocabulary is likely to have. Several codebooks hold more than one.
LARGEST_CODEBOOK = 1 << 20
Size = Annotated[int, Field(ge=2, le=LARGEST_CODEBOOK)]
Count = Annotated[int, Field(ge=1, le=1024)]
Dimension = Annotated[int, Field(ge=1, le=65536)]


class BaseQuantizerConfig(BaseModel, ABC):
    """What every kind of quantizer has."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    @model_serializer(mode="wrap")
    def _with_kind(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # A tokenizer's JSON leaves out defaults, which `kind` is: without it nothing tells the kinds apart.
        return {"kind": type(self).model_fields["kind"].default, **serialize(self)}

    if TYPE_CHECKING:  # a field of some kinds, and a property of others, which pydantic would warn of

        @property
        def dimension(self) -> int:
            """Components of a vector."""

    @property
    @abstractmethod
    def codebook_sizes(self) -> tuple[int, ...]:
        """Number of codes of each codebook, in the order of the codes of a vector."""

    @property
    def vocabulary_size(self) -> int:
        """Ids of a stream that holds the codes of all codebooks: those of the largest one."""
        return max(self.codebook_sizes)

    @property
    def stream_dtype(self) -> str:
        """The narrowest dtype of a stream that holds the codes."""
        return narrowest_dtype(self.vocabulary_size)

    @property
    def bits(self) -> float:
        """Bits of information that the codes of one vector can carry."""
        return sum(math.log2(size) for size in self.codebook_sizes)

    @property
    def nested(self) -> bool:
        """Whether the first codebooks alone decode to a coarser vector."""
        return False

    def build(self, state: Mapping[str, Tensor] | None = None, device: str = "cpu") -> Quantizer:
        """Make the quantizer.

        Args:
            state: Its tensors: the `state_dict` of the vector-quantize-pytorch module that docs/quantizers.md names for
                this kind, or what `fit` returned. None where there is nothing to learn.
            device: Where it computes: `cpu`, `cuda` or `cuda:<number>`. The codes are the same on all.

        Raises:
            AssetError: The state lacks a tensor, or has one of another name, shape or layout.
            MissingExtraError: torch or vector-quantize-pytorch is not installed.
        """
        try:
            from tokenmill.quantizers.building import build
        except ModuleNotFoundError as error:
            raise _missing(error) from error
        return build(self, state, device)

    def fit(self, vectors: Tensor, *, seed: int = 0, iterations: int = 20) -> dict[str, Tensor]:
        """Make a codebook of sample vectors by k-means, without training a network.

        Args:
            vectors: float `[vector, dimension]`, in memory; 50 a code or more serve well.
            seed: Of the vectors that codes start from; the same vectors, seed and device give the same state.
            iterations: Rounds of assigning vectors to codes and moving the codes to their means.

        Returns:
            A state for `build`, on the CPU.

        Raises:
            TokenizerError: This kind has no codebook, or a learned projection, or there are fewer vectors than codes.
            MissingExtraError: torch or vector-quantize-pytorch is not installed.
        """
        try:
            from tokenmill.quantizers.fitting import fit
        except ModuleNotFoundError as error:
            raise _missing(error) from error
        return fit(self, vectors, seed=seed, iterations=iterations)


def _missing(error: ModuleNotFoundError) -> MissingExtraError:
    return MissingExtraError(
        f"quantizers need the package {(error.name or '').partition('.')[0]} ({error})",
        fix="pip install 'tokenmill[networks]'",
    )


class _LearnedConfig(BaseQuantizerConfig):
    """Learned codebooks in vector-quantize-pytorch's layout."""

    dimension: Dimension
    """Components of a vector."""
    metric: Literal["euclidean", "cosine"] = "euclidean"
    """What nearest means; `cosine` is the library's `use_cosine_sim`, of codes of length 1."""


class VectorConfig(_LearnedConfig):
    """One codebook, the nearest code: VQ-VAE's quantizer (van den Oord et al., arXiv 1711.00937)."""

    kind: Literal["vq"] = "vq"
    codebook_size: Size
    """Number of codes."""
    codebook_dimension: Dimension | None = None
    """Components of a code, with a learned projection in and out; default: those of the vector, no projection."""

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        """Number of codes."""
        return (self.codebook_size,)


class ResidualConfig(_LearnedConfig):
    """Each codebook codes what the ones before left over: RVQ (SoundStream, Zeghidour et al., arXiv 2107.03312)."""

    kind: Literal["residual"] = "residual"
    codebook_size: Size | tuple[Size, ...]
    """Number of codes of every codebook, or one number each."""
    codebooks: Count | None = None
    """Number of codebooks; may be left out where `codebook_size` names each."""
    codebook_dimension: Dimension | None = None
    """Components of a code, with a learned projection in and out; default: those of the vector, no projection."""

    @model_validator(mode="after")
    def _check(self) -> ResidualConfig:
        _check_sizes(self.codebook_size, self.codebooks)
        return self

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        """Number of codes of each codebook, the coarsest first."""
        return _sizes(self.codebook_size, self.codebooks)

    @property
    def nested(self) -> bool:
        """True."""
        return True


class ProductConfig(_LearnedConfig):
    """The vector cut into equal parts, a codebook each: product quantization (Jégou, Douze, Schmid, TPAMI 2011)."""

    kind: Literal["product"] = "product"
    codebook_size: Size
    """Number of codes of every codebook."""
    codebooks: Count
    """Number of parts."""

    @model_validator(mode="after")
    def _check(self) -> ProductConfig:
        if self.dimension % self.codebooks:
            raise ValueError(f"dimension {self.dimension} does not divide into {self.codebooks} equal parts")
        return self

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        """Number of codes of each part's codebook."""
        return (self.codebook_size,) * self.codebooks


class FiniteScalarConfig(BaseQuantizerConfig):
    """Each component rounded to one of a few levels: FSQ (Mentzer et al., arXiv 2309.15505). Nothing to learn.

    As it stands, a network is trained with it. To quantize the latents of a network that was not, take
    `bound="clamp", symmetric=True` and a `scale` that covers them: a uniform scalar quantizer on [-scale, scale].
    """

    kind: Literal["fsq"] = "fsq"
    levels: tuple[Annotated[int, Field(ge=2, le=65536)], ...] = Field(min_length=1, max_length=64)
    """Number of levels of each component of one codebook; their product is the codebook's size."""
    codebooks: Count = 1
    """How many codebooks of these levels lie side by side in a vector."""
    projected_from: Dimension | None = None
    """Components of a vector, where a learned projection brings them to the levels', and back; default: none."""
    bound: Literal["tanh", "clamp"] = "tanh"
    """How a component is brought into [-1, 1]."""
    symmetric: bool = False
    """Levels at equal steps from -1 to 1, ends included (the library's `preserve_symmetry`; arXiv 2411.19842); else
    an even number of levels reaches from -1 to just below 1."""
    scale: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    """Vectors are divided by it before they are quantized, and multiplied by it when they are decoded."""

    @model_validator(mode="after")
    def _check(self) -> FiniteScalarConfig:
        if math.prod(self.levels) > LARGEST_CODEBOOK:
            raise ValueError(
                f"{math.prod(self.levels)} codes are more than a codebook may have ({LARGEST_CODEBOOK}): "
                "give levels of fewer components, and more codebooks"
            )
        if 2 in self.levels and not self.symmetric:
            raise ValueError("2 levels need symmetric: true")
        return self

    @property
    def dimension(self) -> int:
        """Components of a vector."""
        return self.projected_from or len(self.levels) * self.codebooks

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        """The product of the levels, once a codebook."""
        return (math.prod(self.levels),) * self.codebooks


class _BinaryConfig(BaseQuantizerConfig):
    """Each component's sign is a bit of the code."""

    bits_a_codebook: int = Field(ge=1, le=LARGEST_CODEBOOK.bit_length() - 1)
    """Components, and so bits, of one codebook: it has 2 to this power codes."""
    codebooks: Count = 1
    """How many codebooks of so many bits lie side by side in a vector."""
    projected_from: Dimension | None = None
    """Components of a vector, where a learned projection brings them to those of the bits, and back; default: none."""

    @property
    def dimension(self) -> int:
        """Components of a vector."""
        return self.projected_from or self.bits_a_codebook * self.codebooks

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        """2 to the power of the bits, once a codebook."""
        return (1 << self.bits_a_codebook,) * self.codebooks


class LookupFreeConfig(_BinaryConfig):
    """The signs of the components, decoded to -1 and 1: LFQ (MAGVIT-v2, Yu et al., arXiv 2310.05737)."""

    kind: Literal["lfq"] = "lfq"


class BinarySphericalConfig(_BinaryConfig):
    """LFQ on the unit sphere: decoded vectors have length 1 a codebook: BSQ (Zhao et al., arXiv 2406.07548)."""

    kind: Literal["bsq"] = "bsq"


class AdditiveConfig(BaseQuantizerConfig):
    """A sum of one code from each codebook, chosen together: additive quantization (Babenko, Lempitsky, CVPR 2014)."""

    kind: Literal["additive"] = "additive"
    dimension: Dimension
    """Components of a vector."""
    codebook_size: Size
    """Number of codes of every codebook."""
    codebooks: Count
    """Number of codebooks."""
    beam: int = Field(default=16, ge=1, le=1024)
    """Partial sums kept at each codebook; 1 is the greedy choice of `residual`."""

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        """Number of codes of each codebook."""
        return (self.codebook_size,) * self.codebooks

    @property
    def nested(self) -> bool:
        """True."""
        return True


class GraphAnchorConfig(BaseQuantizerConfig):
    """A vector as a node of a graph: its nearest anchors, and its relation to each of them.

    After NodePiece (Galkin et al., arXiv 2106.12144), with relations as translations (TransE, Bordes et al., NIPS
    2013): docs/quantizers.md says what was changed for vectors.
    """

    kind: Literal["graph-anchor"] = "graph-anchor"
    dimension: Dimension
    """Components of a vector."""
    anchors: Size
    """Number of anchors."""
    relations: Size
    """Number of relations."""
    nearest: int = Field(default=4, ge=1, le=64)
    """Anchors that a vector is tied to. Its codes are anchor, relation, anchor, relation …, the nearest first."""

    @model_validator(mode="after")
    def _check(self) -> GraphAnchorConfig:
        if self.nearest > self.anchors:
            raise ValueError(f"nearest is {self.nearest}, of only {self.anchors} anchors")
        return self

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        """Anchors and relations, in turn."""
        return (self.anchors, self.relations) * self.nearest

    @property
    def nested(self) -> bool:
        """True, for whole pairs of anchor and relation."""
        return True


QuantizerConfig = Annotated[
    VectorConfig
    | ResidualConfig
    | ProductConfig
    | FiniteScalarConfig
    | LookupFreeConfig
    | BinarySphericalConfig
    | AdditiveConfig
    | GraphAnchorConfig,
    Field(discriminator="kind"),
]
"""Any quantizer's config: a field of a tokenizer's config, or `pydantic.TypeAdapter(QuantizerConfig)`."""


def _check_sizes(size: int | tuple[int, ...], codebooks: int | None) -> None:
    if isinstance(size, int) and codebooks is None:
        raise ValueError("codebooks is missing: one codebook_size does not say how many there are")
    if isinstance(size, tuple) and (not size or codebooks not in (None, len(size))):
        raise ValueError(f"codebook_size names {len(size)} codebooks, codebooks says {codebooks}")


def _sizes(size: int | tuple[int, ...], codebooks: int | None) -> tuple[int, ...]:
    return (size,) * (codebooks or 1) if isinstance(size, int) else size
