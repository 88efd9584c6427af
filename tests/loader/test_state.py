import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.datasets import build_dataset, job_of, write_jsonl
from tests.loader.corpora import ENDS, IDS, KINDS, SEPARATOR, write_corpus
from tests.loader.reference import samples_of, take
from tokenmill.errors import LoaderError
from tokenmill.loader import Source, Subset, TokenLoader
from tokenmill.loader.feeds import Place
from tokenmill.loader.state import LoaderState, SourceState, WorkerState, check_same, shortened, unwrap

numbers = st.integers(0, 10**15)
states = st.builds(
    LoaderState,
    samples=numbers,
    order=st.fixed_dictionaries(
        {"window": st.integers(1, 10**6), "seed": st.integers(), "separator": st.none() | numbers, "tail": st.text()}
    ),
    sources=st.lists(
        st.builds(SourceState, st.text(), st.text(), st.text(), numbers, st.builds(Place, numbers, numbers, numbers)),
        min_size=1,
        max_size=4,
    ).map(tuple),
    worker=st.none() | st.builds(WorkerState, numbers, numbers, numbers, numbers),
)


@given(states)
def test_a_state_survives_json(state: LoaderState) -> None:
    value = json.loads(json.dumps(state.to_json()))
    assert value == state.to_json()
    assert LoaderState.from_json(value) == state
    assert value["tokens"] == state.samples * state.order["window"]


@given(states, st.integers(0, 9))
def test_states_are_found_in_what_torchdata_saves(state: LoaderState, steps: int) -> None:
    value = state.to_json()
    assert unwrap(value) == (value, 0)
    assert unwrap({"dataset_state": value, "_num_yielded": 3}) == (value, 0)
    older = {**value, "samples": value["samples"] - 1}
    snapshots = {f"worker_{number}": {"dataset_state": one} for number, one in enumerate([older, value, older])}
    assert unwrap({"_snapshot": {"_worker_snapshots": snapshots}, "_steps_since_snapshot": steps}) == (value, steps)


def test_of_states_with_as_many_samples_the_later_place_is_newer() -> None:
    # An epoch may end without a sample more.
    first = LoaderState(30, {"window": 4}, (SourceState("a", "f", "ids", 1, Place(0, 1)),)).to_json()
    second = LoaderState(30, {"window": 4}, (SourceState("a", "f", "ids", 1, Place(1)),)).to_json()
    for order in ([first, second], [second, first]):
        snapshots = {f"worker_{number}": {"dataset_state": one} for number, one in enumerate(order)}
        assert unwrap({"_snapshot": {"_worker_snapshots": snapshots}})[0] == second


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_corpus(tmp_path_factory.mktemp("corpus"), [[30, 9], [0, 50, 3]])


def make(uri: str, **changes: Any) -> TokenLoader:
    return TokenLoader(uri, **{"window": 4, "global_batch_size": 2, **changes})


RUBBISH: list[Any] = [
    {}, [], "state", None, 5, {"format": 1}, {"format": "1"}, {"dataset_state": None}, {"_snapshot": {}},
    {"_snapshot": {"_worker_snapshots": {}}}, {"_snapshot": {"_worker_snapshots": []}},
    {"_snapshot": {"_worker_snapshots": {"worker_0": {"dataset_state": {"samples": 3, "sources": []}}}}},
    {"_snapshot": {"_worker_snapshots": {"worker_0": {}}}},
    {"_snapshot": {"_worker_snapshots": {"worker_0": {"dataset_state": None}}}}, {"model": {}, "optimizer": {}},
]  # fmt: skip


@pytest.mark.parametrize("rubbish", RUBBISH, ids=str)
def test_what_is_no_state_is_refused(uri: str, rubbish: Any) -> None:
    loader = make(uri)
    take(loader, 1)
    with pytest.raises(LoaderError, match="the state is not one of a TokenLoader") as caught:
        loader.load_state_dict(rubbish)
    assert "what state_dict returned" in str(caught.value)
    assert loader.samples == 2


