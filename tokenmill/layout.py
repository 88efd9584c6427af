"""Names of everything in a dataset, relative to its root, so that a dataset can be copied whole.

- plans/<generation>.json, plans/<generation>-<hash>.splits.arrow
- <table>/shards/<split>-<part>-<hash>.arrow
- <table>/receipts/<split>-<part>.<attempt>.json
- <table>/statistics/<split>-<part>-<hash>.arrow
- rejects/<table>-<split>-<part>-<hash>.jsonl
- manifests/<generation>.json, manifests/<generation>-<table>-<hash>.{shards,statistics,duplicates}.arrow
- takedowns/<number>.json, takedowns/<number>-<hash>.{keys,parts}.arrow
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_HASH_DIGITS = 16

_RECEIPT = re.compile(r"^(?P<table>[^/]+)/receipts/(?P<split>\d+)-(?P<part>\d+)\.(?P<attempt>\d+)\.json$")
_GENERATION = re.compile(r"^(?:plans|manifests|takedowns)/(?P<generation>\d{6,})\.json$")
_PRODUCT = re.compile(
    r"^(?:(?P<table>[^/]+)/(?:shards|statistics)/|rejects/(?P<rejects>.+)-(?=\d{6,}-\d{4,}-[0-9a-f]{16}\.))"
    r"(?P<split>\d+)-(?P<part>\d+)-(?P<hash>[0-9a-f]{16})\.(?:arrow|jsonl)$"
)


@dataclass(frozen=True, slots=True, order=True)
class ReceiptName:
    """The place of a receipt: whose part it is, and which attempt made it."""

    table: str
    split: int
    part: int
    attempt: int


@dataclass(frozen=True, slots=True, order=True)
class ProductName:
    """Whose part a shard, a statistics file or a file of rejects belongs to."""

    table: str
    split: int
    part: int


def generation_name(generation: int) -> str:
    """Return a generation's number as file names hold it."""
    return f"{generation:06d}"


def plan(generation: int) -> str:
    """Return the path of a plan."""
    return f"plans/{generation_name(generation)}.json"


def splits(generation: int, sha256: str) -> str:
    """Return the path of a plan's columnar table of splits."""
    return f"plans/{generation_name(generation)}-{sha256[:_HASH_DIGITS]}.splits.arrow"


def manifest(generation: int) -> str:
    """Return the path of a manifest."""
    return f"manifests/{generation_name(generation)}.json"


def manifest_shards(generation: int, table: str, sha256: str) -> str:
    """Return the path of a published table of shards."""
    return f"manifests/{generation_name(generation)}-{table}-{sha256[:_HASH_DIGITS]}.shards.arrow"


def manifest_statistics(generation: int, table: str, sha256: str) -> str:
    """Return the path of a table's published statistics."""
    return f"manifests/{generation_name(generation)}-{table}-{sha256[:_HASH_DIGITS]}.statistics.arrow"


def manifest_duplicates(generation: int, table: str, sha256: str) -> str:
    """Return the path of a table's published list of duplicates."""
    return f"manifests/{generation_name(generation)}-{table}-{sha256[:_HASH_DIGITS]}.duplicates.arrow"


def takedown(number: int) -> str:
    """Return the path of a takedown list."""
    return f"takedowns/{generation_name(number)}.json"


def takedown_keys(number: int, sha256: str) -> str:
    """Return the path of a takedown list's digests of keys."""
    return f"takedowns/{generation_name(number)}-{sha256[:_HASH_DIGITS]}.keys.arrow"


def takedown_parts(number: int, sha256: str) -> str:
    """Return the path of a takedown list's parts in which keys were found."""
    return f"takedowns/{generation_name(number)}-{sha256[:_HASH_DIGITS]}.parts.arrow"


def part_name(split: int, part: int) -> str:
    """Return a part's name, the stem of everything that it writes."""
    return f"{split:06d}-{part:04d}"


def shard(table: str, split: int, part: int, sha256: str) -> str:
    """Return the path of a shard."""
    return f"{table}/shards/{part_name(split, part)}-{sha256[:_HASH_DIGITS]}.arrow"


def statistics(table: str, split: int, part: int, sha256: str) -> str:
    """Return the path of a part's statistics."""
    return f"{table}/statistics/{part_name(split, part)}-{sha256[:_HASH_DIGITS]}.arrow"


def rejects(table: str, split: int, part: int, sha256: str) -> str:
    """Return the path of a part's rejected items."""
    return f"rejects/{table}-{part_name(split, part)}-{sha256[:_HASH_DIGITS]}.jsonl"


def receipt(name: ReceiptName) -> str:
    """Return the path of a receipt."""
    return f"{name.table}/receipts/{part_name(name.split, name.part)}.{name.attempt}.json"


def parse_receipt(path: str) -> ReceiptName | None:
    """Return what a receipt's path says, or None for other paths."""
    match = _RECEIPT.match(path)
    if match is None:
        return None
    return ReceiptName(match["table"], int(match["split"]), int(match["part"]), int(match["attempt"]))


def parse_generation(path: str) -> int | None:
    """Return the number of a plan's, manifest's or takedown list's path, or None for other paths."""
    match = _GENERATION.match(path)
    return None if match is None else int(match["generation"])


def parse_product(path: str) -> ProductName | None:
    """Return whose part a shard's, statistics' or rejects' path belongs to, or None for other paths.

    Such files are kept only where a receipt names them.
    """
    match = _PRODUCT.match(path)
    if match is None:
        return None
    return ProductName(match["table"] or match["rejects"], int(match["split"]), int(match["part"]))


def is_product(path: str) -> bool:
    """Say whether a path is that of a shard, of statistics or of rejects: what a receipt must name to be kept."""
    return parse_product(path) is not None
