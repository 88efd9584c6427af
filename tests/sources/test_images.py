"""Images as sources: folders, tar and Parquet; what a run of files holds, and what is never looked into."""

from __future__ import annotations

import io
import tempfile
import tracemalloc
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.sources.corpora import Result, gz, read_source, read_split, small_pieces, write
from tests.tar_files import as_tar
from tokenmill.errors import InputError
from tokenmill.images.image_file import DecodingOptions, ImageFile
from tokenmill.job_sources import Source
from tokenmill.sources import runs
from tokenmill.sources.formats import file_format
from tokenmill.sources.items import Cursor
from tokenmill.sources.limits import BATCH_BYTES, ReadLimits
from tokenmill.sources.planning import RUN_IMAGES, SMALL_FILE_BYTES, plan_source
from tokenmill.sources.reading import open_split
from tokenmill.sources.splits import InputFile, Split
from tokenmill.storage.inputs import expand

_SOURCE = Source(name="s", modality="image", uris=("x",))
_ENDINGS = ("jpg", "jpeg", "png", "webp", "gif", "tif", "tiff")


def _image_source(**changes: Any) -> Source:
    return Source.model_validate({"name": "s", "modality": "image", "uris": ["x"], **changes})


def _read(tmp_path: Path, name: str, data: bytes, limits: ReadLimits | None = None, **source: Any) -> Result:
    root, files = write(tmp_path, {name: data})
    return read_source(_image_source(**source), root, files, limits=limits)


def _payloads(source: Source, root: str, files: list[InputFile], limits: ReadLimits) -> list[ImageFile]:
    payloads = []
    for split in plan_source(source, root, files, 1 << 30):
        with open_split(source, root, split, limits) as reader:
            payloads += [payload for batch in reader.batches() for payload in batch.payloads]
    return payloads


# Formats


@pytest.mark.parametrize("ending", [*_ENDINGS, "JPG", "Jpeg"])
def test_image_files_are_known_by_their_ending(ending: str) -> None:
    assert file_format(_SOURCE, f"a/b.c.{ending}").format == "image"
    assert file_format(_SOURCE, f"a/b.{ending}.gz").compression == "gz"


def test_a_given_format_needs_no_ending() -> None:
    assert file_format(_image_source(format="image"), "a/0a1b2c").format == "image"
    assert file_format(_image_source(format="tar"), "shard.jpg").format == "tar"


@pytest.mark.parametrize(
    ("modality", "path", "message", "fix"),
    [
        (
            "image",
            "a.svg",
            r"does not show .* \.parquet \.tar \.jpg .*\.tiff, each also",
            r"(image, tar or parquet)",
        ),
        ("image", "Thumbs.db", "does not show", "name fewer files"),
        ("image", "a.jsonl.gz", "by its ending the file is jsonl, and holds no image", "`modality: text`"),
        ("image", "labels.csv", "by its ending the file is csv, and holds no image", "name fewer files"),
        ("text", "a.jpeg", "by its ending the file is image, and holds no text", "`modality: image`"),
    ],
)
def test_what_is_in_none_of_the_modalitys_formats_is_refused(modality: str, path: str, message: str, fix: str) -> None:
    source = Source.model_validate({"name": "s", "modality": modality, "uris": ["x"]})
    with pytest.raises(InputError, match=message) as caught:
        file_format(source, path)
    assert caught.value.where == path
    assert fix in str(caught.value.fix)
    assert ".jsonl" not in caught.value.what or modality == "text"


# Payloads


def test_payloads_are_the_files_with_how_to_decode_them(tmp_path: Path) -> None:
    contents = {"a.png": b"any bytes", "b.tar": as_tar({"x.jpg": b"in a tar"})}
    table = io.BytesIO()
    pq.write_table(pa.table({"image": [b"in a row"]}), table)
    root, files = write(tmp_path, {**contents, "c.parquet": table.getvalue()})
    source = _image_source(background=[0, 10, 255])
    options = DecodingOptions((0, 10, 255), 77)
    assert _payloads(source, root, files, ReadLimits(max_pixels=77)) == [
        ImageFile(b"any bytes", options),
        ImageFile(b"in a tar", options),
        ImageFile(b"in a row", options),
    ]


