"""For any table, any way to read it, and any numbers of ranks and workers: what an epoch is, and how it goes on."""

from __future__ import annotations

import contextlib
import json
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice, pairwise
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.loader.corpora import ENDS, IDS, KINDS, RAGGED, SEPARATOR, coded, write_corpus
from tests.loader.reference import (
    PADDING,
    Batch,
    Reference,
    Sample,
    as_worker,
    forked,
    on_ranks,
    samples_of,
    through_workers,
    without_padding,
)
from tokenmill.errors import LoaderError
from tokenmill.loader import Delayed, Flat, Parallel, Pattern, Subset, TokenLoader, loading

Shards = tuple[tuple[int, ...], ...]
Corpora = Callable[[Shards], str]
#: How a training run is spread: ranks, DataLoader workers of each, and samples of a batch on each rank.
Spread = tuple[int, int, int]


@pytest.fixture(scope="module")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> Corpora:
    """Writes tables, each once."""
    written: dict[Shards, str] = {}

    def uri_of(shards: Shards) -> str:
        if shards not in written:
            streams = {"ids": IDS, "pieces": ENDS, "kinds": KINDS, "codes": coded(3), **RAGGED}
            duplicates = dict.fromkeys(range(1, sum(map(len, shards)), 3), 0)
            root = tmp_path_factory.mktemp("corpus")
            written[shards] = write_corpus(root, shards, streams=streams, duplicates=duplicates)
        return written[shards]

    return uri_of


@dataclass(frozen=True)
class Case:
    """A table, and how it is read."""

    shards: Shards
    options: dict[str, Any] = field(hash=False)

    def epochs(self, corpora: Corpora) -> Iterator[list[Batch]]:
        """Yield the batches of every epoch, as one rank without workers reads samples one by one."""
        (loader,) = self.loaders(corpora, (1, 0, 1))
        while True:
            yield list(loader)

    def sequences(self, corpora: Corpora) -> Iterator[list[Sample]]:
        """Yield the samples of every epoch in their order."""
        return (samples_of(*batches) for batches in self.epochs(corpora))

    def loaders(self, corpora: Corpora, spread: Spread) -> list[TokenLoader]:
        """Return every rank's loader."""
        ranks, _, batch_size = spread
        size = ranks * batch_size
        options = {"global_batch_size": size, "world_size": ranks, **self.options}
        # What is too small for a window or a batch is refused.
        made: list[TokenLoader] = []
        with contextlib.suppress(LoaderError):
            made = [TokenLoader(corpora(self.shards), rank=rank, **options) for rank in range(ranks)]
        assume(made)
        return made

    def reference(self, corpora: Corpora) -> Reference:
        names = ("separator", "subset", "prefix", "stream", "pattern", "documents", "skip_duplicates", "distinct")
        return Reference(corpora(self.shards), **{name: self.options[name] for name in names})

    @property
    def pads(self) -> bool:
        return bool(self.options["tail"] == "pad")


#: A stream, and the pattern that lays it out; codes of different frame rates have no stream of their own.
READ: list[tuple[str | None, Pattern | None]] = [
    ("ids", None), ("codes", Flat()), ("codes", Flat(2)), ("codes", Flat(offsets=False)), (None, Flat()),
    (None, Flat(3)), ("codes", Parallel()), ("codes", Parallel(2)), ("codes", Delayed()), ("codes", Delayed(2, 1200)),
    ("codes", Delayed(1)),
]  # fmt: skip


@st.composite
def cases(draw: st.DrawFn) -> Case:
    length = st.one_of(st.integers(0, 3), st.integers(0, 30), st.just(90))
    shards = draw(st.lists(st.lists(length, max_size=7), min_size=1, max_size=5))
    subset = st.builds(Subset, st.sampled_from(["train", "validation"]), st.sampled_from([0.3, 0.6]))
    window = draw(st.integers(1, 9))
    stream, pattern = draw(st.just(READ[0]) | st.sampled_from(READ))
    documents = draw(st.sampled_from([None, "pieces"])) if stream == "ids" else None
    options = {
        "stream": stream,
        "pattern": pattern,
        "documents": documents,
        "distinct": draw(st.sampled_from([None, "kinds"])) if documents else None,
        "skip_duplicates": draw(st.booleans()),
        "window": window,
        "packing": draw(st.sampled_from(["windows", "documents"])),
        "shuffle": draw(st.sampled_from(["global", "blocks", "none"])),
        "tail": draw(st.sampled_from(["drop", "pad"])),
        "separator": draw(st.sampled_from([None, SEPARATOR])),
        "subset": draw(st.none() | subset),
        "prefix": draw(st.none() | st.integers(1, 20)),
        "seed": draw(st.integers(0, 3)),
        "block_tokens": window * draw(st.integers(1, 4)),
        "open_blocks": draw(st.integers(1, 3)),
    }
    return Case(tuple(map(tuple, shards)), options)


