import gc
import mmap
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tokenmill.errors import CorruptionError, MissingFileError, StorageError
from tokenmill.loader.address_range import AddressRange

SIZES = [5, mmap.PAGESIZE, mmap.PAGESIZE + 1, 0, 3 * mmap.PAGESIZE - 1]


@pytest.fixture
def paths(tmp_path: Path) -> list[str]:
    """Files of these sizes, each of its own letter."""
    for number, size in enumerate(SIZES):
        (tmp_path / f"file{number}").write_bytes(bytes([65 + number]) * size)
    return [str(tmp_path / f"file{number}") for number in range(len(SIZES))]


def mappings(below: Path) -> int:
    return sum(str(below) in line for line in Path("/proc/self/maps").read_text().splitlines())


def test_files_lie_side_by_side_in_any_order(paths: list[str], tmp_path: Path) -> None:
    addresses = AddressRange(np.array(SIZES))
    assert not addresses.bytes.flags.writeable
    assert (addresses.offsets % mmap.PAGESIZE == 0).all()
    used = [number for number, size in enumerate(SIZES) if size]
    for number in reversed(used):
        addresses.map(number, paths[number])
    found = [bytes(addresses.bytes[addresses.offsets[number] :][: SIZES[number]]) for number in used]
    assert found == [bytes([65 + number]) * SIZES[number] for number in used]
    # One array spans them all.
    places = addresses.offsets[used] + np.array(SIZES)[used] - 1
    assert bytes(addresses.bytes[places]) == bytes(65 + number for number in used)
    assert mappings(tmp_path) == len(used)
    addresses.unmap(used[1])
    assert mappings(tmp_path) == len(used) - 1
    addresses.map(used[1], paths[used[1]])
    assert addresses.bytes[addresses.offsets[used[1]]] == 65 + used[1]


def test_addresses_are_given_back_with_the_last_array(paths: list[str], tmp_path: Path) -> None:
    addresses = AddressRange(np.array(SIZES))
    addresses.map(2, paths[2])
    kept = addresses.bytes[addresses.offsets[2] :][:10]
    del addresses
    gc.collect()
    assert bytes(kept) == b"C" * 10
    del kept
    gc.collect()
    assert mappings(tmp_path) == 0


def test_reserving_takes_no_memory(tmp_path: Path) -> None:
    addresses = AddressRange(np.array([1 << 38, 1 << 38]))
    assert len(addresses.bytes) == 1 << 39


def test_no_files() -> None:
    addresses = AddressRange(np.array([], np.int64))
    assert len(addresses.offsets) == 0


def test_a_file_of_another_size_is_named(paths: list[str]) -> None:
    addresses = AddressRange(np.array(SIZES))
    with pytest.raises(CorruptionError, match=rf"file1: has {mmap.PAGESIZE} bytes in place of 5"):
        addresses.map(0, paths[1])


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="nothing: there is no such file"):
        AddressRange(np.array(SIZES)).map(0, str(tmp_path / "nothing"))


def test_what_cannot_be_mapped_is_named(tmp_path: Path) -> None:
    size = tmp_path.stat().st_size
    with pytest.raises(StorageError, match=f"{tmp_path}: {size} bytes cannot be mapped"):
        AddressRange(np.array([size])).map(0, str(tmp_path))


def test_files_are_not_held_open(paths: list[str], tmp_path: Path) -> None:
    addresses = AddressRange(np.array(SIZES))
    for _ in range(3):
        addresses.map(0, paths[0])
        with pytest.raises(CorruptionError):
            addresses.map(1, paths[0])
    held = [str(entry.readlink()) for entry in Path("/proc/self/fd").iterdir() if entry.is_symlink()]
    assert not [path for path in held if str(tmp_path) in path]


def test_too_many_addresses_are_refused(tmp_path: Path) -> None:
    code = (
        "import resource; import numpy as np\n"
        "from tokenmill.errors import StorageError\n"
        "from tokenmill.loader.address_range import AddressRange\n"
        "resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))\n"
        "try:\n"
        "    AddressRange(np.array([1 << 40]))\n"
        "except StorageError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert f"{1 << 40} bytes cannot be mapped: Cannot allocate memory" in done.stdout
    assert "ulimit -v" in done.stdout
