"""Stacks of convolutions, as codecs begin and end with them: what a frame can depend on, and batches of unequal length.

What is known of a stack is read off its modules. Only chains are understood, in the order in which their modules are
registered, as those of transformers' codecs are; branches beside them (shortcuts) see one step at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Convolution:
    """One convolution of a stack.

    Attributes:
        module: What is called with the input, before it is padded.
        span: Inputs that an output sees, dilation included (of a transposed one: outputs that an input reaches).
        stride: Inputs from one output to the next (of a transposed one: outputs from one input to the next).
        left: Inputs that are made up before the first one (of a transposed one: outputs that are cut off there).
        transposed: Whether it makes more of its input.
        fills_up: Whether it makes up as many inputs at the end as its stride wants.
        mode: What it makes them up of: `constant` (zeros), `reflect` or `replicate`.
    """

    module: nn.Module
    span: int
    stride: int
    left: int
    transposed: bool = False
    fills_up: bool = False
    mode: str = "constant"

    def outputs(self, inputs: int) -> int:
        """Return how many outputs so many inputs give; for convolutions that are not transposed."""
        if self.fills_up:
            return -(-inputs // self.stride)
        return (inputs + 2 * self.left - self.span) // self.stride + 1


def convolutions(module: nn.Module) -> Iterator[Convolution]:
    """Yield the convolutions of a stack in order."""
    inner: Any = getattr(module, "conv", None)
    if hasattr(module, "causal") and isinstance(inner, nn.Conv1d | nn.ConvTranspose1d):
        # EncodecConv1d, MimiConv1d and their transposed kin pad by themselves.
        span, stride = (inner.kernel_size[0] - 1) * inner.dilation[0] + 1, inner.stride[0]
        beside = span - stride
        if isinstance(inner, nn.ConvTranspose1d):
            yield Convolution(module, span, stride, 0 if module.causal else beside - beside // 2, transposed=True)
        else:
            left = beside if module.causal else beside - beside // 2
            yield Convolution(module, span, stride, left, fills_up=True, mode=str(module.pad_mode))
    elif isinstance(module, nn.Conv1d | nn.ConvTranspose1d):
        span = (module.kernel_size[0] - 1) * module.dilation[0] + 1
        transposed = isinstance(module, nn.ConvTranspose1d)
        yield Convolution(module, span, module.stride[0], int(module.padding[0]), transposed)
    else:
        for child in module.children():
            yield from convolutions(child)


def reach(stack: Sequence[Convolution], outputs: int = 1) -> tuple[int, int]:
    """Return the first and the last input that some outputs can depend on, counted from the first one's own.

    Args:
        stack: The convolutions, in order.
        outputs: How many outputs, from output 0 on.
    """
    first, last = 0, outputs - 1
    for step in reversed(stack):
        if step.transposed:
            first = -((step.span - 1 - step.left - first) // step.stride)
            last = (last + step.left) // step.stride
        else:
            first = first * step.stride - step.left
            last = last * step.stride - step.left + step.span - 1
    return first, last


class UnequalLengths:
    """Makes a stack treat each item of a batch as if it were alone, though all are filled up to one length.

    Before every convolution, what lies behind an item's end is set to what the convolution would have made up there.

    Args:
        stack: The convolutions, whose modules get hooks.
    """

    def __init__(self, stack: Sequence[Convolution]) -> None:
        self._stack = stack
        self._inputs: dict[nn.Module, list[int]] = {}
        self._steps = {step.module: step for step in stack}
        for step in stack:
            step.module.register_forward_pre_hook(self._fill)

    def set(self, lengths: Sequence[int] | None) -> list[int]:
        """Set the items' lengths for the next batch, None for whole ones; return how many outputs each has."""
        self._inputs = {}
        outputs = list(lengths or ())
        for step in self._stack:
            if lengths is not None:
                self._inputs[step.module] = outputs
            outputs = [step.outputs(count) for count in outputs]
        return outputs

    def _fill(self, module: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...] | None:
        values: Tensor = arguments[0]
        counts = self._inputs.get(module)
        size = values.shape[-1]
        if counts is None or min(counts) == size:
            return None
        return (_filled(values, self._steps[module], counts), *arguments[1:])


def _filled(values: Tensor, step: Convolution, counts: Sequence[int]) -> Tensor:
    """Return values `[item, channel, time]` with each item's made-up ones behind its end, and zeros behind those."""
    device = values.device
    place = torch.arange(values.shape[-1], device=device)[None]
    count = torch.tensor(counts, device=device)[:, None]
    zeroed = values * (place < count)[:, None]
    if not step.fills_up or step.mode == "constant":
        return zeroed
    right = -count % step.stride
    if step.mode == "replicate":
        source = place.clamp(max=count - 1)
    else:
        # An item no longer than its padding is lengthened by zeros first, as transformers does it (`_pad1d`).
        mirror = count + (torch.clamp(right, min=step.left) - count + 1).clamp(min=0)
        source = torch.where(place < mirror, place, 2 * (mirror - 1) - place).clamp(min=0)
    made_up = zeroed.gather(-1, source[:, None].expand_as(zeroed))
    return torch.where((place < count + right)[:, None], made_up, 0)
