import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.loader.corpora import write_corpus
from tests.loader.reference import Batch, Reference, Sample, samples_of, take
from tokenmill.errors import LoaderError
from tokenmill.loader import Source, TokenLoader, loading
from tokenmill.loader.mixing import Mixture

GOLDEN_RATIO = (5**0.5 - 1) / 2
weights = st.lists(st.floats(0, 10) | st.sampled_from([0.0, 1.0, 1e-9, 1e9]), min_size=1, max_size=12).filter(
    lambda some: sum(some) > 0
)


@given(weights, st.integers(0, 10**15), st.integers(1, 2000))
def test_every_batch_has_each_sources_share(some: list[float], first: int, size: int) -> None:
    found = np.bincount(Mixture(some, "key").sources(first, size), minlength=len(some))
    shares = np.array(some) / sum(some) * size
    assert len(found) == len(some)
    # A Weyl sequence leaves a share by a fraction of the logarithm of its length, at the worst.
    assert np.abs(found - shares).max() < 2 + 0.15 * np.log2(size)
    assert not found[np.array(some) == 0].any()


@pytest.mark.parametrize(("size", "most"), [(16, 2), (64, 2), (512, 3), (4096, 3)])
@pytest.mark.parametrize("some", [[0.7, 0.3], [5, 3, 1, 1], [0.001, 0.999], [1] * 10, [0.98, 0, 0.02]])
def test_batches_of_usual_mixes_have_their_shares(some: list[float], size: int, most: int) -> None:
    mixture = Mixture(some, "0")
    shares = np.array(some) / sum(some) * size
    for batch in range(500):
        found = np.bincount(mixture.sources(batch * size, size), minlength=len(some))
        assert np.abs(found - shares).max() < most + 1e-6


@given(weights, st.text(max_size=3), st.integers(0, 10**12), st.integers(1, 50), st.integers(0, 49))
def test_a_sample_has_its_source_whatever_is_asked_for_with_it(
    some: list[float], key: str, first: int, count: int, skipped: int
) -> None:
    mixture = Mixture(some, key)
    whole = mixture.sources(first, count + skipped).tolist()
    assert mixture.sources(first + skipped, count).tolist() == whole[skipped:]
    assert Mixture([2 * weight for weight in some], key).sources(first, count + skipped).tolist() == whole
    assert mixture.sources(first, 0).tolist() == []


def test_points_are_laid_around_a_circle_by_the_golden_ratio() -> None:
    mixture = Mixture([1] * 1000, "key")
    steps = np.diff(mixture.sources(0, 3000)) % 1000
    assert set(steps.tolist()) == {int(1000 * GOLDEN_RATIO), int(1000 * GOLDEN_RATIO) + 1}


# A saved training state means this order: it must never change.
def test_the_order_of_sources() -> None:
    assert (
        "".join(map(str, Mixture([0.5, 0.3, 0.2], "golden").sources(10**9, 40).tolist()))
        == "0010210200102101021020010210100102101021"
    )


def test_seeds_mix_in_other_orders() -> None:
    assert len({tuple(Mixture([1, 1], f"{seed}").sources(0, 64).tolist()) for seed in range(50)}) > 20


