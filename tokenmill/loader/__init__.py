"""Training's side of a dataset: packed batches in a global order, resumed exactly on any number of ranks and workers.

from tokenmill.loader import TokenLoader

loader = TokenLoader("s3://corpora/books", table="text", window=2048, global_batch_size=512, rank=0, world_size=8)
for batch in loader:
    batch["ids"]  # int64 [64, 2048]
"""

from tokenmill.loader.block_cache import BlockCache
from tokenmill.loader.corpus import TokenCorpus
from tokenmill.loader.documents import PackedDocuments
from tokenmill.loader.loading import TokenLoader
from tokenmill.loader.patterns import Delayed, Flat, Parallel, Pattern
from tokenmill.loader.ragged import Ragged
from tokenmill.loader.sources import Source
from tokenmill.loader.subsets import Subset
from tokenmill.loader.windows import PackedWindows

__all__ = [
    "BlockCache",
    "Delayed",
    "Flat",
    "PackedDocuments",
    "PackedWindows",
    "Parallel",
    "Pattern",
    "Ragged",
    "Source",
    "Subset",
    "TokenCorpus",
    "TokenLoader",
]
