r"""A 64-bit hash of each function, alike for the same function in two modules.

A function's text names what belongs to the module by numbers and names that depend on everything else in it. Before it
is hashed,

- the function's own name becomes `@`, wherever it stands in it;
- `#7`, a group of attributes, becomes a hash of the group's text;
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

from tokenmill.ir.function_text import GROWTH, MEANING_BYTES, meanings, normalise

_NAME = rb'(?:"[^"\n]*"|[-\w$.]+)'
_ATTRIBUTES = re.compile(rb"\nattributes (#\d+) = (\{[^\n]*\})")
_PRIVATE = re.compile(rb"\n(@" + _NAME + rb") = (private (?:[\w()]+ )*?(?:global|constant) [^\n]*)")
_TYPE = re.compile(rb'\n(%(?:"[^"\n]*\.\d+"|[-\w$.]*\.\d+)) = type ([^\n]*)')
_NUMBERED = re.compile(rb'%(?:"[^"\n]*"|[-\w$.]*\.\d+)')
#: What goes from a variable's definition, up to the number of what is referred to; and what varies with the module, or
#: is a string and does not.
_DEBUG = re.compile(rb", !dbg !\d+")
_METADATA = re.compile(rb"!\d+")
_VARYING = re.compile(rb'@(?:"[^"\n]*"|[-\w$.]+)|%(?:"[^"\n]*"|[-\w$.]*\.\d+)|#\d+|"[^"\n]*"')


def function_hashes(text: bytes) -> npt.NDArray[np.uint64]:
    """Return uint64 `[function]`, the hashes of the functions that a canonical text defines, in their order."""
    held = meanings(_meanings(text))
    data, out = np.frombuffer(text, np.uint8), np.empty(GROWTH * len(text), np.uint8)
    digests = []
    at = _first_function(text)
    while at < len(text):
        size, stop = normalise(data, at, held, out)
        digests.append(_hashed(out[:size].data))
        at = _following(text, stop)
    return np.frombuffer(b"".join(digests), "<u8").astype(np.uint64)


def functions(text: bytes) -> Iterator[bytes]:
    """Yield the text of each function that a canonical text defines, from `define` to `}`."""
    at = _first_function(text)
    while at < len(text):
        stop = text.index(b"\n}\n", at) + 2
        yield text[at : stop + 1]
        at = _following(text, stop)


def _first_function(text: bytes) -> int:
    """Return where the first function begins, or the text's end."""
    return 0 if text.startswith(b"define ") else _following(text, 0)


def _following(text: bytes, at: int) -> int:
    found = text.find(b"\ndefine ", at)
    return found + 1 if found >= 0 else len(text)


def _meanings(text: bytes) -> dict[bytes, bytes]:
    """Return what the numbers and made-up names of a module stand for: hashes of `MEANING_BYTES`.

    LLVM prints types and variables before all functions, and groups of attributes behind them.
    """
    before = b"\n" + text[: _first_function(text)]
    behind = text[max(text.rfind(b"\n}\n"), 0) :]
    found = {group[1]: _hashed(group[2]) for group in _ATTRIBUTES.finditer(behind)}
    types = {one[1]: one[2] for one in _TYPE.finditer(before)}
    for name in list(types):
        _settle_type(name, types, found)
    definitions = {one[1]: one[2] for one in _PRIVATE.finditer(before)}
    hashed = {}
    for name, definition in definitions.items():
        settled = _VARYING.sub(
            lambda found_name: b"@" if found_name[0] in definitions else found.get(found_name[0], found_name[0]),
            _METADATA.sub(b"!", _DEBUG.sub(b"", definition)),
        )
        hashed[name] = _hashed(settled)
    return found | hashed


def _settle_type(name: bytes, types: dict[bytes, bytes], found: dict[bytes, bytes]) -> None:
    """Find what stands for a type, and first for those that it holds; no type holds itself, however deep they nest."""
    waiting, begun = [(name, False)], set()
    while waiting:
        one, settled_within = waiting.pop()
        definition = types.get(one)
        if definition is not None and settled_within:
            found[one] = _hashed(_NUMBERED.sub(lambda held: found.get(held[0], held[0]), definition))
            del types[one]
        elif definition is not None and one not in begun:
            begun.add(one)
            waiting.append((one, True))
            waiting += [(held, False) for held in _NUMBERED.findall(definition) if held in types]


def _hashed(content: bytes | memoryview) -> bytes:
    return hashlib.blake2b(content, digest_size=MEANING_BYTES).digest()
