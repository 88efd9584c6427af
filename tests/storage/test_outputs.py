"""What every kind of storage promises, on each of them."""

import hashlib
import os
import pickle
import random
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from tokenmill.errors import ConfigurationError, MissingFileError, StorageError
from tokenmill.storage.outputs import Storage


@pytest.fixture
def storage(any_root: str) -> Storage:
    return Storage.open(any_root)


def test_opening_touches_nothing(storage: Storage) -> None:
    assert list(storage.list()) == []
    assert list(storage.list("no/such/directory")) == []
    storage.flush()
    assert storage.stat("nothing") is None
    assert not storage.stale_temporaries(timedelta(0))
    assert not storage.stale_uploads(timedelta(0))


def test_put_read_list_delete(storage: Storage) -> None:
    entry = storage.put("table/shards/one.arrow", [b"abc", memoryview(b"defgh")[1:], b""])
    assert (entry.path, entry.size_bytes) == ("table/shards/one.arrow", 7)
    assert abs(datetime.now(UTC) - entry.modified) < timedelta(minutes=1)
    assert storage.read("table/shards/one.arrow") == b"abcefgh"
    assert storage.stat("table/shards/one.arrow") == entry
    storage.put("table/shards2/two", [b""])
    storage.put("three", [b"3"])
    assert list(storage.list("table/shards")) == [entry]
    assert list(storage.list("table/shards/")) == [entry]
    assert sorted(found.path for found in storage.list()) == ["table/shards/one.arrow", "table/shards2/two", "three"]
    storage.flush()
    storage.delete(["table/shards/one.arrow", "three", "never/was"])
    assert [found.path for found in storage.list()] == ["table/shards2/two"]


def test_put_again_replaces(storage: Storage) -> None:
    storage.put("x", [b"same"])
    assert storage.put("x", [b"same"]).size_bytes == 4
    assert [found.path for found in storage.list()] == ["x"]


def test_ranges(storage: Storage) -> None:
    storage.put("x", [b"0123456789"])
    assert storage.read_range("x", 2, 5) == b"234"
    assert storage.read_range("x", 0, 100) == b"0123456789"
    assert storage.read_range("x", 8, 100) == b"89"
    assert storage.read_range("x", 10, 20) == b""
    assert storage.read_range("x", 4, 4) == b""


def test_ranges_into_buffers(storage: Storage) -> None:
    storage.put("x", [b"0123456789"])
    room = bytearray(8)
    whole = memoryview(room)
    assert storage.read_into("x", 1, [whole[:3], whole[3:8]]) == 8
    assert room == b"12345678"
    assert storage.read_into("x", 7, [whole[:2], whole[2:5]]) == 3
    assert room == b"78945678"
    assert storage.read_into("x", 10, [whole]) == 0


def test_open_file_seeks(storage: Storage) -> None:
    data = random.Random(1).randbytes(3_000_000)
    storage.put("x", [data])
    with storage.open_file("x") as file:
        assert file.read(10) == data[:10]
        file.seek(-1_000_000, os.SEEK_END)
        assert file.read(1000) == data[2_000_000:2_001_000]
        file.seek(5)
        assert file.read() == data[5:]
        assert file.tell() == 3_000_000
        assert file.read(1) == b""


@pytest.mark.parametrize("operation", ["read", "open_file"])
def test_missing(storage: Storage, operation: str) -> None:
    with pytest.raises(MissingFileError, match="no/such/file"):
        getattr(storage, operation)("no/such/file")
    with pytest.raises(MissingFileError, match="no/such/file"):
        storage.read_range("no/such/file", 0, 5)
    with pytest.raises(MissingFileError, match="no/such/file"):
        storage.read_into("no/such/file", 0, [memoryview(bytearray(5))])


def test_create_is_exclusive(storage: Storage) -> None:
    assert storage.create("receipts/a", b"first")
    assert not storage.create("receipts/a", b"second")
    assert not storage.create("receipts/a", b"first")
    assert storage.read("receipts/a") == b"first"
    storage.delete(["receipts/a"])
    assert storage.create("receipts/a", b"third")
    assert storage.supports_exclusive_create()
    assert [found.path for found in storage.list()] == ["receipts/a"]


@pytest.mark.parametrize("path", ["", "/etc/passwd", "../up", "a/../../up", "a//b", "a/", "./a", "nul\0"])
def test_paths_stay_inside(storage: Storage, path: str) -> None:
    for operation in (storage.read, storage.stat, storage.open_file, storage.local_path):
        if operation == storage.local_path and storage.uri.startswith("s3://"):
            continue
        with pytest.raises(StorageError, match="not a path inside"):
            operation(path)
    with pytest.raises(StorageError, match="not a path inside"):
        storage.put(path, [b""])
    with pytest.raises(StorageError, match="not a path inside"):
        storage.create(path, b"")
    with pytest.raises(StorageError, match="not a path inside"):
        storage.delete([path])