@pytest.mark.parametrize("missing", ["format", "samples", "order", "sources"])
def test_a_state_with_something_missing_is_refused(uri: str, missing: str) -> None:
    state = make(uri).state_dict()
    del state[missing]
    with pytest.raises(LoaderError, match=f"KeyError\\('{missing}'\\) is missing or wrong"):
        make(uri).load_state_dict(state)


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("samples", -2), ("samples", "many"), ("samples", None), ("order", 5), ("sources", None), ("sources", [{}]),
        ("next", [0, 0]), ("next", [0, 0, 0, 0]), ("next", "a"), ("next", [-1, 0, 0]), ("next", [0, -1, 0]),
        ("next", [0, 0, -1]), ("next", [0, 0, 10**6]), ("next", [0, 5, 0]), ("next", [0, 1, 3]),
        ("worker", [0, 1]), ("worker", "x"),
    ],
)  # fmt: skip
def test_a_state_with_something_wrong_is_refused(uri: str, member: str, value: Any) -> None:
    state = make(uri).state_dict()
    (state["sources"][0] if member == "next" else state)[member] = value
    loader = make(uri)
    with pytest.raises(LoaderError, match="the state is not one of a TokenLoader"):
        loader.load_state_dict(state)
    assert samples_of(*loader) == samples_of(*make(uri))


def test_a_newer_format_is_refused(uri: str) -> None:
    state = {**make(uri).state_dict(), "format": 2, "something": "new"}
    with pytest.raises(LoaderError, match="the state has format 2; this version reads up to 1") as caught:
        make(uri).load_state_dict(state)
    assert "newer tokenmill" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "changes", "there", "here"),
    [
        ("seed", {"seed": 1}, "0", "1"),
        ("window", {"window": 5}, "4", "5"),
        ("packing", {"packing": "documents"}, "'windows'", "'documents'"),
        ("shuffle", {"shuffle": "none"}, "'global'", "'none'"),
        ("shuffle", {"shuffle": "blocks", "block_tokens": 8}, "'global'", "'8 blocks of 8 tokens'"),
        ("separator", {"separator": SEPARATOR}, "None", "999999"),
        ("tail", {"tail": "pad"}, "'drop'", "'pad'"),
        ("subset", {"subset": Subset("train", 0.1)}, "None", "'train, fraction 0.1, seed 0'"),
    ],
)
def test_another_order_is_refused(uri: str, name: str, changes: dict[str, Any], there: str, here: str) -> None:
    state, other = make(uri).state_dict(), make(uri, **changes)
    with pytest.raises(LoaderError, match=f"saved with {name} {there}, this loader has {here}: .* differs") as caught:
        other.load_state_dict(state)
    assert f"{name} {there}" in str(caught.value.fix)
    with pytest.raises(LoaderError, match=f"saved with {name} {here}, this loader has {there}: .* differs"):
        make(uri).load_state_dict(other.state_dict())


def test_another_prefix_of_the_rows_is_refused(uri: str) -> None:
    state = make(uri).state_dict()
    with pytest.raises(LoaderError, match=r"ids\[:2\]"):
        make(uri, prefix=2).load_state_dict(state)
    make(uri, prefix=2).load_state_dict(make(uri, prefix=2).state_dict())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"documents": "pieces"}, "ids by pieces"),
        ({"skip_duplicates": True}, "ids without duplicates"),
        ({"documents": "pieces", "skip_duplicates": True, "prefix": 2}, r"ids\[:2\] by pieces without duplicates"),
        ({"documents": "pieces", "distinct": "kinds"}, "ids by pieces distinct in kinds"),
    ],
)
def test_other_documents_are_refused(tmp_path: Path, options: dict[str, Any], said: str) -> None:
    streams = {"ids": IDS, "pieces": ENDS, "kinds": KINDS}
    uri = write_corpus(tmp_path, [[30, 9], [0, 50, 3]], streams=streams, duplicates={3: 0})
    state = make(uri, **options).state_dict()
    with pytest.raises(LoaderError, match=f"saved with stream '{said}', this loader has 'ids'") as caught:
        make(uri).load_state_dict(state)
    assert "that stream, documents, skip_duplicates" in str(caught.value)
    with pytest.raises(LoaderError, match=f"saved with stream 'ids', this loader has '{said}'"):
        make(uri, **options).load_state_dict(make(uri).state_dict())
    make(uri, **options).load_state_dict(state)


