"""What readers find becomes payloads: what counts as a text, an image, a recording or a module, and its size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from tokenmill.audio.audio_file import AudioFile, AudioOptions, HeldContent
from tokenmill.images.image_file import DecodingOptions, ImageFile
from tokenmill.ir.ir_file import IrFile, IrOptions
from tokenmill.job_sources import Source
from tokenmill.sources import reasons
from tokenmill.sources.limits import ReadLimits
from tokenmill.sources.text_sizes import utf8_sizes

#: Stands for a value that is not there at all (None is a null that is there).
MISSING: Final = msgspec.UNSET

#: Reason and message.
Problem = tuple[str, str]


class PayloadKind(Protocol):
    """Turns a column of raw values into the payloads of one modality.

    Attributes:
        name: What an item is called in messages.
    """

    name: str

    def sizes(self, values: Sequence[Any], problems: dict[int, Problem]) -> npt.NDArray[np.int64]:
        """Return int64 `[n]`, the bytes of each value; note what is wrong with one, by its index in the batch."""
        ...

    def payloads(self, values: list[Any]) -> list[Any]:
        """Return the payloads of `[n]` values that nothing is wrong with."""
        ...


class TextPayloads:
    """Texts: `str`; their size is that in UTF-8."""

    name = "text"

    def __init__(self, field: str) -> None:
        self._field = field

    def sizes(self, values: Sequence[Any], problems: dict[int, Problem]) -> npt.NDArray[np.int64]:
        """Return the sizes; bytes are texts that did not decode."""
        if set(map(type, values)) <= {str}:
            try:
                return utf8_sizes(values)
            except UnicodeEncodeError:
                pass  # one by one, to find out which
        return np.array([self._checked_size(value, i, problems) for i, value in enumerate(values)], np.int64)

    def payloads(self, values: list[Any]) -> list[Any]:
        """Return the texts as they are."""
        return values

    def _checked_size(self, text: Any, index: int, problems: dict[int, Problem]) -> int:
        name = self._field
        if isinstance(text, str):
            try:
                return int(utf8_sizes([text])[0])
            except UnicodeEncodeError as error:
                problems[index] = (reasons.INVALID_UTF8, f"{name!r} holds half a surrogate pair at {error.start}")
        elif text is MISSING:
            problems[index] = (reasons.MISSING_FIELD, f"there is no {name!r}")
        elif text is None:
            problems[index] = (reasons.NULL_TEXT, f"{name!r} is null")
        elif isinstance(text, bytes):
            problems[index] = (reasons.INVALID_UTF8, f"{name!r} does not decode: {reasons.quote(text)}")
        else:
            problems[index] = (
                reasons.WRONG_TYPE,
                f"{name!r} is no text but {type(text).__name__}: {reasons.quote(text)}",
            )
        return 0


class FilePayloads:
    """Images, recordings and modules: the bytes of a file, which are for the tokenizer to look into.

    Args:
        name: `image`, `audio` or `LLVM IR`.
        null: Reason of the reject that stands for a null.
        field: Column or member that holds the file.
        payload: Makes the payload of a file's bytes.
    """

    def __init__(self, name: str, null: str, field: str, payload: Callable[[bytes], Any]) -> None:
        self.name = name
        self._null = null
        self._field = field
        self._payload = payload

    def sizes(self, values: Sequence[Any], problems: dict[int, Problem]) -> npt.NDArray[np.int64]:
        """Return the sizes of the files."""
        for index, value in enumerate(values):
            if not isinstance(value, bytes):
                problems[index] = self._problem(value)
        return np.array([len(value) if isinstance(value, bytes) else 0 for value in values], np.int64)

    def payloads(self, values: list[Any]) -> list[Any]:
        """Return each file with how it is to be decoded."""
        return [self._payload(value) for value in values]

    def _problem(self, value: Any) -> Problem:
        if value is MISSING:
            return reasons.MISSING_FIELD, f"there is no {self._field!r}"
        if value is None:
            return self._null, f"{self._field!r} is null"
        return (
            reasons.WRONG_TYPE,
            f"{self._field!r} is no {self.name} file but {type(value).__name__}: {reasons.quote(value)}",
        )


def payload_kind(source: Source, limits: ReadLimits) -> PayloadKind:
    """Return what a source's values become."""
    if source.modality == "image":
        decoding = DecodingOptions(source.background, limits.max_pixels)
        return FilePayloads("image", reasons.NULL_IMAGE, source.fields.image, lambda data: ImageFile(data, decoding))
    if source.modality == "audio":
        options = audio_options(source, limits)
        return FilePayloads(
            "audio", reasons.NULL_AUDIO, source.fields.audio, lambda data: AudioFile(HeldContent(data), options)
        )
    if source.modality == "llvm-ir":
        reading = IrOptions(limits.max_ir_text_bytes, limits.max_ir_memory_bytes, limits.max_ir_seconds)
        return FilePayloads("LLVM IR", reasons.NULL_IR, source.fields.llvm_ir, lambda data: IrFile(data, reading))
    return TextPayloads(source.fields.text)


def audio_options(source: Source, limits: ReadLimits) -> AudioOptions:
    """Return how a source's recordings are decoded, as far as that is the same for all of them."""
    return AudioOptions(0 if source.channels == "first" else None, limits.max_audio_seconds)


def payload_field(source: Source) -> str:
    """Return the name of the column or member that holds a source's items."""
    return source.fields.of(source.modality)