# Folders


def test_a_folder_of_images(tmp_path: Path) -> None:
    contents = {
        f"{letter}/{number}.{ending}": f"{letter}{number}".encode()
        for letter in "ab"
        for number, ending in enumerate(_ENDINGS)
    }
    root, files = write(tmp_path, contents)
    result = read_source(_image_source(metadata=["caption"]), root, files)
    assert [(item.key, item.text, item.locator, item.metadata) for item in result.items] == [
        (path, data.decode(), f"{path}:0", (None,)) for path, data in contents.items()
    ]


def test_an_empty_file_is_an_item_and_is_passed_by_a_restart(tmp_path: Path) -> None:
    root, files = write(tmp_path, {"a.jpg": b"", "b.jpg": b"b", "c.png": b""})
    for split in (*plan_source(_SOURCE, root, files, 1 << 20), Split("s", "file", (files[0],), 0, 0, 0)):
        whole = read_split(_SOURCE, root, split)
        assert [item.text for item in whole.items] == ["", "b", ""][: len(split.files)]
        for number, item in enumerate(whole.items):
            rest = read_split(_SOURCE, root, split, Cursor(item.ordinal + 1, item.end))
            assert rest.items == whole.items[number + 1 :]


def test_compressed_image_files(tmp_path: Path) -> None:
    whole = b"".join(gz(b"image " * 100))
    root, files = write(
        tmp_path, {"a.tif.gz": whole, "b.tif.gz": whole[:-30], "c.tif.gz": b"not gzip" * 9, "d.tif": b"d"}
    )
    result = read_source(_SOURCE, root, files, limits=ReadLimits(max_item_bytes=600))
    assert [(item.ordinal, item.text) for item in result.items] == [(0, "image " * 100), (3, "d")]
    assert result.reasons == ["torn_file", "unreadable_file"]
    assert read_source(_SOURCE, root, files, limits=ReadLimits(max_item_bytes=599)).reasons[0] == "item_too_large"


def test_a_file_above_the_limit_is_not_read(tmp_path: Path) -> None:
    root, files = write(tmp_path, {"a.jpg": b"a", "c.jpg": b"c"})
    with open(tmp_path / "b.jpg", "wb") as file:
        file.truncate(3 << 30)
    files = list(expand([str(tmp_path)]).files)
    tracemalloc.start()
    result = read_source(_SOURCE, root, files, split_bytes=1 << 33, limits=ReadLimits(max_item_bytes=1 << 30))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [item.text for item in result.items] == ["a", "c"]
    assert [(reject.reason, reject.ordinal, reject.key) for reject in result.rejects] == [
        ("item_too_large", 1, "b.jpg")
    ]
    assert peak < 4 << 20


def _plan(sizes: list[int], split_bytes: int, ending: str = "jpg") -> list[Split]:
    files = [InputFile(f"{number:06}.{ending}", size, "v") for number, size in enumerate(sizes)]
    return list(plan_source(_SOURCE, "/nowhere", files, split_bytes))


def test_images_of_any_size_share_splits() -> None:
    """A million photographs of 2 MB are not a million splits."""
    splits = _plan([2_000_000] * 1000, 256_000_000)
    assert [len(split.files) for split in splits] == [128] * 7 + [104]
    assert {split.kind for split in splits} == {"files"}
    assert [len(split.files) for split in _plan([5000] * 700, 256_000_000)] == [RUN_IMAGES, RUN_IMAGES, 200]


def test_an_image_above_split_bytes_is_a_split_of_its_own() -> None:
    splits = _plan([10, 5000, 20], 4096)
    assert [(split.kind, len(split.files), split.input_bytes) for split in splits] == [
        ("file", 1, 5000),
        ("files", 2, 30),
    ]


