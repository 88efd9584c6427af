"""A range of addresses into which many files are mapped side by side, so that numpy gathers from all of them at once.

Python's `mmap` chooses addresses itself, and an array cannot span two mappings. Here a range of addresses is reserved,
which takes no memory, and each file is mapped at its own place in it (mmap(2) with MAP_FIXED); what is not mapped must
not be touched. What lies in the files is not known here.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import weakref
from typing import Any

import numpy as np
import numpy.typing as npt

from tokenmill.errors import CorruptionError, MissingFileError, StorageError

_MAP_FIXED = 0x10
_MAP_NORESERVE = 0x4000
_FIX = "`tokenmill verify` lists all damage"
_FAILED = ctypes.c_void_p(-1).value

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
_libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]


class AddressRange:
    """Addresses for files of known sizes, given back when neither the range nor an array of it is in use.

    Args:
        sizes: int64 `[file]`, bytes of each file.

    Attributes:
        bytes: uint8 `[address]`; only what lies in a mapped file may be read.
        offsets: int64 `[file]`, where each file begins in `bytes`; a multiple of the page size.

    Raises:
        StorageError: the system does not give so many addresses.
    """

    def __init__(self, sizes: npt.NDArray[np.int64]) -> None:
        self._sizes = sizes
        pages = -(-sizes // mmap.PAGESIZE) * mmap.PAGESIZE
        ends: npt.NDArray[np.int64] = np.cumsum(pages)
        self.offsets = ends - pages
        total = max(int(ends[-1]) if len(ends) else 0, mmap.PAGESIZE)
        self._base = _map(None, total, 0, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_NORESERVE, -1)
        memory: Any = (ctypes.c_uint8 * total).from_address(self._base)
        weakref.finalize(memory, _libc.munmap, self._base, total)
        self.bytes: npt.NDArray[np.uint8] = np.frombuffer(memory, np.uint8)
        self.bytes.flags.writeable = False

    def map(self, number: int, path: str) -> None:
        """Map a file at its place.

        Raises:
            MissingFileError: there is no such file.
            CorruptionError: it has not the size that was given.
            StorageError: it cannot be mapped.
        """
        size = int(self._sizes[number])
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise MissingFileError("there is no such file", where=path, fix=_FIX) from error
        except OSError as error:
            raise StorageError(f"cannot be mapped: {error.strerror}", where=path) from error
        try:
            found = os.fstat(descriptor).st_size
            if found != size:
                raise CorruptionError(f"has {found} bytes in place of {size}", where=path, fix=_FIX)
            place = self._base + int(self.offsets[number])
            _map(place, size, mmap.PROT_READ, mmap.MAP_SHARED | _MAP_FIXED, descriptor, path)
        finally:
            os.close(descriptor)

    def unmap(self, number: int) -> None:
        """Let go of a file; its addresses stay reserved."""
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_NORESERVE | _MAP_FIXED
        _map(self._base + int(self.offsets[number]), int(self._sizes[number]), 0, flags, -1)


def _map(place: int | None, size: int, protection: int, flags: int, descriptor: int, where: str | None = None) -> int:
    address = _libc.mmap(place, size, protection, flags, descriptor, 0)
    if address is None or address == _FAILED:
        reason = os.strerror(ctypes.get_errno())
        raise StorageError(
            f"{size} bytes cannot be mapped: {reason}",
            where=where,
            fix="look at the limits of addresses (ulimit -v) and of mappings (vm.max_map_count)",
        )
    return int(address)
