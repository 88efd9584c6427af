import io
import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tokenmill.storage import s3_client, s3_reader
from tokenmill.storage.outputs import Storage

_DATA = random.Random(0).randbytes(100_000)
_operation = st.one_of(
    st.tuples(st.just("read"), st.one_of(st.integers(0, 3000), st.integers(0, 60_000), st.just(-1))),
    st.tuples(st.just("seek"), st.integers(0, 110_000)),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(operations=st.lists(_operation, min_size=1, max_size=25))
def test_reads_what_a_file_in_memory_does(
    s3_root: str, monkeypatch: pytest.MonkeyPatch, operations: list[tuple[str, int]]
) -> None:
    monkeypatch.setattr(s3_reader, "BLOCK_BYTES", 8000)
    monkeypatch.setattr(s3_reader, "_FIRST_BYTES", 1000)
    monkeypatch.setattr(s3_reader, "_BUFFER_BYTES", 500)
    storage = Storage.open(s3_root)
    storage.put("x", [_DATA])
    expected = io.BytesIO(_DATA)
    with storage.open_file("x") as file:
        for name, argument in operations:
            assert getattr(file, name)(argument) == getattr(expected, name)(argument)
            assert file.tell() == expected.tell()


def test_fetches_ahead_in_order_and_little_elsewhere(s3_root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = Storage.open(s3_root)
    data = random.Random(1).randbytes(50 << 20)
    storage.put("x", [data])
    fetched: list[int] = []
    fetch = s3_client.fetch

    def counting(bucket: str, key: str, start: int, stop: int, *, version: str, where: str) -> bytes:
        fetched.append(stop - start)
        return fetch(bucket, key, start, stop, version=version, where=where)

    monkeypatch.setattr(s3_client, "fetch", counting)
    with storage.open_file("x") as file:
        while file.read(100_000):
            pass
    assert sum(fetched) == len(data)
    assert len(fetched) < 15
    assert max(fetched) == s3_reader.BLOCK_BYTES
    fetched.clear()
    with storage.open_file("x") as file:
        for start in range(10 << 20, 40 << 20, 3 << 20):
            file.seek(start)
            assert file.read(100) == data[start : start + 100]
    assert sum(fetched) <= 10 * (256 << 10)


def test_an_empty_object(s3_root: str) -> None:
    storage = Storage.open(s3_root)
    storage.put("x", [])
    with storage.open_file("x") as file:
        assert file.read() == b""
        assert file.seek(5) == 5
        assert file.read(1) == b""