@given(
    sizes=st.lists(st.sampled_from([0, 1, 5000, SMALL_FILE_BYTES, 4_000_000, 40_000_000]), max_size=40),
    split_bytes=st.integers(4096, 60_000_000),
)
def test_every_file_is_in_one_split(sizes: list[int], split_bytes: int) -> None:
    splits = _plan(sizes, split_bytes)
    paths = [file.path for split in splits for file in split.files]
    assert sorted(paths) == [f"{number:06}.jpg" for number in range(len(sizes))]
    for split in splits:
        assert split.input_bytes == sum(file.size_bytes for file in split.files)
        assert split.input_bytes <= split_bytes or len(split.files) == 1
    runs_bytes = [split.input_bytes for split in splits if split.kind == "files"]
    assert len(runs_bytes) <= 2 * (sum(runs_bytes) // split_bytes) + 1  # no run is left half empty beside another


@given(
    sizes=st.lists(st.integers(0, 30), min_size=1, max_size=30),
    batch_bytes=st.integers(1, 60),
    split_bytes=st.integers(1, 80),
)
def test_a_restart_after_any_image_gives_the_rest(sizes: list[int], batch_bytes: int, split_bytes: int) -> None:
    contents = {f"{number:02}.png": bytes([65 + number]) * size for number, size in enumerate(sizes)}
    limits = ReadLimits(max_item_bytes=25)
    with tempfile.TemporaryDirectory() as directory, small_pieces(1 << 20, batch_bytes):
        root, files = write(Path(directory), contents)
        found = Result()
        for split in plan_source(_SOURCE, root, files, split_bytes):
            whole = read_split(_SOURCE, root, split, limits=limits)
            found.items += whole.items
            found.rejects += whole.rejects
            for number, item in enumerate(whole.items):
                rest = read_split(_SOURCE, root, split, Cursor(item.ordinal + 1, item.end), limits)
                assert rest.items == whole.items[number + 1 :]
                assert rest.rejects == [reject for reject in whole.rejects if reject.ordinal > item.ordinal]
    assert sorted([*(item.key for item in found.items), *(reject.key for reject in found.rejects)]) == list(contents)
    assert set(found.reasons) <= {"item_too_large"}


def test_batches_hold_bounded_bytes(tmp_path: Path) -> None:
    sizes = [400_000] * 7 + [3_000_000] + [400_000] * 3
    root, files = write(tmp_path, {f"{number:02}.jpg": bytes(size) for number, size in enumerate(sizes)})
    (split,) = plan_source(_SOURCE, root, files, 1 << 30)
    with open_split(_SOURCE, root, split, ReadLimits()) as reader:
        batches = [(len(batch), int(batch.sizes.sum())) for batch in reader.batches()]
    assert [items for items, _ in batches] == [2, 2, 2, 1, 1, 2, 1]
    assert all(size <= BATCH_BYTES or items == 1 for items, size in batches)


def test_images_on_object_storage(s3_root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tokenmill.storage.outputs import Storage

    contents = {f"{number:02}.jpg": f"image {number}".encode() * (number * 100 + 1) for number in range(20)}
    storage = Storage.open(s3_root)
    for name, data in contents.items():
        storage.create(name, data)
    monkeypatch.setattr(runs, "_FETCHED_BYTES", 9000)  # some are fetched ahead, some read when their turn comes
    expanded = expand([s3_root])
    assert sum(file.size_bytes > 9000 for file in expanded.files) == 8
    (split,) = plan_source(_SOURCE, expanded.root, expanded.files, 1 << 20)
    whole = read_split(_SOURCE, expanded.root, split)
    assert [(item.key, item.text.encode()) for item in whole.items] == list(contents.items())
    item = whole.items[7]
    assert read_split(_SOURCE, expanded.root, split, Cursor(8, item.end)).items == whole.items[8:]


# Tar


def test_the_image_of_a_sample_is_the_first_member_that_is_one(tmp_path: Path) -> None:
    members = {
        "a.txt": b"caption",
        "a.JPG": b"jpg",
        "b.tiff": b"tiff",
        "b.jpeg": b"jpeg",
        "c.webp": b"webp",
        "c.cls": b"7",
        "d.seg.png": b"no",
        "e.image": b"image",
    }
    result = _read(tmp_path, "a.tar", as_tar(members), metadata={"txt": "string", "cls": "int64"})
    assert [(item.ordinal, item.key, item.text, item.metadata) for item in result.items] == [
        (0, "a", "jpg", ("caption", None)),
        (1, "b", "jpeg", (None, None)),
        (2, "c", "webp", (None, 7)),
        (4, "e", "image", (None, None)),
    ]
    assert [(reject.reason, reject.locator) for reject in result.rejects] == [("missing_field", "a.tar!d")]
    assert _read(tmp_path, "a.tar", as_tar(members), fields={"image": "seg.PNG"}).texts == ["no"]


def test_a_sample_with_json_beside_its_image(tmp_path: Path) -> None:
    members = {"a.png": b"\xff\xfe", "a.json": b'{"id": 5, "caption": "a cat", "size": [1, 2]}'}
    fields, metadata = {"id": "json.id"}, {"json.caption": "string", "json.size": "string"}
    (item,) = _read(tmp_path, "a.tar", as_tar(members), fields=fields, metadata=metadata).items
    assert (item.key, item.metadata) == ("5", ("a cat", "[1,2]"))
    assert item.text.encode("utf-8", "surrogateescape") == b"\xff\xfe"
    (reject,) = _read(tmp_path, "a.tar", as_tar(members), fields={"image": "json.caption"}).rejects
    assert (reject.reason, reject.message) == ("wrong_type", "'json.caption' is no image file but str: 'a cat'")


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ({"b.txt": b"x"}, "missing_field"),
        ({"b.jpg": bytes(51)}, "item_too_large"),
        ({"b.jpg": b"x", "b.JPG": b"y"}, "duplicate_member"),
        ({"b.jpg": b"x", "b.txt": b"\xff"}, "invalid_utf8"),
    ],
)
def test_bad_samples_are_rejected(tmp_path: Path, members: dict[str, bytes], reason: str) -> None:
    data = as_tar({"a.jpg": b"good", **members, "c.jpg": b"good"})
    result = _read(tmp_path, "a.tar", data, ReadLimits(50), metadata=["txt"])
    assert [(item.ordinal, item.text) for item in result.items] == [(0, "good"), (2, "good")]
    assert [(reject.reason, reject.ordinal) for reject in result.rejects] == [(reason, 1)]


