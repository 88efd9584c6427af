"""What all text encoders share: refusing text that is not Unicode, and putting BOS and EOS around documents."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tokenmill.contract import Failure
from tokenmill.errors import TokenizerError

Ids = npt.NDArray[Any]
Lengths = npt.NDArray[np.int64]


def require_cpu(device: str, tokenizer: str) -> None:
    """Refuse a device that a text tokenizer cannot run on."""
    if device != "cpu":
        raise TokenizerError(f"tokenizer {tokenizer!r} runs on the device 'cpu' only (given {device!r})")


class Utf8Failures:
    """The texts of a batch that are Unicode, and a Failure for each payload that is not (lone surrogates, no `str`).

    Attributes:
        texts: What can be tokenized, in order.
        failures: The rest.
    """

    def __init__(self, payloads: Sequence[Any]) -> None:
        self.texts: list[str] = []
        failures: list[Failure] = []
        for index, payload in enumerate(payloads):
            problem = _problem(payload)
            if problem is None:
                self.texts.append(payload)
            else:
                failures.append(Failure(index, *problem))
        self.failures = tuple(failures)


def _problem(payload: Any) -> tuple[str, str] | None:
    if not isinstance(payload, str):
        return "not_text", f"a text tokenizer takes str; given {type(payload).__name__}"
    if payload.isascii():
        return None
    try:
        payload.encode()
    except UnicodeEncodeError as error:
        return "invalid_unicode", f"a lone surrogate {payload[error.start]!r} at character {error.start}"
    return None


def frame(values: Ids, lengths: Lengths, bos_id: int | None, eos_id: int | None) -> tuple[Ids, Lengths]:
    """Put BOS before and EOS after each document.

    Args:
        values: `[token]`, the documents' ids laid end to end.
        lengths: int64 `[document]`.
        bos_id: The id to put before each document; None for none.
        eos_id: The id to put after each document; None for none.

    Returns:
        The same two with the added ids; the given ones, uncopied, where nothing is added.
    """
    added = int(bos_id is not None) + int(eos_id is not None)
    if not added or not len(lengths):
        return values, lengths
    framed_lengths = lengths + added
    ends = np.cumsum(framed_lengths)
    framed = np.empty(int(ends[-1]), values.dtype)
    inside = np.ones(len(framed), np.bool_)
    if bos_id is not None:
        starts = ends - framed_lengths
        framed[starts] = bos_id
        inside[starts] = False
    if eos_id is not None:
        framed[ends - 1] = eos_id
        inside[ends - 1] = False
    framed[inside] = values
    return framed, framed_lengths
