"""Canonical JSON and its hash: the one way in which tokenmill gives a thing an identity."""

from __future__ import annotations

import hashlib
import json
from typing import Any


def canonical_json(value: Any) -> bytes:
    """Serialise a JSON value to the one byte string that stands for it.

    Keys are sorted, there is no white space, text is UTF-8, and members that are None are dropped, so that a new
    optional field leaves old identities as they were. Raises ValueError for NaN and infinities.
    """
    return json.dumps(
        _without_none(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_none(member) for key, member in value.items() if member is not None}
    if isinstance(value, (list, tuple)):
        return [_without_none(member) for member in value]
    return value


def digest(value: Any) -> str:
    """Return the sha256 of a JSON value's canonical form, in hexadecimal."""
    return hashlib.sha256(canonical_json(value)).hexdigest()