# Parquet


def _parquet(table: Any, **options: Any) -> bytes:
    file = io.BytesIO()
    pq.write_table(table, file, **{"row_group_size": 2, **options})
    return file.getvalue()


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), pa.binary_view()], ids=str)
@pytest.mark.parametrize("hub", [False, True], ids=["plain", "struct"])
def test_image_columns_of_every_type(tmp_path: Path, kind: Any, hub: bool) -> None:
    values: Any = pa.array([b"a", b"\xff\x00", b"", None, b"b"]).cast(kind)
    paths = pa.array(["p/a", "p/b", None, "p/d", "p/e"])
    column = pa.StructArray.from_arrays([values, paths], ["bytes", "path"]) if hub else values
    # Structs of views cannot be cut into row groups.
    data = _parquet(pa.table({"picture": column, "label": [1, 2, 3, 4, 5]}), row_group_size=5 if hub else 2)
    fields = {"image": "picture"}
    result = _read(tmp_path, "a.parquet", data, fields=fields, metadata={"label": "int64"})
    assert [(item.ordinal, item.text, item.metadata) for item in result.items] == [
        (0, "a", (1,)),
        (1, "\udcff\0", (2,)),
        (2, "", (3,)),
        (4, "b", (5,)),
    ]
    (reject,) = result.rejects
    assert (reject.reason, reject.message, reject.locator) == ("null_image", "'picture' is null", "a.parquet#row=3")
    assert {item.key for item in result.items} == {"a.parquet"}
    if hub:
        result = _read(tmp_path, "a.parquet", data, fields={**fields, "id": "picture.path"})
        assert [item.key for item in result.items] == ["p/a", "p/b", "p/e"]
        assert sorted(result.reasons) == ["missing_field", "null_image"]


