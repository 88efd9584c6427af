"""The decorator of functions that are compiled: numba's, with types that checkers see."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np
from numba import njit

_Function = TypeVar("_Function", bound=Callable[..., Any])

#: Makes a byte or a unit a number like any other: sums of narrow numbers would be narrow.
whole: Callable[[Any], int] = cast("Any", np.int64)


def compiled(function: _Function) -> _Function:
    """Compile a function when it is first called, keep the result on disk, and let other threads run beside it."""
    made: _Function = njit(cache=True, nogil=True)(function)
    return made
