"""What all text encoders share: batches in which some item cannot be tokenized, and BOS and EOS around documents."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tokenmill.contract import Encoded, Failure
from tokenmill.errors import TokenizerError
from tokenmill.streams import Jagged

Ids = npt.NDArray[Any]
Lengths = npt.NDArray[np.int64]
Batch = Callable[[list[str]], tuple[Ids, Lengths]]
"""Tokenizes texts: ids `[token]` laid end to end, and int64 lengths `[text]`. May raise for the whole batch."""


def require_cpu(device: str, tokenizer: str) -> None:
    """Refuse a device that a text tokenizer cannot run on."""
    if device != "cpu":
        raise TokenizerError(f"tokenizer {tokenizer!r} runs on the device 'cpu' only (given {device!r})")


class TextEncoder:
    """The encoder of every text tokenizer: one stream `ids` from a function that tokenizes batches.

    Args:
        batch: The function. If it raises, the items are tried one by one and those that raise are failures.
        dtype: Of the stream.
        bos_id: Put before each document; None for none.
        eos_id: Put after each document; None for none.
        max_document_bytes: Documents of more UTF-8 bytes are failures (`too_long`); None for no limit.
    """

    def __init__(
        self,
        batch: Batch,
        dtype: str,
        *,
        bos_id: int | None = None,
        eos_id: int | None = None,
        max_document_bytes: int | None = None,
    ) -> None:
        self._batch = batch
        self._dtype = dtype
        self._bos_id = bos_id
        self._eos_id = eos_id
        self._max_document_bytes = max_document_bytes

    def encode(self, payloads: Sequence[Any]) -> Encoded:
        """Tokenize a batch of `str`s."""
        texts = list(payloads)
        failures: tuple[Failure, ...] = ()
        limit = self._max_document_bytes
        try:
            if limit is not None and any(_exceeds(text, limit) for text in texts):
                values, lengths, failures = self._one_by_one(texts)
            else:
                values, lengths = self._batch(texts)
        except BaseException as error:
            if not _is_of_an_item(error):
                raise
            values, lengths, failures = self._one_by_one(texts)
        values, lengths = frame(values.astype(self._dtype, copy=False), lengths, self._bos_id, self._eos_id)
        return Encoded({"ids": Jagged.from_lengths(values, lengths)}, failures)

    def _one_by_one(self, payloads: list[Any]) -> tuple[Ids, Lengths, tuple[Failure, ...]]:
        rows: list[Ids] = []
        failures: list[Failure] = []
        for index, payload in enumerate(payloads):
            problem = _problem(payload, self._max_document_bytes)
            if problem is not None:
                failures.append(Failure(index, *problem))
                continue
            try:
                rows.append(self._batch([payload])[0])
            except BaseException as error:
                if not _is_of_an_item(error):
                    raise
                message = f"the engine gave up: {type(error).__name__}: {str(error)[:300]}"
                failures.append(Failure(index, "tokenizer_failed", message))
        values = np.concatenate(rows) if rows else np.empty(0, self._dtype)
        return values, np.fromiter(map(len, rows), np.int64, len(rows)), tuple(failures)


def _is_of_an_item(error: BaseException) -> bool:
    """Tell whether an exception is about what was to be tokenized, rather than about this process.

    Rust engines panic with a BaseException whose type cannot be imported.
    """
    return isinstance(error, (ValueError, TypeError, RuntimeError)) or type(error).__name__ == "PanicException"


def _problem(payload: Any, limit: int | None) -> tuple[str, str] | None:
    if not isinstance(payload, str):
        return "not_text", f"a text tokenizer takes str; given {type(payload).__name__}"
    try:
        payload.encode()
    except UnicodeEncodeError as error:
        return "invalid_unicode", f"a lone surrogate {payload[error.start]!r} at character {error.start}"
    if limit is not None and _exceeds(payload, limit):
        size = len(payload.encode())
        return "too_long", f"{size} bytes of UTF-8; this tokenizer's max_document_bytes is {limit}"
    return None


def _exceeds(text: str, limit: int) -> bool:
    # Most texts are settled by their number of characters (at most 4 bytes each).
    return len(text) * 4 > limit and len(text.encode()) > limit


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
