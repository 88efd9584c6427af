"""The loader on object storage: the same batches as from local files, whatever the server does meanwhile."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from infra.s3_server import S3Server
from tests.loader.corpora import ENDS, IDS, KINDS, RAGGED, SEPARATOR, coded, write_corpus
from tokenmill.loader import BlockCache, Delayed, Flat, Parallel, Pattern, Subset, TokenLoader
from tokenmill.storage.outputs import Storage

_LENGTHS = np.random.default_rng(5).integers(0, 3000, 400).tolist()
_SHARDS = [_LENGTHS[first : first + 50] for first in range(0, 400, 50)]


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> str:
    streams = {"ids": IDS, "pieces": ENDS, "kinds": KINDS}
    return write_corpus(tmp_path_factory.mktemp("corpus"), _SHARDS, streams=streams, duplicates={60: 2, 399: 1})


@pytest.fixture(scope="module")
def local_codes(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_corpus(tmp_path_factory.mktemp("codes"), _SHARDS, streams={"codes": coded(6), **RAGGED})


def copied(local: str, root: str) -> str:
    storage = Storage.open(root)
    for file in sorted(Path(local).rglob("*")):
        if file.is_file():
            storage.put(file.relative_to(local).as_posix(), [file.read_bytes()])
    return root


def batches(uri: str, **options: Any) -> list[Mapping[str, Any]]:
    with TokenLoader(uri, window=256, global_batch_size=8, **options) as loader:
        return list(loader)


@pytest.mark.parametrize("packing", ["windows", "documents"])
@pytest.mark.parametrize("shuffle", ["global", "blocks", "none"])
@pytest.mark.parametrize(
    "rest",
    [
        {},
        {"separator": SEPARATOR, "subset": Subset("train", 0.2), "prefix": 50, "tail": "pad"},
        {"documents": "pieces"},
        {"documents": "pieces", "separator": SEPARATOR, "subset": Subset("train", 0.2), "skip_duplicates": True},
        {"documents": "pieces", "distinct": "kinds"},
    ],
    ids=["plain", "separator-subset-prefix-pad", "pieces", "pieces-separator-subset-skip", "distinct"],
)
def test_same_batches_as_local(local: str, s3_root: str, packing: str, shuffle: str, rest: dict[str, Any]) -> None:
    options: dict[str, Any] = {"packing": packing, "shuffle": shuffle, "block_tokens": 20_000, "open_blocks": 3, **rest}
    there = batches(copied(local, s3_root), **options)
    here = batches(local, **options)
    assert len(there) == len(here) > 0
    for fetched, mapped in zip(there, here, strict=True):
        assert fetched.keys() == mapped.keys()
        for name, array in mapped.items():
            np.testing.assert_array_equal(fetched[name], array)


@pytest.mark.parametrize("shuffle", ["global", "blocks"])
@pytest.mark.parametrize(
    ("stream", "pattern"),
    [("codes", Flat()), ("codes", Flat(4)), ("codes", Parallel(2)), ("codes", Delayed()), (None, Flat())],
    ids=["flat", "flat-4", "parallel-2", "delayed", "ragged"],
)
def test_same_codes_as_local(
    local_codes: str, s3_root: str, shuffle: str, stream: str | None, pattern: Pattern
) -> None:
    options: dict[str, Any] = {
        "shuffle": shuffle,
        "block_tokens": 20_000,
        "open_blocks": 3,
        "stream": stream,
        "pattern": pattern,
    }
    there = batches(copied(local_codes, s3_root), **options)
    here = batches(local_codes, **options)
    assert len(there) == len(here) > 0
    for fetched, mapped in zip(there, here, strict=True):
        for name, array in mapped.items():
            np.testing.assert_array_equal(fetched[name], array)


def test_a_run_goes_on_from_a_copy_elsewhere(local: str, s3_root: str, tmp_path: Path) -> None:
    options: dict[str, Any] = {
        "window": 256,
        "global_batch_size": 8,
        "shuffle": "blocks",
        "block_tokens": 20_000,
        "open_blocks": 3,
    }
    unbroken = TokenLoader(local, **options)
    first = iter(unbroken)
    for _ in range(9):
        next(first)
    state = unbroken.state_dict()
    cache = BlockCache(tmp_path / "cache", 64 << 20)
    with TokenLoader(copied(local, s3_root), **options, cache=cache) as resumed:
        resumed.load_state_dict(state)
        for expected, found in zip(first, resumed, strict=True):
            np.testing.assert_array_equal(found["ids"], expected["ids"])


@pytest.mark.parametrize("shuffle", ["global", "blocks"])
def test_a_server_that_restarts_amid_an_epoch_is_waited_for(local: str, own_server: S3Server, shuffle: str) -> None:
    root = copied(local, f"s3://{own_server.bucket}/{shuffle}")
    options: dict[str, Any] = {
        "window": 256,
        "global_batch_size": 8,
        "shuffle": shuffle,
        "block_tokens": 20_000,
        "open_blocks": 2,
    }
    expected = [batch["ids"] for batch in TokenLoader(local, **options)]
    with TokenLoader(root, **options) as loader:
        found = []
        for number, batch in enumerate(loader):
            found.append(batch["ids"])
            if number == 2:
                own_server.kill()
                own_server.start()
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)