def test_a_null_struct_is_a_null_image(tmp_path: Path) -> None:
    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    table = pa.table({"image": pa.array([{"bytes": b"a", "path": None}, None], kind)})
    result = _read(tmp_path, "a.parquet", _parquet(table))
    assert (result.texts, result.reasons) == (["a"], ["null_image"])


def test_repeated_images_of_a_dictionary(tmp_path: Path) -> None:
    table = pa.table({"image": pa.array([b"a", b"b", b"a"]).dictionary_encode()})
    assert _read(tmp_path, "a.parquet", _parquet(table)).texts == ["a", "b", "a"]


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (pa.array(["text"]), "column 'image' holds string, no image"),
        (pa.array([[1, 2]]), "column 'image' holds list<.*>, no image"),
        (pa.array([{"path": "x"}]), "there is no column 'image.bytes'"),
        (pa.array([{"bytes": "x", "path": "x"}]), "column 'image.bytes' holds string, no image"),
    ],
    ids=["string", "list", "struct without bytes", "struct of text"],
)
def test_columns_that_hold_no_images_are_refused(tmp_path: Path, column: Any, message: str) -> None:
    root, files = write(tmp_path, {"a.parquet": _parquet(pa.table({"image": column, "label": [1]}))})
    with pytest.raises(InputError, match=f"{message}; the columns are image .*label") as caught:
        list(plan_source(_SOURCE, root, files, 1 << 20))
    assert "`fields.image`" in str(caught.value.fix)


def test_large_rows_are_read_in_bounded_pieces(tmp_path: Path) -> None:
    table = pa.table({"image": [bytes([number]) * 300_000 for number in range(200)], "other": ["x" * 1000] * 200})
    root, files = write(tmp_path, {"a.parquet": _parquet(table, row_group_size=200, write_batch_size=1)})
    del table  # a page is read as a whole; these are of a row or a few
    (split,) = plan_source(_SOURCE, root, files, 1 << 30)
    before = pa.total_allocated_bytes()
    rows = largest = 0
    with open_split(_SOURCE, root, split, ReadLimits()) as reader:
        for batch in reader.batches():
            rows += len(batch)
            largest = max(largest, pa.total_allocated_bytes() - before)
            assert int(batch.sizes.sum()) <= BATCH_BYTES
    assert rows == 200
    assert largest < 16 << 20


def test_an_image_above_the_limit_in_a_row(tmp_path: Path) -> None:
    result = _read(tmp_path, "a.parquet", _parquet(pa.table({"image": [b"a" * 50, b"b" * 51]})), ReadLimits(50))
    assert (result.texts, result.reasons) == (["a" * 50], ["item_too_large"])
    assert result.rejects[0].message == "the image has 51 bytes; max_item_bytes is 50"


# All together


def test_files_of_all_formats_in_one_source(tmp_path: Path) -> None:
    contents = {
        "a/1.jpg": b"1",
        "a/2.tar": as_tar({"x.png": b"2", "y.png": b"3"}),
        "b.parquet": _parquet(pa.table({"image": [b"4", None, b"5"]})),
        "c.GIF": b"6" * (SMALL_FILE_BYTES + 1),
        "d.tar": b"no tar" * 100,
        "e.webp": b"7",
    }
    root, files = write(tmp_path, contents)
    (split,) = plan_source(_SOURCE, root, files, 1 << 20)
    whole = read_split(_SOURCE, root, split)
    assert [item.text[:1] for item in whole.items] == list("1234567")
    assert whole.reasons == ["null_image", "unreadable_file"]
    for number, item in enumerate(whole.items):
        rest = read_split(_SOURCE, root, split, Cursor(item.ordinal + 1, item.end))
        assert rest.items == whole.items[number + 1 :]
        assert rest.rejects == [reject for reject in whole.rejects if reject.ordinal > item.ordinal]
