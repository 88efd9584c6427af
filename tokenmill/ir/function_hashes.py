r"""A 64-bit hash of each function, alike for the same function in two modules.

A function's text names what belongs to the module by numbers and names that depend on everything else in it. Before it
is hashed,

- the function's own name becomes `@`, wherever it stands in it;
- `#7`, a group of attributes, becomes the group's text;
- a private variable (`@.str.12`, `@switch.table.f`), whose name the compiler made up, becomes a hash of its definition,
  in which further private variables become `@`. Other names stay, those of internal functions and variables included;
- a type with a number at its end (`%struct.anon.5`), which tells it from others of the module, becomes a hash of its
  definition, in which others of the kind become theirs;
- comments, debug records and attachments `!dbg` go, and a reference to other metadata `!7` becomes `!`.

So functions that differ in a string, a constant or an attribute differ, and those that differ only in debug
information, in aliasing metadata or in their names do not. Names of local values and blocks count. The hash is BLAKE2b
of 8 bytes, little-endian; it is for finding copies, and is no identity to rely on.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

_NAME = rb'(?:"[^"\n]*"|[-\w$.]+)'
_OWN_NAME = re.compile(rb'(?:[^@"\n]|"[^"\n]*")*@(' + _NAME + rb")\(")
_DEBUG_OF_FUNCTION = re.compile(rb" !dbg !\d+")
_BLOCK_COMMENT = re.compile(rb": +; (?:preds = |No predecessors)[^\n]*")
_ATTRIBUTES = re.compile(rb"\nattributes (#\d+) = (\{[^\n]*\})")
_PRIVATE = re.compile(rb"\n(@" + _NAME + rb") = (private (?:[\w()]+ )*?(?:global|constant) [^\n]*)")
_TYPE = re.compile(rb'\n(%(?:"[^"\n]*\.\d+"|[-\w$.]*\.\d+)) = type ([^\n]*)')
_NUMBERED = re.compile(rb'%(?:"[^"\n]*"|[-\w$.]*\.\d+)')
#: What goes, up to the number of what is referred to; and what varies with the module, or is a string and does not.
_DEBUG = re.compile(rb"\n +#dbg_[^\n]*|, !dbg !\d+")
_METADATA = re.compile(rb"!\d+")
_VARYING = re.compile(rb'@(?:"[^"\n]*"|[-\w$.]+)|%(?:"[^"\n]*"|[-\w$.]*\.\d+)|#\d+|"[^"\n]*"')
_VARYING_BUT_TYPES = re.compile(rb'@(?:"[^"\n]*"|[-\w$.]+)|#\d+|"[^"\n]*"')


def function_hashes(text: bytes) -> npt.NDArray[np.uint64]:
    """Return uint64 `[function]`, the hashes of the functions that a canonical text defines, in their order."""
    module = _Module(text)
    digests = [hashlib.blake2b(module.normalised(function), digest_size=8).digest() for function in functions(text)]
    return np.frombuffer(b"".join(digests), "<u8").astype(np.uint64)


def functions(text: bytes) -> Iterator[bytes]:
    """Yield the text of each function that a canonical text defines, from `define` to `}`."""
    text = b"\n" + text
    start = text.find(b"\ndefine ")
    while start >= 0:
        stop = text.index(b"\n}\n", start) + 2
        yield text[start + 1 : stop + 1]
        start = text.find(b"\ndefine ", stop)


class _Module:
    """What the numbers and the made-up names of a module stand for."""

    def __init__(self, text: bytes) -> None:
        text = b"\n" + text
        self._meanings: dict[bytes, bytes] = {found[1]: found[2] for found in _ATTRIBUTES.finditer(text)}
        self._types = {found[1]: found[2] for found in _TYPE.finditer(text)}
        self._varying = _VARYING if self._types else _VARYING_BUT_TYPES
        for name in list(self._types):
            self._settle_type(name)
        definitions = {found[1]: found[2] for found in _PRIVATE.finditer(text)}
        hashed = {}
        for name, definition in definitions.items():
            settled = _VARYING.sub(
                lambda found: b"@" if found[0] in definitions else self._meanings.get(found[0], found[0]),
                _METADATA.sub(b"!", _DEBUG.sub(b"", definition)),
            )
            hashed[name] = b"@" + _hashed(settled)
        self._meanings |= hashed

    def normalised(self, function: bytes) -> bytes:
        """Return a function's text as it is hashed."""
        named = _OWN_NAME.match(function)
        own = b"@" + named[1] if named else b""
        header, _, body = function.partition(b"\n")
        text = _DEBUG_OF_FUNCTION.sub(b"", header) + b"\n" + _BLOCK_COMMENT.sub(b":", body)
        text = _METADATA.sub(b"!", _DEBUG.sub(b"", text))
        get = self._meanings.get

        def meaning(found: re.Match[bytes]) -> bytes:
            token = found[0]
            return b"@" if token == own else get(token, token)

        return self._varying.sub(meaning, text)

    def _settle_type(self, name: bytes) -> bytes:
        """Return what stands for a type, once those that it holds are settled; no type holds itself."""
        definition = self._types.pop(name, None)
        if definition is not None:
            settled = _NUMBERED.sub(lambda found: self._settle_type(found[0]), definition)
            self._meanings[name] = b"%" + _hashed(settled)
        return self._meanings.get(name, name)


def _hashed(definition: bytes) -> bytes:
    return hashlib.blake2b(definition, digest_size=8).hexdigest().encode()
