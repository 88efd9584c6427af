"""tokenmill: read token datasets. `tokenmill.open(uri)["text"][0].streams["ids"]` is a numpy array.

Nothing is imported before it is used: `import tokenmill` costs next to nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tokenmill.dataset import Dataset, Row, Table
    from tokenmill.dataset import open_dataset as open  # noqa: A004 - `tokenmill.open` is what one says

    __version__: str

__all__ = ["Dataset", "Row", "Table", "__version__", "open"]

_EXPORTS = {"Dataset": "Dataset", "Row": "Row", "Table": "Table", "open": "open_dataset"}


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        from tokenmill import dataset

        return getattr(dataset, _EXPORTS[name])
    if name == "__version__":
        from importlib.metadata import version

        return version("tokenmill")
    raise AttributeError(f"module 'tokenmill' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
