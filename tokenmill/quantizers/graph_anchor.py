"""Graph anchor-relation tokens: a vector by its nearest anchors and its relation to each.

NodePiece (Galkin et al., ICLR 2022, arXiv 2106.12144) names a node of a knowledge graph by its k nearest anchor
nodes, their distances, and the types of its edges, in place of an id of its own; a learned network turns these into
the node's vector. Here a node is a vector: its edges lead to the k nearest of some anchor vectors, and an edge's type
is a translation, so that anchor + relation ≈ vector (TransE, Bordes et al., NIPS 2013), which says distance and
direction at once. The mean of what the edges say stands in for the network, and each relation makes up for what the
one before fell short of: so the error of the mean of k is that of the last relation alone, divided by k.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from tokenmill.quantizers.config import GraphAnchorConfig
from tokenmill.quantizers.exact import Codes
from tokenmill.quantizers.quantizer import Quantizer, load_tensors


class GraphAnchorQuantizer(Quantizer):
    """`graph-anchor`. `state` is `anchors` and `relations`, float32 `[anchor, dimension]`, `[relation, dimension]`."""

    def __init__(self, config: GraphAnchorConfig, state: Mapping[str, Tensor] | None, device: torch.device) -> None:
        super().__init__(config, device)
        shapes = {"anchors": (config.anchors, config.dimension), "relations": (config.relations, config.dimension)}
        tensors = load_tensors(state, shapes, device)
        self._anchors, self._relations = tensors["anchors"], tensors["relations"]
        self._anchor_search = Codes(self._anchors)
        self._config = config

    def _encode(self, vectors: Tensor) -> Tensor:
        anchors = self._anchor_search.nearest_few(vectors, self._config.nearest)
        _, relations = walk(vectors, self._anchors[anchors], self._relations)
        return torch.stack([anchors, relations], dim=2).flatten(1)

    def _takes(self, codebooks: int) -> bool:
        return super()._takes(codebooks) and codebooks % 2 == 0

    def _decode(self, codes: Tensor) -> Tensor:
        pairs = codes.shape[1] // 2
        decoded = torch.zeros((len(codes), self.dimension), device=self.device)
        for pair in range(pairs):
            decoded = decoded + self._anchors[codes[:, 2 * pair]] + self._relations[codes[:, 2 * pair + 1]]
        return decoded / pairs


def walk(vectors: Tensor, anchors: Tensor, relations: Tensor) -> tuple[Tensor, Tensor]:
    """Choose the relations of vectors to their anchors, one after the other.

    Args:
        vectors: float32 `[vector, component]`.
        anchors: float32 `[vector, anchor of it, component]`.
        relations: float32 `[relation, component]`.

    Returns:
        The translations that were wanted, float32 `[vector, anchor of it, component]`: from the anchor to the vector,
        plus what the relation before fell short of its own; and the nearest relations, int64 `[vector, anchor of it]`.
    """
    search = Codes(relations)
    short = torch.zeros_like(vectors)
    wanted, chosen = [], []
    for number in range(anchors.shape[1]):
        translation = vectors - anchors[:, number] + short
        relation = search.nearest(translation)
        short = translation - relations[relation]
        wanted.append(translation)
        chosen.append(relation)
    return torch.stack(wanted, dim=1), torch.stack(chosen, dim=1)