def test_other_sources_are_refused(uri: str, tmp_path: Path) -> None:
    second = write_corpus(tmp_path / "second", [[30]])

    def mix(*names: str) -> TokenLoader:
        sources = [Source(uri if name < "c" else second, name=name) for name in names]
        return TokenLoader(sources, window=4, global_batch_size=2)

    state = mix("a", "b").state_dict()
    for names in (["b", "a"], ["a", "b", "c"], ["a"], ["a", "x"]):
        with pytest.raises(LoaderError) as caught:
            mix(*names).load_state_dict(state)
        assert f"saved with the sources ['a', 'b'], this loader has {names}" in str(caught.value)
    changed = TokenLoader([Source(uri, name="a"), Source(second, name="b")], window=4, global_batch_size=2)
    with pytest.raises(LoaderError, match="source 'b' holds other data than the state was saved with"):
        changed.load_state_dict(state)


def test_a_single_source_may_have_moved(uri: str, tmp_path: Path) -> None:
    loader = make(uri)
    take(loader, 3)
    shutil.copytree(uri, tmp_path / "moved")
    moved = make(str(tmp_path / "moved"))
    moved.load_state_dict(loader.state_dict())
    assert [source.name for source in moved.sources] == ["moved/text"]
    assert samples_of(*moved) == samples_of(*loader)


def test_another_stream_of_the_same_table_is_refused(tmp_path: Path) -> None:
    uri = write_corpus(tmp_path, [[30]], streams={"ids": IDS, "more": IDS})
    state = make(uri, stream="more").state_dict()
    with pytest.raises(LoaderError, match="state was saved with stream 'more', this loader has 'ids'"):
        make(uri).load_state_dict(state)


def test_other_data_is_refused_and_both_fingerprints_named(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "in/a.jsonl", [{"id": "a", "text": "one and more"}])
    job = job_of(str(tmp_path / "out"), tmp_path / "in")
    build_dataset(job)
    loader = make(job.output)
    take(loader, 1)
    state = loader.state_dict()
    write_jsonl(tmp_path / "in/b.jsonl", [{"id": "b", "text": "another document"}])
    build_dataset(job)
    newer = make(job.output)
    was, now = (shortened(one.sources[0].corpus.fingerprint) for one in (loader, newer))
    with pytest.raises(LoaderError, match=f"fingerprint {now} here, {was} in the state") as caught:
        newer.load_state_dict(state)
    assert "generation=1" in str(caught.value)
    # The generation that the run began with is still there.
    again = make(job.output, generation=1)
    again.load_state_dict(state)
    assert samples_of(*again) == samples_of(*loader)


def test_what_is_the_same_passes(uri: str) -> None:
    saved, here = (LoaderState.from_json(make(uri).state_dict()) for _ in range(2))
    check_same(saved, here)


@pytest.mark.parametrize("count", [1, 10])
def test_a_state_is_small(tmp_path: Path, count: int) -> None:
    uri = write_corpus(tmp_path / "a-corpus", [[30, 9]])
    sources = [Source(uri, name=f"source number {number}", weight=number) for number in range(1, count + 1)]
    loader = TokenLoader(
        sources, window=4, global_batch_size=16, seed=123456789, separator=SEPARATOR, shuffle="blocks",
        packing="documents", subset=Subset("train", 0.0123456789, 987654321),
    )  # fmt: skip
    take(loader, 1)
    state = loader.state_dict()
    # As large as numbers get: a quadrillion tokens.
    for source in state["sources"]:
        source["next"] = [1000, 10**9, 10**9]
    state.update(samples=10**12, tokens=10**15, worker=[63, 64, 10**9, 10**5])
    assert len(json.dumps(state)) <= 1024 + 100 * count