@pytest.mark.parametrize("some", [[1, 1e-17], [1e20, 1], [1, 1e-300, 1e-300], [0, 1, 1e-40], [1e308, 1e308, 1e300]])
def test_weights_too_far_apart_for_the_circle(some: list[float]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = Counter(Mixture(some, "key").sources(0, 10_000).tolist())
    largest = [number for number, weight in enumerate(some) if weight == max(some)]
    assert set(found) == set(largest)


@pytest.mark.parametrize("some", [[0], [0, 0.0], [-1, 2], [float("nan"), 1], [float("inf"), 1], [1, -0.5], []], ids=str)
def test_weights_that_are_refused(some: list[float]) -> None:
    with pytest.raises(LoaderError, match=r"weights .* must be numbers of 0 or more, not all 0"):
        Mixture(some, "key")


@pytest.fixture(autouse=True)
def short_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let samples be found few at a time: the sources here have few."""
    monkeypatch.setattr(loading, "_DRAWN_SAMPLES", 20)


@pytest.fixture(scope="module")
def uris(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Three datasets of one tokenizer and very different sizes: 10, 25 and 3 windows of 4 tokens."""
    shards = [[[9, 0, 20], [11]], [[100]], [[5], [5, 2]]]
    return [write_corpus(tmp_path_factory.mktemp("corpus"), some, first_id=1000 * i) for i, some in enumerate(shards)]


def mix(uris: list[str], shares: list[float], **options: Any) -> TokenLoader:
    sources = [
        Source(uri, weight=weight, name=f"s{i}") for i, (uri, weight) in enumerate(zip(uris, shares, strict=True))
    ]
    return TokenLoader(sources, **{"window": 4, "global_batch_size": 10, **options})


def by_source(batches: list[Batch], sources: int) -> list[list[Sample]]:
    """Return the samples of each source in order."""
    pairs = [
        (number, sample)
        for batch in batches
        for number, sample in zip(batch["sources"].tolist(), samples_of(batch), strict=True)
    ]
    return [[sample for number, sample in pairs if number == source] for source in range(sources)]


def alone(uri: str, count: int, **options: Any) -> list[Sample]:
    """Return the first samples of a source, as a loader of it alone reads them."""
    loader = TokenLoader(uri, **{"window": 4, **options, "global_batch_size": 1})
    found: list[Sample] = []
    while len(found) < count:
        found += samples_of(*loader)
    return found[:count]


@pytest.mark.parametrize(
    "options", [{}, {"packing": "documents"}, {"shuffle": "blocks", "block_tokens": 8}, {"separator": 5, "tail": "pad"}]
)
def test_a_mix_reads_each_source_in_its_own_order(uris: list[str], options: dict[str, Any]) -> None:
    loader = mix(uris, [5, 3, 2], **options)
    batches = take(loader, 30)
    for number, found in enumerate(by_source(batches, 3)):
        assert found == alone(uris[number], len(found), **options)
    for batch in batches:
        assert np.abs(np.bincount(batch["sources"]) - [5, 3, 2]).max() <= 2
        assert (batch["sources"].dtype, batch["sources"].shape) == (np.int32, (10,))
        references = [Reference(uri, separator=options.get("separator")) for uri in uris]
        assert batch["cu_seqlens"][-1] == batch["ids"].size
        for row, source in enumerate(batch["sources"]):
            one = {name: batch[name][row : row + 1] for name in ("ids", "document_ids", "positions")}
            ids, documents, positions = samples_of(one)[0]
            assert all(
                token == (0 if document < 0 else references[source].documents[document][position])
                for token, document, position in zip(ids, documents, positions, strict=True)
            )
    assert [batch["samples"] for batch in batches] == list(range(10, 310, 10))
    with pytest.raises(TypeError, match="no end"):
        len(loader)


def test_every_source_has_its_own_epochs(uris: list[str]) -> None:
    loader = mix(uris, [5, 3, 2])
    assert loader.epochs == {"s0": 0, "s1": 0, "s2": 0}
    take(loader, 30)
    # 150 of 10, 90 of 25 and 60 of 3 windows; at the very end of an epoch it is not yet the next.
    taken = np.bincount(np.concatenate([batch["sources"] for batch in take(mix(uris, [5, 3, 2]), 30)]))
    assert loader.epochs == {f"s{i}": (int(taken[i]) - 1) // size for i, size in enumerate((10, 25, 3))}
    assert (loader.samples, loader.tokens) == (300, 1200)


@settings(max_examples=20)
@given(
    st.lists(
        st.tuples(
            st.tuples(*[st.sampled_from([0, 0.1, 1, 5])] * 3).filter(any), st.integers(0, 4), st.sampled_from([1, 2, 5])
        ),
        min_size=2,
        max_size=4,
    )
)
def test_weights_and_batch_size_may_change_without_a_repetition(
    uris: list[str], legs: list[tuple[tuple[float, ...], int, int]]
) -> None:
    found: list[list[Sample]] = [[], [], []]
    state: dict[str, Any] | None = None
    for shares, count, ranks in legs:
        options = {"world_size": ranks, "global_batch_size": 10 * ranks}
        loaders = [mix(uris, list(shares), rank=rank, **options) for rank in range(ranks)]
        if state is not None:
            for loader in loaders:
                loader.load_state_dict(state)
        columns = [take(loader, count) for loader in loaders]
        for parts in zip(*columns, strict=True):
            for source, samples in enumerate(by_source(list(parts), 3)):
                assert shares[source] or not samples
                found[source] += samples
        state = loaders[-1].state_dict()
    for source, samples in enumerate(found):
        assert samples == alone(uris[source], len(samples))


def test_a_source_smaller_than_a_batch(tmp_path: Path, uris: list[str]) -> None:
    tiny = write_corpus(tmp_path, [[4]])
    loader = mix([uris[1], tiny], [1, 1], global_batch_size=50)
    (batch,) = take(loader, 1)
    assert len(by_source([batch], 2)[1]) == loader.epochs["s1"] + 1 > 20


def test_a_mix_of_one_has_no_end(uris: list[str]) -> None:
    loader = mix(uris[:1], [1], global_batch_size=3)
    batches = take(loader, 20)
    assert samples_of(*batches) == alone(uris[0], 60)
    assert all(batch["sources"].tolist() == [0, 0, 0] for batch in batches)
    with pytest.raises(TypeError, match="no end"):
        len(loader)
