"""Devices: what a table's `device` means in this process, and which tables are scheduled onto an accelerator."""

from __future__ import annotations

import functools
import importlib.util
import os

from tokenmill.contract import ResolvedTokenizer
from tokenmill.environment import describe_environment
from tokenmill.registry import tokenizer_class


def actual_device(device: str, tokenizer: ResolvedTokenizer) -> str:
    """Return the device that a planned one means in this process: `auto` is a GPU where tokenizer and machine have it.

    Args:
        device: `auto`, `cpu`, `cuda` or `cuda:<number>`.
        tokenizer: What is to run there.
    """
    if device != "auto":
        return device
    return "cuda" if wants_accelerator(device, tokenizer) and _sees_cuda() else "cpu"


def wants_accelerator(device: str, tokenizer: ResolvedTokenizer) -> bool:
    """Tell whether a table should run where there is an accelerator: asked for, or `auto` and able to use it."""
    if device == "auto":
        return "cuda" in _traits(str(tokenizer.config["id"]), tokenizer.fingerprint)[0]
    return device.partition(":")[0] == "cuda"


def table_environment(device: str, tokenizer: ResolvedTokenizer) -> dict[str, str]:
    """Return the versions and the kind of device under which a table's tokens are made here."""
    _, libraries = _traits(str(tokenizer.config["id"]), tokenizer.fingerprint)
    return describe_environment(actual_device(device, tokenizer), libraries)


@functools.cache
def _traits(name: str, fingerprint: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the kinds of devices and the libraries of a tokenizer; finding its class takes longer than a small part.

    Args:
        name: Its id.
        fingerprint: Its fingerprint, by which the answer is kept.
    """
    found = tokenizer_class(name)
    return tuple(found.devices), tuple(found.libraries)


@functools.cache
def _sees_cuda() -> bool:
    if importlib.util.find_spec("torch") is None:
        return False
    # Asked of the driver's management library: a process that has begun to use CUDA can fork no workers.
    os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")
    import torch

    return torch.cuda.is_available()
