"""The same arithmetic with less moving of memory: what a codec's modules are changed to before they are run.

Results are those of transformers' own modules, bit for bit.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn.utils import parametrize


def fold_weight_norms(model: nn.Module) -> None:
    """Compute weights that are kept as direction and length once, not at every call."""
    for module in model.modules():
        if parametrize.is_parametrized(module, "weight"):
            parametrize.remove_parametrizations(module, "weight")


def lighten(stack: nn.Module) -> None:
    """Spare a stack of convolutions copies of its values."""
    for parent in list(stack.modules()):
        for name, child in list(parent.named_children()):
            if type(child).__name__ == "Snake1d":
                setattr(parent, name, _Snake(child))
            elif _pads_nothing(child):
                setattr(parent, name, child.conv)
        if type(parent).__name__ in ("EncodecResnetBlock", "MimiResnetBlock"):
            # The first one's input is wanted again, beside the block.
            for layer in list(parent.block)[1:]:  # type: ignore[arg-type]
                if isinstance(layer, nn.ELU):
                    layer.inplace = True


def _pads_nothing(module: Any) -> bool:
    """Whether a convolution's wrapper would copy what it is given and do no more."""
    conv = getattr(module, "conv", None)
    if not hasattr(module, "causal") or not isinstance(conv, nn.Conv1d):
        return False
    return conv.kernel_size == (1,) and conv.stride == (1,) and not hasattr(module, "norm")


class _Snake(nn.Module):
    """x + sin(alpha x)^2 / alpha, as Snake1d has it, in one new tensor in place of five."""

    def __init__(self, original: Any) -> None:
        super().__init__()
        self.alpha = original.alpha

    def forward(self, values: Tensor) -> Tensor:
        found: Tensor = self.alpha * values
        found.sin_().pow_(2).mul_((self.alpha + 1e-9).reciprocal())
        return found.add_(values)
