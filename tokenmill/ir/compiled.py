"""The decorator of functions that are compiled: numba's, with types that checkers see, and a cache that can be trusted.

numba keeps what it compiled on disk, beside the source or in the user's own cache, and takes it from there as long as
the file of the function is the same. But a compiled function holds those that it calls and constants of other files.
So the names under which it is kept hold a hash of all source files of the package.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np

from tokenmill.errors import MissingExtraError

try:
    import numba
except ImportError as problem:  # configs are read, and tables looked at, without it
    numba, _problem = None, str(problem)

_Function = TypeVar("_Function", bound=Callable[..., Any])

#: Makes a byte or a unit a number like any other: sums of narrow numbers would be narrow.
whole: Callable[[Any], int] = cast("Any", np.int64)


def compiled(function: _Function) -> _Function:
    """Compile a function when it is first called, keep the result on disk, and let other threads run beside it.

    Where there is no folder to keep it in (a read-only installation, for a user without a home), each process compiles
    what was not compiled before it was forked. Without numba, it is the call that raises MissingExtraError.
    """
    if numba is None:
        return cast("_Function", lambda *_: require_numba())
    function.__qualname__ += "_" + _sources(Path(function.__code__.co_filename).parent)
    try:
        made = numba.njit(cache=True, nogil=True)(function)
    except RuntimeError:  # "no locator available"
        made = numba.njit(nogil=True)(function)
    return cast("_Function", made)


def require_numba() -> None:
    """Raise MissingExtraError where functions cannot be compiled."""
    if numba is None:
        raise MissingExtraError(
            f"LLVM IR is coded by functions that numba compiles, which does not load: {_problem}",
            fix="pip install 'tokenmill[ir]'",
        )


@cache
def _sources(package: Path) -> str:
    """Return a hash of a package's source files: what is compiled may hold anything of them."""
    digest = hashlib.sha256()
    for path in sorted(package.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]