spreads = st.tuples(st.sampled_from([1, 2, 3, 4, 8]), st.integers(0, 3), st.integers(1, 3))


def read(loaders: Sequence[TokenLoader], spread: Spread, count: int | None = None) -> list[list[Batch]]:
    """Read every rank's batches, at most `count`; samples are found few at a time, so that it takes many draws."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loading, "_DRAWN_SAMPLES", 5)
        return [through_workers(loader, spread[1], count) for loader in loaders]


def cut(sequence: list[Sample], spread: Spread, *, pads: bool) -> list[Sample]:
    """Leave out what does not fill a global batch, unless it is padded."""
    size = spread[0] * spread[2]
    return sequence if pads else sequence[: len(sequence) // size * size]


@settings(max_examples=40)
@given(cases())
def test_an_epoch_has_every_token_once_and_says_where_it_is_from(corpora: Corpora, case: Case) -> None:
    reference = case.reference(corpora)
    window = case.options["window"]
    for batches in islice(case.epochs(corpora), 2):
        for batch in batches:
            reference.check(batch)
        missing = reference.missing(batches)
        if case.pads or case.options["packing"] == "documents":
            assert not missing
        else:
            assert missing.total() == len(reference.ring) % window
        assert [batch["samples"] - batches[0]["samples"] for batch in batches] == list(range(len(batches)))


@settings(max_examples=40)
@given(cases())
def test_windows_are_runs_of_the_ring_and_packed_documents_are_whole(corpora: Corpora, case: Case) -> None:
    reference, window = case.reference(corpora), case.options["window"]
    following = dict(zip(reference.ring, reference.ring[1:] + reference.ring[:1], strict=True))
    for _, documents, positions in next(islice(case.sequences(corpora), 1, None)):
        places = [place for place in zip(documents, positions, strict=True) if place[0] != PADDING]
        if case.options["packing"] == "windows":
            assert all(following[one] == other for one, other in pairwise(places))
            continue
        for document in {document for document, _ in places}:
            found = [position for other, position in places if other == document]
            length = len(reference.documents[document])
            first = found[0]
            assert first % window == 0
            assert found == list(range(first, min(first + window, length)))


@settings(max_examples=20)
@given(cases(), spreads)
def test_the_sequence_does_not_depend_on_ranks_workers_or_batch_size(
    corpora: Corpora, case: Case, spread: Spread
) -> None:
    loaders = case.loaders(corpora, spread)
    ranks = read(loaders, spread)
    expected = cut(next(case.sequences(corpora)), spread, pads=case.pads)
    found = on_ranks(ranks)
    assert without_padding(found) == expected
    assert found[: len(expected)] == expected, "padding comes last"
    assert len(ranks[0]) == len(loaders[0])
    reference = case.reference(corpora)
    for batches in ranks:
        for batch in batches:
            reference.check(batch)
            assert batch["ids"].shape[:2] == batch["positions"].shape == (spread[2], case.options["window"])
    left_out = reference.missing(batch for batches in ranks for batch in batches).total()
    most = 0 if case.pads else case.options["window"] * (1 + spread[0] * spread[2])
    assert left_out <= most


@settings(max_examples=20)
@given(cases(), spreads, spreads, st.data())
def test_a_run_goes_on_anywhere_on_any_ranks_workers_and_batch_size(
    corpora: Corpora, case: Case, before: Spread, after: Spread, data: st.DataObject
) -> None:
    loaders = case.loaders(corpora, before)
    sequences = case.sequences(corpora)
    sequence = next(sequences)
    batches = len(loaders[0])
    count = data.draw(st.integers(1, batches), label="batches before")
    ranks = read(loaders, before, count)
    states = [loader.state_dict(batches[-1]) for loader, batches in zip(loaders, ranks, strict=True)]
    assert all(state == states[0] for state in states)
    done = min(count * before[0] * before[2], len(sequence))
    assert states[0]["samples"] == done
    assert without_padding(on_ranks(ranks)) == sequence[:done]

    loaders = case.loaders(corpora, after)
    for loader in loaders:
        loader.load_state_dict(json.loads(json.dumps(states[-1])))
        assert loader.samples == done
    expected = cut(sequence[done:], after, pads=case.pads) or cut(next(sequences), after, pads=case.pads)
    assert without_padding(on_ranks(read(loaders, after))) == expected
    # The epoch has ended, and the next one begins.
    expected = cut(next(sequences), after, pads=case.pads)
    assert without_padding(on_ranks(read(loaders, after))) == expected


@settings(max_examples=30)
@given(cases(), st.lists(st.integers(0, 4), max_size=6), spreads)
def test_breaking_off_and_going_on_loses_and_repeats_nothing(
    corpora: Corpora, case: Case, counts: list[int], spread: Spread
) -> None:
    # Through states of the main process, without workers, over the ends of epochs.
    spread = (spread[0], 0, spread[2])
    loaders = case.loaders(corpora, spread)
    found: list[Sample] = []
    for count in counts:
        ranks = read(loaders, spread, count) if count else []
        found += without_padding(on_ranks(ranks))
        states = [loader.state_dict() for loader in loaders]
        assert all(state == states[0] for state in states)
        assert loaders[0].samples == states[0]["samples"] == len(found)
        loaders = case.loaders(corpora, spread)
        for loader, state in zip(loaders, states, strict=True):
            loader.load_state_dict(state)
    expected: list[Sample] = []
    sequences = case.sequences(corpora)
    while len(expected) < len(found):
        expected += cut(next(sequences), spread, pads=case.pads)
    assert found == expected[: len(found)]


class Stateful:
    """A StatefulDataLoader without its processes: workers make batches ahead, each with the state that it then has."""

    def __init__(self, loader: TokenLoader, workers: int, saved: tuple[int, list[Any]] | None = None) -> None:
        self._workers = [forked(loader) for _ in range(workers)]
        self._turn, states = (0, [None] * workers) if saved is None else saved
        self._states: list[Any] = []
        for number, (worker, state) in enumerate(zip(self._workers, states, strict=True)):
            with as_worker(number, workers):
                if state is not None:
                    worker.load_state_dict(json.loads(json.dumps(state)))
                self._states.append(worker.state_dict())
        self._iterators = [iter(worker) for worker in self._workers]
        self._made: list[deque[tuple[Batch, Any]]] = [deque() for _ in self._workers]
        self._ended = [False] * workers

    def make(self, number: int) -> None:
        """Let a worker make its next batch."""
        with as_worker(number, len(self._workers)):
            batch = next(self._iterators[number], None)
            if batch is None:
                self._ended[number] = True
            else:
                self._made[number].append((batch, self._workers[number].state_dict()))

    def deliver(self) -> Batch | None:
        """Return the next batch; None at the end of the epoch."""
        for _ in self._workers:
            number = self._turn
            self._turn = (number + 1) % len(self._workers)
            if not self._made[number] and not self._ended[number]:
                self.make(number)
            if self._made[number]:
                batch, self._states[number] = self._made[number].popleft()
                return batch
        return None

    def state(self) -> tuple[int, list[Any]]:
        return self._turn, list(self._states)


@settings(max_examples=20)
@given(
    st.sampled_from(["windows", "documents"]),
    st.sampled_from(["drop", "pad"]),
    st.integers(1, 13),
    st.integers(1, 4),
    st.lists(st.tuples(st.integers(0, 9), st.lists(st.integers(0, 3), max_size=6)), min_size=1, max_size=5),
)
def test_states_of_workers_follow_on_one_another(
    corpora: Corpora, packing: Any, tail: Any, size: int, workers: int, legs: list[tuple[int, list[int]]]
) -> None:
    uri = corpora(((5, 0, 20, 1), (33, 2), (7, 7, 7, 3)))

    def make() -> TokenLoader:
        return TokenLoader(uri, window=4, global_batch_size=size, packing=packing, tail=tail)

    found: list[Batch] = []
    loader = make()
    stateful = Stateful(loader, workers)
    for count, ahead in legs:
        for number in ahead:
            stateful.make(number % workers)
        while count:
            batch = stateful.deliver()
            if batch is None:
                # Its workers have ended: the next epoch has new ones, copies of the same loader.
                stateful = Stateful(loader, workers)
                continue
            found.append(batch)
            count -= 1
        loader = make()
        stateful = Stateful(loader, workers, stateful.state())
    plain = make()
    expected = [batch for _ in range(len(found) // len(plain) + 1) for batch in plain][: len(found)]
    assert samples_of(*found) == samples_of(*expected)
    assert [batch["samples"] for batch in found] == [batch["samples"] for batch in expected]
