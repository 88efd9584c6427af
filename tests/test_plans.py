from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.datasets import job_of, write_jsonl
from tests.test_parts import made_up_plan
from tokenmill import layout
from tokenmill.errors import CorruptionError, DatasetError, MissingFileError
from tokenmill.planning import make_plan
from tokenmill.plans import SplitTable, newest_generation, read_plan, write_plan
from tokenmill.sources.splits import InputFile, Split
from tokenmill.storage.outputs import Storage

files = st.builds(InputFile, st.text(max_size=5), st.integers(0, 1 << 60), st.text(max_size=5))
splits = st.lists(
    st.builds(
        Split,
        st.sampled_from(["a", "b"]),
        st.sampled_from(["bytes", "rows", "file", "files"]),
        st.lists(files, max_size=3).map(tuple),
        st.integers(0, 1 << 60),
        st.integers(0, 1 << 60),
        st.integers(0, 1 << 60),
    ),
    max_size=6,
)


@given(splits, splits)
def test_split_tables_give_back_their_splits(some: list[Split], more: list[Split]) -> None:
    table = SplitTable.from_splits(some)
    assert list(SplitTable.from_bytes(table.to_bytes())) == some
    assert SplitTable.from_splits(some).to_bytes() == table.to_bytes()
    extended = table.extended(more)
    assert list(extended) == some + more
    assert extended[-3:] == (some + more)[-3:]
    assert extended.sources == [split.source for split in some + more]
    assert extended.input_bytes.tolist() == [split.input_bytes for split in some + more]
    for split in some:
        for file in split.files:
            assert file.path in table.files()[split.source]


def test_an_extended_table_has_the_bytes_of_one_made_at_once() -> None:
    some = [Split("a", "file", (InputFile(f"f{n}", n, "v"),), 0, n, n) for n in range(5)]
    extended = SplitTable.from_splits(some[:2]).extended(some[2:])
    assert extended.to_bytes() == SplitTable.from_splits(some).to_bytes()
    assert SplitTable.from_bytes(extended.to_bytes()).extended([]).to_bytes() == extended.to_bytes()


def test_plans_are_written_once(any_root: str) -> None:
    storage = Storage.open(any_root)
    plan = made_up_plan()
    assert newest_generation(storage, "plans") is None
    assert write_plan(storage, plan)
    assert not write_plan(storage, plan)
    assert newest_generation(storage, "plans") == 1
    read = read_plan(storage, 1)
    assert (read.job, read.roots, read.tables, read.environment) == (
        plan.job,
        plan.roots,
        plan.tables,
        plan.environment,
    )
    assert list(read.splits) == list(plan.splits)
    assert read.groups() == [("text", "framed")]
    assert read.splits_of(read.table("text")).tolist() == [0]


def test_unknown_tables_are_named() -> None:
    with pytest.raises(DatasetError, match=r"no table 'images'; it has \['text', 'framed'\]"):
        made_up_plan().table("images")


def test_every_altered_byte_is_noticed(tmp_path: Path) -> None:
    storage = Storage.open(str(tmp_path))
    write_plan(storage, made_up_plan())
    for path in tmp_path.glob("plans/*"):
        content = path.read_bytes()
        for position in range(0, len(content), 7):
            path.write_bytes(content[:position] + bytes([content[position] ^ 4]) + content[position + 1 :])
            with pytest.raises(CorruptionError, match=r"plans/000001") as caught:
                read_plan(storage, 1)
            assert caught.value.fix is not None
        path.write_bytes(content)
    read_plan(storage, 1)


def test_a_plan_without_its_splits(tmp_path: Path) -> None:
    storage = Storage.open(str(tmp_path))
    write_plan(storage, made_up_plan())
    (splits_path,) = tmp_path.glob("plans/*.arrow")
    splits_path.unlink()
    with pytest.raises(MissingFileError, match=r"splits\.arrow"):
        read_plan(storage, 1)
    assert layout.plan(1) in {entry.path for entry in storage.list()}


def test_columns_keep_the_jobs_order(tmp_path: Path) -> None:
    """Whoever reads the plan makes the same columns as whoever made it."""
    inputs = write_jsonl(tmp_path / "in" / "a.jsonl", [{"id": "a", "text": "x", "z": "1", "a": "2"}]).parent
    job = job_of(str(tmp_path / "out"), inputs, source={"metadata": ["z", "a"]})
    storage = Storage.open(job.output)
    made = make_plan(storage, job).plan
    read = read_plan(storage, 1)
    columns = [list(plan.metadata_columns(plan.tables[0])) for plan in (made, read)]
    assert columns == [["z", "a"], ["z", "a"]]