def test_odd_names(storage: Storage) -> None:
    for name in ("ünï/кириллица 文.bin", "a b+c&d?e#f%20=g", "[x]*"):
        storage.put(name, [name.encode()])
        assert storage.read(name) == name.encode()
        assert name in {found.path for found in storage.list()}


def test_pickles_as_its_uri(storage: Storage) -> None:
    storage.create("x", b"data")
    assert pickle.loads(pickle.dumps(storage)).read("x") == b"data"


def test_local_path(storage: Storage) -> None:
    storage.put("x", [b"data"])
    path = storage.local_path("x")
    assert (path is None) == storage.uri.startswith("s3://")
    assert path is None or path.read_bytes() == b"data"


def test_refuses_other_filesystems() -> None:
    with pytest.raises(ConfigurationError, match="memory"):
        Storage.open("memory://x")
    with pytest.raises(ConfigurationError, match="credentials"):
        Storage.open("s3://key:secret@bucket/x")


def test_importing_is_cheap() -> None:
    """Local datasets pay for no object storage."""
    command = (
        "import sys, tokenmill.storage.outputs, tokenmill.storage.inputs as i\n"
        "tokenmill.storage.outputs.Storage.open('/nowhere')\n"
        "loaded = {'botocore', 's3fs', 'aiobotocore', 'aiohttp', 'asyncio'} & set(sys.modules)\n"
        "sys.exit(', '.join(loaded) or None)"
    )
    subprocess.run([sys.executable, "-c", command], check=True)


_CREATE = """
import os, sys
from tokenmill.storage.outputs import Storage
storage = Storage.open(sys.argv[1])
print(storage.stat("nothing"), flush=True)
sys.stdin.readline()
print(*(int(storage.create(f"receipts/{n}", f"{n} by {os.getpid()} ".encode() * 50)) for n in range(40)))
"""


def test_of_racing_processes_one_creates(storage: Storage) -> None:
    racers = [_python(_CREATE, storage.uri) for _ in range(3)]
    for racer in racers:
        assert racer.stdout is not None
        racer.stdout.readline()
    outputs = _communicate(racers)
    results = [[int(won) for won in output.split()] for output in outputs]
    assert [sum(won) for won in zip(*results, strict=True)] == [1] * 40
    for number in range(40):
        winner = next(racer for racer, won in zip(racers, results, strict=True) if won[number])
        assert storage.read(f"receipts/{number}") == f"{number} by {winner.pid} ".encode() * 50


_WRITE = """
import hashlib, itertools, os, random, sys
from tokenmill.storage.outputs import Storage
storage = Storage.open(sys.argv[1])
print(storage.stat("nothing"), flush=True)
for number in itertools.count():
    pieces = [os.urandom(random.choice([100, 100_000, 1_000_000])) for _ in range(random.choice([1, 3, 20]))]
    data = b"".join(pieces)
    name = hashlib.sha256(data).hexdigest()
    entry = storage.put(f"shards/{name}", pieces)
    assert entry.size_bytes == len(data)
    assert storage.create(f"receipts/{number}-{os.getpid()}", name.encode() * 60)
"""


@pytest.mark.parametrize("kills", [6, pytest.param(30, marks=pytest.mark.slow)])
def test_killed_writers_leave_nothing_partial(storage: Storage, kills: int) -> None:
    generator = random.Random(kills)
    with ThreadPoolExecutor(1) as starter:  # the next one starts while this one writes
        following = starter.submit(_python, _WRITE, storage.uri)
        for kill in range(kills):
            writer = following.result()
            if kill < kills - 1:
                following = starter.submit(_python, _WRITE, storage.uri)
            assert writer.stdout is not None
            writer.stdout.readline()
            time.sleep(generator.uniform(0, 0.15))
            writer.kill()
            _communicate([writer])
    shards = {entry.path.removeprefix("shards/"): entry for entry in storage.list("shards")}
    receipts = list(storage.list("receipts"))
    assert receipts, "no writer came far enough for this test to mean anything"
    for name, entry in shards.items():
        assert hashlib.sha256(storage.read(entry.path)).hexdigest() == name
    for entry in receipts:
        name = storage.read(entry.path).decode()
        assert name == name[:64] * 60
        assert name[:64] in shards
    _clean(storage)


def _clean(storage: Storage) -> None:
    """What killed writers leave is found and can be removed."""
    assert not storage.stale_temporaries(timedelta(hours=1))
    assert not storage.stale_uploads(timedelta(hours=1))
    storage.delete([entry.path for entry in storage.stale_temporaries(timedelta(0))])
    for upload in storage.stale_uploads(timedelta(0)):
        storage.abort_upload(upload)
        storage.abort_upload(upload)
    assert not storage.stale_temporaries(timedelta(0))
    assert not storage.stale_uploads(timedelta(0))


def _python(program: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", program, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def _communicate(processes: list[subprocess.Popen[str]]) -> list[str]:
    for process in processes:  # all at once
        assert process.stdin is not None
        try:
            process.stdin.write("\n")
            process.stdin.flush()
        except BrokenPipeError:
            pass
    return [process.communicate()[0] for process in processes]
