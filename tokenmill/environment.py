"""The environment in which tokens were made: versions that could change a token or a byte, recorded in receipts."""

from __future__ import annotations

import functools
import platform
from collections.abc import Sequence
from importlib import metadata

# Libraries that decide ids or bytes of any table; a tokenizer names further ones. Storage, Beam and Prefect decide
# neither.
_LIBRARIES = ("fastokens", "numpy", "pyarrow", "sentencepiece", "tiktoken", "tokenizers", "tokenmill")


@functools.cache
def _versions(libraries: tuple[str, ...]) -> dict[str, str]:
    versions = {"python": platform.python_version(), "machine": platform.machine()}
    for library in (*_LIBRARIES, *libraries):
        try:
            versions[library] = metadata.version(library)
        except metadata.PackageNotFoundError:
            continue
    return versions


def describe_environment(device: str, libraries: Sequence[str] = ()) -> dict[str, str]:
    """Return versions, of these libraries too, and the kind of device: what a table's tokens are made under here."""
    return {**_versions(tuple(libraries)), "device": device.partition(":")[0]}


def environment_difference(before: dict[str, str], now: dict[str, str]) -> str | None:
    """Return the first difference between two environments in words, or None where they are the same."""
    for name in sorted(before.keys() | now.keys()):
        if before.get(name) != now.get(name):
            return f"{name} was {before.get(name, 'absent')}, is now {now.get(name, 'absent')}"
    return None
