"""Reading a published dataset: `tokenmill.open(uri)["text"][0].streams["ids"]`.

Local shards are mapped: arrays are read-only views of the page cache. From object storage only the blocks that a row
lies in are fetched. What a shard says of its rows (keys, offsets, metadata) is always checked against the block
checksums in the manifest when the shard is opened, and so is every fetched byte. Values of local shards are not,
unless the dataset is opened with `check=True`; `tokenmill verify` checks everything.

Datasets, tables and rows are immutable, may be used from several threads, and pickle as uri and generation.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self, SupportsIndex, overload

import numpy as np
import numpy.typing as npt

from tokenmill.contract import Decoder, ResolvedTokenizer
from tokenmill.duplicates import Duplicates, has_digests
from tokenmill.errors import AssetError, CorruptionError, DatasetError, MissingFileError
from tokenmill.layout import parse_generation
from tokenmill.manifests import Manifest, ManifestTable, ShardTable, read_duplicates, read_manifest, read_shard_table
from tokenmill.pairing import PairedTables
from tokenmill.registry import parse_tokenizer
from tokenmill.row_runs import runs_worth_fetching
from tokenmill.shard_cache import ShardCache
from tokenmill.shard_files import OpenShard, ShardBytes, open_bytes
from tokenmill.storage.outputs import Storage
from tokenmill.streams import StreamSpec

#: What opened shards may hold of memory, all tables of a dataset together: about a thousand mapped ones, or this many
#: bytes fetched.
CACHE_BYTES = 256 << 20


@dataclass(frozen=True, slots=True)
class Row:
    """One item's tokens.

    Attributes:
        key: The item's key: its id, or the path of its file.
        ordinal: Its number in its split. (split, ordinal) is the same item in every table.
        split: Number of its split.
        document: Number in the split of the document that it is part of.
        position: Its place in that document.
        metadata: Carried columns by name.
        streams: Name → array in the stream's own shape, read-only.
    """

    key: str
    ordinal: int
    split: int
    document: int
    position: int
    metadata: Mapping[str, Any]
    streams: Mapping[str, npt.NDArray[Any]]


def open_dataset(uri: str, *, generation: int | None = None, check: bool = False) -> Dataset:
    """Open a published dataset; known as `tokenmill.open`.

    Args:
        uri: A local directory, or `s3://bucket/prefix`.
        generation: Which generation; default the newest.
        check: Check the values of local shards, too, against their checksums when they are first read. What comes
            from object storage is always checked.

    Raises:
        DatasetError: where nothing, or not this generation, is published.
        CorruptionError: where the manifest is not what was written.
        StorageError: where the storage cannot be read.
    """
    storage = Storage.open(uri)
    try:
        manifest = read_manifest(storage, generation)
    except MissingFileError as error:
        published = sorted(filter(None, (parse_generation(entry.path) for entry in storage.list("manifests/"))))
        raise DatasetError(
            f"has no generation {generation}; it has {published or 'none'}", where=storage.uri
        ) from error
    return Dataset(storage, manifest, check=check)


class Dataset:
    """A published dataset: tables by name.

    Attributes:
        uri: Its root.
        manifest: What was published.
    """

    def __init__(self, storage: Storage, manifest: Manifest, *, check: bool = False) -> None:
        """Make a dataset of its manifest; `open_dataset` reads one."""
        self.uri = storage.uri
        self.manifest = manifest
        self._check = check
        self._cache = ShardCache(CACHE_BYTES)
        self._tables = {
            name: Table(self, storage, table, self._cache, check=check) for name, table in manifest.tables.items()
        }

    @property
    def generation(self) -> int:
        """Its generation's number."""
        return self.manifest.generation

    @property
    def fingerprint(self) -> str:
        """What it holds: two datasets of one fingerprint have the same tokens."""
        return self.manifest.fingerprint

    @property
    def tables(self) -> Mapping[str, Table]:
        """Name → table."""
        return dict(self._tables)

    def paired(self, *names: str, distinct: bool = False) -> PairedTables:
        """Put tables side by side: the items that all of them have rows of, in order.

            pairs = dataset.paired("acoustic", "semantic")
            for rows in pairs:
                rows["acoustic"].streams["codes"], rows["semantic"].streams["units"]

        Args:
            names: The tables' names.
            distinct: Leave out the items that repeat an earlier one of them, as the first table's duplicates say.

        Raises:
            DatasetError: where there is no such table, or the first one has no list of duplicates that is asked for.
            ValueError: where these are not two different tables at least.
        """
        if len(set(names)) != len(names) or len(names) < 2:
            raise ValueError(f"two different tables at least are paired; {', '.join(names) or 'none'} came")
        return PairedTables({name: self[name] for name in names}, distinct=distinct)

    def close(self) -> None:
        """Let go of all shards that are open. Rows stay usable, and so does the dataset: it opens them again."""
        self._cache.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __getitem__(self, name: str) -> Table:
        if name not in self._tables:
            raise DatasetError(f"has no table {name!r}; it has {', '.join(self._tables)}", where=self.uri)
        return self._tables[name]

    def __contains__(self, name: object) -> bool:
        return name in self._tables

    def __iter__(self) -> Iterator[str]:
        return iter(self._tables)

    def __len__(self) -> int:
        return len(self._tables)

    def __reduce__(self) -> tuple[Any, ...]:
        return (_reopen, (self.uri, self.generation, self._check))

    def __repr__(self) -> str:
        tables = ", ".join(f"{name}: {len(table)} rows" for name, table in self._tables.items())
        return f"<tokenmill dataset {self.uri}, generation {self.generation}; {tables}>"


