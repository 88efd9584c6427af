"""How many bytes texts have in UTF-8, without making those bytes twice.

CPython keeps the UTF-8 form of a `str` once something has asked for it through `PyUnicode_AsUTF8AndSize` (part of the
stable ABI), and tokenizers written in Rust or C++ ask for it through the same call. So measuring this way costs nothing
in the end, where `len(text.encode())` would encode every text that is not ASCII a second time.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

_as_utf8_and_size = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_void_p)(
    ("PyUnicode_AsUTF8AndSize", ctypes.pythonapi)
)


def utf8_sizes(texts: Sequence[str]) -> npt.NDArray[np.int64]:
    """Return the size of each text in UTF-8, int64 `[n]`; raises UnicodeEncodeError where one has a lone surrogate."""
    sizes = np.fromiter(map(len, texts), np.int64, len(texts))
    if all(map(str.isascii, texts)):
        return sizes
    size = ctypes.c_ssize_t()
    address = ctypes.addressof(size)
    for number, text in enumerate(texts):
        if not text.isascii():
            _as_utf8_and_size(text, address)
            sizes[number] = size.value
    return sizes
