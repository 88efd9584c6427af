"""Sealed JSON: the small files of a dataset (plans, receipts, manifests), each carrying its own checksum.

One changed byte makes a sealed file unreadable: the text must be exactly what sealing its content gives.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from tokenmill.errors import CorruptionError

_SEAL = "sha256"


def seal(value: dict[str, Any]) -> bytes:
    """Serialise a JSON object, readable for people, with its checksum in the member `sha256`.

    The members keep their order, which means something for streams and metadata columns.
    """
    return _text({**value, _SEAL: _checksum(value)})


def unseal(data: bytes, where: str) -> dict[str, Any]:
    """Read what `seal` wrote; raises CorruptionError naming `where` if a single byte differs."""
    fix = "restore the file from a copy, or delete it and run the job again"
    try:
        value = json.loads(data)
    except ValueError as error:
        raise CorruptionError(f"is not the JSON that was written: {error}", where=where, fix=fix) from error
    if not isinstance(value, dict) or _SEAL not in value:
        raise CorruptionError("carries no checksum", where=where, fix=fix)
    given = value.pop(_SEAL)
    if given != _checksum(value) or _text({**value, _SEAL: given}) != data:
        raise CorruptionError("does not match its own checksum", where=where, fix=fix)
    return value


def _checksum(value: dict[str, Any]) -> str:
    # Not `canonical.digest`: to that a member that is null may be called anything.
    return hashlib.sha256(_text(value)).hexdigest()


def _text(value: dict[str, Any]) -> bytes:
    return (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode()
