"""What is known of KARL without its weights: the constants that configs and plans need, and that networks must fit."""

from __future__ import annotations

#: Pixels of a side of a patch.
PATCH = 16
#: Pixels of a side of the images that it was published for.
EDGE = 256
#: Rows and columns of the stored position embedding: no image has more patches a side.
GRID = 64
#: Codes of the codebook.
VOCABULARY_SIZE = 4096
#: Learned latents: the most tokens that an image can have.
LATENTS = 512
#: A latent of a higher halting probability is not kept.
HALTING_PROBABILITY = 0.75
#: The errors that can be asked of the network, mean absolute difference of pixels in [0, 1], in its embedding's order.
ERROR_BINS = (
    *(0.005, 0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.07, 0.09, 0.1),
    *(0.12, 0.14, 0.16, 0.18, 0.2, 0.24, 0.28, 0.32, 0.38),
)
