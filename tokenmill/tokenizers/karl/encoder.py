"""From prepared images, in fixed batches, to positions, codes and the error reached."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tokenmill.contract import Encoded, Failure, empty_streams
from tokenmill.images.geometry import GEOMETRY, Placed
from tokenmill.images.tokenizer import OUTCOMES, ImagePreparation
from tokenmill.streams import Jagged
from tokenmill.tokenizers.karl.decoder import to_bytes
from tokenmill.tokenizers.karl.layout import load_network
from tokenmill.tokenizers.karl.network import KarlNetwork
from tokenmill.tokenizers.karl.published import HALTING_PROBABILITY
from tokenmill.tokenizers.karl.tokenizer import KarlTokenizer
from tokenmill.tokenizers.networks import in_fixed_batches, network_device


def load_encoder(tokenizer: KarlTokenizer, device: str) -> KarlEncoder:
    """Load the network onto a device; raises AssetError, or TokenizerError where there is no such device."""
    found = network_device(device, tokenizer.id)
    network = load_network(tokenizer.weights, tokenizer.weights_key, tokenizer.heads, tokenizer.tokens)
    return KarlEncoder(tokenizer, network.to(found, getattr(torch, tokenizer.precision)), found)


class KarlEncoder(ImagePreparation):
    """A loaded network on its device."""

    def __init__(self, tokenizer: KarlTokenizer, network: KarlNetwork, device: torch.device) -> None:
        super().__init__(tokenizer.geometry, tokenizer.batch_size)
        self._tokenizer = tokenizer
        self._network = network
        self._device = device
        self._specs = tokenizer.streams()

    def encode(self, payloads: Sequence[Placed]) -> Encoded:
        """Tokenize prepared images; raises RunError where the device runs out of memory."""
        if not payloads:
            return Encoded(empty_streams(self._specs))
        pixels = torch.from_numpy(np.stack([placed.pixels for placed in payloads]))
        results = in_fixed_batches(self._run, pixels, self._tokenizer.batch_size, self._device)
        codes, halting, errors = (result.numpy() for result in results)
        rows: dict[str, list[npt.NDArray[Any]]] = {name: [] for name in self._specs}
        failures = []
        for index, placed in enumerate(payloads):
            if not np.isfinite(halting[index]).all():
                what = f"the network's halting probabilities are no numbers in {self._tokenizer.precision}"
                failures.append(Failure(index, "not_finite", what))
                continue
            row = self._row(codes[index], halting[index], errors[index], placed)
            for name, values in rows.items():
                values.append(row[name])
        return Encoded(
            {name: Jagged.from_rows(rows[name], spec) for name, spec in self._specs.items()}, tuple(failures)
        )

    def _run(self, pixels: Tensor) -> list[Tensor]:
        """From uint8 `[batch, y, x, 3]`: codes, halting probabilities, and errors (zeros where none is measured)."""
        tokenizer = self._tokenizer
        planes = pixels.permute(0, 3, 1, 2).contiguous()
        values = planes.to(getattr(torch, tokenizer.precision)) / 255
        codes, halting = self._network.encode(values, tokenizer.tokens, tokenizer.error_bin)
        if not tokenizer.measure_error:
            return [codes, halting, halting.new_zeros(len(pixels))]
        decoded = to_bytes(self._network.decode(codes, halting <= HALTING_PROBABILITY, tokenizer.grid))
        # Of whole numbers, so that the sum is exact in any order.
        differences = (decoded.to(torch.int64) - planes.to(torch.int64)).abs().sum(dim=(1, 2, 3))
        return [codes, halting, differences.double() / (255 * planes[0].numel())]

    def _row(
        self, codes: npt.NDArray[Any], halting: npt.NDArray[Any], error: float, placed: Placed
    ) -> dict[str, npt.NDArray[Any]]:
        kept = halting <= HALTING_PROBABILITY
        missed = "capped" if kept.all() else "missed"
        outcome = "met" if error <= self._tokenizer.error else missed
        return {
            "ids": codes[kept],
            "positions": np.flatnonzero(kept),
            "error": np.array([error]),
            "outcome": np.array([OUTCOMES.index(outcome)]),
            GEOMETRY: placed.numbers(self._tokenizer.geometry.edge),
        }