class Table:
    """One table: a sequence of rows in the order of splits and items.

    Attributes:
        name: Its name.
        manifest: What was published of it.
        storage: Where its dataset is.
    """

    def __init__(
        self, dataset: Dataset, storage: Storage, manifest: ManifestTable, cache: ShardCache, *, check: bool
    ) -> None:
        """Make a table of its manifest; `Dataset` holds them."""
        self.name = manifest.name
        self.manifest = manifest
        self._dataset = dataset
        self.storage = storage
        self._cache = cache
        self._check = check

    @property
    def tokenizer(self) -> ResolvedTokenizer:
        """The tokenizer's config, assets and fingerprint."""
        return self.manifest.tokenizer

    @property
    def streams(self) -> Mapping[str, StreamSpec]:
        """The streams of a row."""
        return self.manifest.streams

    @property
    def metadata(self) -> Mapping[str, str]:
        """Carried columns and their types."""
        return self.manifest.metadata

    @property
    def summary(self) -> Mapping[str, Any]:
        """The statistics' summary: `overall`, and each source's."""
        return self.manifest.summary

    @property
    def fingerprint(self) -> str:
        """What the table holds: the tokenizer's fingerprint and all shards' checksums."""
        return self.manifest.fingerprint

    @cached_property
    def shards(self) -> ShardTable:
        """The table's shards in reading order."""
        return read_shard_table(self.storage, self.manifest)

    def __len__(self) -> int:
        return self.manifest.rows

    @overload
    def __getitem__(self, index: slice) -> list[Row]: ...

    @overload
    def __getitem__(self, index: SupportsIndex) -> Row: ...

    def __getitem__(self, index: SupportsIndex | slice) -> Row | list[Row]:
        if isinstance(index, slice):
            return [self._row(number) for number in range(*index.indices(len(self)))]
        number = operator.index(index)
        if not -len(self) <= number < len(self):
            raise IndexError(f"row {number} of table {self.name!r}, which has {len(self)}")
        return self._row(number % len(self))

    def __iter__(self) -> Iterator[Row]:
        """Yield all rows in order, one shard after another; one shard at a time is held."""
        return self._in_order(np.arange)

    def chosen(self, numbers: npt.NDArray[np.int64]) -> Iterator[Row]:
        """Yield the rows with these numbers, which increase, as `__iter__` does; of the others little is fetched."""

        def between(first: int, last: int) -> npt.NDArray[np.int64]:
            start, stop = np.searchsorted(numbers, [first, last])
            return numbers[start:stop]

        return self._in_order(between)

    def distinct(self) -> Iterator[Row]:
        """Yield, as `__iter__` does, the rows that repeat no earlier one; of the others little is fetched.

        Raises:
            DatasetError: where it is not known which rows repeat one.
        """
        return self._in_order(self.known_duplicates().kept)

    @cached_property
    def duplicates(self) -> Duplicates | None:
        """Which rows repeat the content of an earlier one, by its digest.

        None where rows have no stream `sha256`, or some of them were made before their digests were kept. Raises
        CorruptionError where the list is not what was published.
        """
        return read_duplicates(self.storage, self.manifest)

    def known_duplicates(self) -> Duplicates:
        """Return `duplicates`; raises DatasetError where there is no list of them."""
        if self.duplicates is None:
            why = "its generation was published without one" if has_digests(self.streams) else "rows have no digests"
            raise DatasetError(f"table {self.name!r} has no list of duplicates: {why}", where=self._dataset.uri)
        return self.duplicates

    def decode(self, row: int | Row) -> Any:
        """Turn a row, or the row of an index, back into a payload (text: a `str`).

        Raises:
            DatasetError: where the tokenizer has no decoder.
            AssetError: where the vocabulary found here is not the one that the table was made with.
            MissingExtraError: where the tokenizer's library is not installed.
        """
        if not isinstance(row, Row):
            row = self[row]
        return self.decoder.decode(row.streams)

    @cached_property
    def decoder(self) -> Decoder:
        """What `decode` decodes with, of the tokenizer that the table was made with; raises as `decode` does."""
        tokenizer = parse_tokenizer(self.tokenizer.config, f"table {self.name!r}")
        here = tokenizer.assets()
        for name, asset in self.tokenizer.assets.items():
            if name not in here or here[name].sha256 != asset.sha256:
                raise AssetError(
                    f"asset {name!r} found here is not the one that the table was made with "
                    f"(sha256 {asset.sha256[:16]}…)",
                    where=here[name].location if name in here else None,
                    fix="give this machine the vocabulary that the table was made with",
                )
        decoder = tokenizer.decoder()
        if decoder is None:
            raise DatasetError(
                f"table {self.name!r} cannot be decoded: tokenizer {self.tokenizer.config['id']!r} has no decoder",
                where=self._dataset.uri,
            )
        return decoder

    def _in_order(self, choose: Callable[[int, int], npt.NDArray[np.int64]]) -> Iterator[Row]:
        """Yield the rows that `choose` returns the numbers of, increasing, for each shard's first and last + 1."""
        first = 0
        for index, last in enumerate(self.shards.row_ends.tolist()):
            rows = choose(first, last) - first
            if len(rows):
                shard = self.open_shard(index)
                for run in runs_worth_fetching(shard, rows):
                    for stream in shard.streams.values():
                        stream.require(int(run[0]), int(run[-1]) + 1)
                    for row in run.tolist():
                        yield _read_row(shard, row)
            first = last

    def _row(self, number: int) -> Row:
        index = int(np.searchsorted(self.shards.row_ends, number, side="right"))
        place = (self.name, index)
        shard = self._cache.get(place, lambda: self.open_shard(index))
        row = _read_row(shard, number - int(self.shards.row_ends[index]) + len(shard))
        self._cache.charge(place, shard)
        return row

    def open_shard(self, index: int, data: ShardBytes | None = None) -> OpenShard:
        """Open a shard by its number in `shards`.

        Args:
            index: Its number.
            data: Its bytes; default read from where the dataset is.

        Raises:
            CorruptionError: where it is not the shard that was published, naming it.
        """
        shards = self.shards

        def listed(column: str) -> int:
            return int(shards.table[column][index].as_py())

        if data is None:
            data = open_bytes(
                self.storage,
                shards.path(index),
                listed("size_bytes"),
                shards.blocks(index),
                check_values=self._check,
            )
        shard = OpenShard(data, {name: listed(f"value_offset.{name}") for name in self.streams})
        if shard.header.fingerprint != self.tokenizer.fingerprint or len(shard) != listed("rows"):
            raise CorruptionError(
                "is another shard than the manifest lists: its tokenizer or its number of rows differs",
                where=data.where,
                fix="`tokenmill verify` lists all damage",
            )
        return shard

    def __reduce__(self) -> tuple[Any, ...]:
        return (operator.getitem, (self._dataset, self.name))

    def __repr__(self) -> str:
        return (
            f"<table {self.name!r} of {self._dataset.uri}: {len(self)} rows, tokenizer {self.tokenizer.config['id']}>"
        )


def _reopen(uri: str, generation: int, check: bool) -> Dataset:
    return open_dataset(uri, generation=generation, check=check)


def _read_row(shard: OpenShard, row: int) -> Row:
    return Row(
        shard.key(row),
        int(shard.ordinals[row]),
        shard.header.split,
        int(shard.documents[row]),
        int(shard.positions[row]),
        shard.metadata(row),
        {name: stream.row(row) for name, stream in shard.streams.items()},
    )
