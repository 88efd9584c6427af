"""What only local directories can suffer."""

import resource
import subprocess
import threading
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tokenmill.errors import StorageError
from tokenmill.storage.outputs import Storage


@contextmanager
def _mounted(directory: Path, options: str) -> Iterator[None]:
    directory.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(directory)]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode != 0:
        pytest.skip(f"mounting a small filesystem needs root: {mounted.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", str(directory)], check=True)


def test_disk_full(tmp_path: Path) -> None:
    with _mounted(tmp_path / "disk", "size=1m"):
        storage = Storage.open(str(tmp_path / "disk" / "dataset"))
        storage.put("first", [b"x" * 500_000])
        for write in (
            lambda: storage.put("second", [b"y" * 600_000]),
            lambda: storage.create("second", b"y" * 600_000),
        ):
            with pytest.raises(StorageError, match=r"disk/dataset/.*No space left[^→]*→ free disk space"):
                write()
        assert [entry.path for entry in storage.list()] == ["first"]
        assert storage.stale_temporaries(timedelta(0)) == []
        storage.put("third", [b"z" * 400_000])


def test_file_size_limit(tmp_path: Path) -> None:
    """Needs no root; the kernel's signal is ignored by Python, which raises EFBIG."""
    storage = Storage.open(str(tmp_path))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(StorageError, match="ulimit -f"):
            storage.put("x", [b"x" * 60_000, b"y" * 60_000])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(storage.list()) == []
    assert storage.stale_temporaries(timedelta(0)) == []


def test_read_only(tmp_path: Path) -> None:
    with _mounted(tmp_path / "disk", "size=1m"):
        Storage.open(str(tmp_path / "disk")).put("x", [b"data"])
        subprocess.run(["mount", "-o", "remount,ro", str(tmp_path / "disk")], check=True)
        storage = Storage.open(str(tmp_path / "disk"))
        for write in (
            lambda: storage.put("y", [b""]),
            lambda: storage.create("y", b""),
            lambda: storage.delete(["x"]),
        ):
            with pytest.raises(StorageError, match="Read-only file system"):
                write()
        assert storage.read("x") == b"data"


def test_a_file_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for storage, path in ((Storage.open(str(tmp_path)), "file/x"), (Storage.open(str(tmp_path / "file")), "x")):
        with pytest.raises(StorageError, match="a file stands where a directory is needed"):
            storage.put(path, [b""])
    assert Storage.open(str(tmp_path / "file")).stat("x") is None
    assert list(Storage.open(str(tmp_path / "file")).list()) == []


def test_temporaries_are_found_by_age(tmp_path: Path) -> None:
    (tmp_path / ".tmp").mkdir()
    (tmp_path / ".tmp" / "1-dead").write_bytes(b"partial")
    storage = Storage.open(str(tmp_path))
    assert list(storage.list()) == []
    assert storage.stale_temporaries(timedelta(hours=1)) == []
    stale = storage.stale_temporaries(timedelta(0))
    assert [(entry.path, entry.size_bytes) for entry in stale] == [(".tmp/1-dead", 7)]
    storage.delete([entry.path for entry in stale])
    assert storage.stale_temporaries(timedelta(0)) == []


def test_a_reader_never_sees_a_file_grow(tmp_path: Path) -> None:
    """Everything that is listed has its full size at any moment."""
    storage = Storage.open(str(tmp_path))
    size = 3_000_000
    done = threading.Event()

    def write() -> None:
        for number in range(30):
            storage.put(f"s/{number}", [b"x" * (size // 3)] * 3)
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    sizes: set[int] = set()
    while not done.is_set():
        sizes.update(entry.size_bytes for entry in storage.list())
    writer.join()
    assert sizes == {size}


class _SlowQueue(deque[Any]):
    """A queue in which other threads get a turn between looking at the oldest and taking it."""

    def popleft(self) -> Any:
        time.sleep(0.001)
        return super().popleft()


def test_threads_share_a_storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The queue of files that are being synced is theirs together: none of them finds it empty by surprise."""
    storage = Storage.open(str(tmp_path))
    monkeypatch.setattr(storage, "_syncing", _SlowQueue())
    with ThreadPoolExecutor(8) as pool:
        entries = list(pool.map(lambda number: storage.put(f"{number % 7}/{number}", [b"x" * number]), range(200)))
    storage.flush()
    assert [entry.size_bytes for entry in entries] == list(range(200))
