import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import fsspec
import pytest
from fsspec.utils import glob_translate
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenmill.errors import InputError
from tokenmill.storage.inputs import expand, join, open_input, stat_input
from tokenmill.storage.outputs import Storage

_TREE = (
    "a.jsonl", "b.jsonl.zst", "sub/c.jsonl", "sub/deeper/d.jsonl", "sub/deeper/e.txt", "spark.parquet/part-0.parquet",
    "spark.parquet/_SUCCESS", "spark.parquet/.part-0.parquet.crc", ".hidden.jsonl", ".git/f.jsonl", "code/__init__.py",
    "lang-de/x.txt", "lang-en/x.txt", "odd[1].jsonl",
)  # fmt: skip
_VISIBLE = sorted(path for path in _TREE if "/." not in f"/{path}" and "_SUCCESS" not in path)


@pytest.fixture
def tree(any_root: str) -> str:
    storage = Storage.open(any_root)
    for path in _TREE:
        storage.put(path, [path.encode()])
    if not any_root.startswith("s3://"):
        (Path(any_root) / ".tmp").rmdir()
    return any_root


@pytest.mark.parametrize(
    ("patterns", "root", "found"),
    [
        ([""], "", _VISIBLE),
        (["/"], "", _VISIBLE),
        (["/**"], "", _VISIBLE),
        (["/*"], "", _VISIBLE),
        (["/a.jsonl"], "", ["a.jsonl"]),
        (["/*.jsonl"], "", ["a.jsonl", "odd[1].jsonl"]),
        (["/?.jsonl"], "", ["a.jsonl"]),
        (["/[ab].jsonl*"], "", ["a.jsonl", "b.jsonl.zst"]),
        (["/[!a].jsonl*"], "", ["b.jsonl.zst"]),
        (["/**/*.jsonl"], "", ["a.jsonl", "odd[1].jsonl", "sub/c.jsonl", "sub/deeper/d.jsonl"]),
        (["/**/deeper/*"], "", ["sub/deeper/d.jsonl", "sub/deeper/e.txt"]),
        (["/sub/**/*.jsonl"], "/sub", ["c.jsonl", "deeper/d.jsonl"]),
        (["/s*/c.jsonl"], "", ["sub/c.jsonl"]),
        (["/sub"], "/sub", ["c.jsonl", "deeper/d.jsonl", "deeper/e.txt"]),
        (["/*.parquet"], "", ["spark.parquet/part-0.parquet"]),
        (["/**/*.parquet"], "", ["spark.parquet/part-0.parquet"]),
        (["/lang-*"], "", ["lang-de/x.txt", "lang-en/x.txt"]),
        (["/lang-*/x.txt"], "", ["lang-de/x.txt", "lang-en/x.txt"]),
        (["/code"], "/code", ["__init__.py"]),
        (["/odd[1].jsonl"], "", ["odd[1].jsonl"]),
        (["/.hidden.jsonl"], "", [".hidden.jsonl"]),
        (["/.*.jsonl"], "", [".hidden.jsonl"]),
        (["/.git/*"], "/.git", ["f.jsonl"]),
        (["/**/.git/*"], "", [".git/f.jsonl"]),
        (["/spark.parquet/_SUCCESS"], "/spark.parquet", ["_SUCCESS"]),
        (["/sub/c.jsonl", "/sub/deeper"], "/sub", ["c.jsonl", "deeper/d.jsonl", "deeper/e.txt"]),
        (["/sub/*.jsonl", "/sub/c.jsonl"], "/sub", ["c.jsonl"]),
        (["/lang-de", "/lang-en"], "", ["lang-de/x.txt", "lang-en/x.txt"]),
    ],
)
def test_expand(tree: str, patterns: list[str], root: str, found: list[str]) -> None:
    expanded = expand([tree + pattern for pattern in patterns])
    assert expanded.root.rstrip("/") == tree + root
    assert [file.path for file in expanded.files] == found
    for file in expanded.files:
        with open_input(join(expanded.root, file.path)) as opened:
            data = opened.read()
        assert data.decode() == f"{root}/{file.path}".lstrip("/")
        assert stat_input(join(expanded.root, file.path)) == (len(data), file.version)


@pytest.mark.parametrize("pattern", ["/nothing", "/no*thing", "/**/nothing", "/nothing/*", "/a.jsonl/*"])
def test_nothing_matches(tree: str, pattern: str) -> None:
    with pytest.raises(InputError, match=re.escape(tree + pattern)):
        expand([tree, tree + pattern])


def test_the_root_is_stable_when_files_are_added(tree: str) -> None:
    before = expand([tree + "/**/e.txt"])
    Storage.open(tree).put("other/e.txt", [b""])
    after = expand([tree + "/**/e.txt"])
    assert before.root == after.root
    assert {file.path for file in before.files} < {file.path for file in after.files}


def test_versions_follow_content(any_root: str) -> None:
    storage = Storage.open(any_root)
    storage.put("x", [b"one"])
    first = expand([any_root]).files[0]
    storage.put("x", [b"two"])
    assert expand([any_root]).files[0].version != first.version


def test_relative_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "x.jsonl").touch()
    monkeypatch.chdir(tmp_path)
    assert expand(["data/*.jsonl"]).root == str(tmp_path / "data")
    assert expand(["*/x.jsonl"]).root == str(tmp_path)
    assert expand(["file://" + str(tmp_path)]).files[0].path == "data/x.jsonl"


def test_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="different filesystems"):
        expand([str(tmp_path), "memory://x"])
    with pytest.raises(InputError, match="no uri"):
        expand([])
    with pytest.raises(InputError, match="must stand alone"):
        expand([f"{tmp_path}/**.jsonl"])
    with pytest.raises(InputError, match="no filesystem is known"):
        expand(["gibberish://x"])
    with pytest.raises(InputError, match="credentials") as caught:
        expand(["s3://key:secret@bucket/x"])
    assert "secret" not in str(caught.value)
    with pytest.raises(InputError, match="nothing-here"):
        open_input(str(tmp_path / "nothing-here"))
    with pytest.raises(InputError, match="nothing-here"):
        stat_input(str(tmp_path / "nothing-here"))


def test_missing_objects(s3_root: str) -> None:
    for operation in (open_input, stat_input):
        with pytest.raises(InputError, match="no-object"):
            operation(f"{s3_root}/no-object")
    with pytest.raises(InputError, match="bucket does not exist"):
        expand(["s3://no-such-bucket/x"])


def test_wrong_credentials(s3_root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    Storage.open(s3_root).put("x", [b"data"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    for uri in (s3_root, f"{s3_root}/*", f"{s3_root}/x"):
        with pytest.raises(InputError, match="credentials"):
            expand([uri])


@contextmanager
def _unprivileged() -> Iterator[None]:
    """Permissions do not bind root."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_unreadable() -> None:
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        (root / "closed").mkdir()
        (root / "closed" / "x.jsonl").touch()
        (root / "file.jsonl").touch()
        root.chmod(0o755)
        (root / "closed").chmod(0)
        (root / "file.jsonl").chmod(0)
        with _unprivileged():
            for uri in (f"{root}", f"{root}/closed", f"{root}/**/*.jsonl"):
                with pytest.raises(InputError, match=r"closed: .*permission denied"):
                    expand([uri])
            with pytest.raises(InputError, match=r"file\.jsonl: .*permission denied"):
                open_input(f"{root}/file.jsonl")
        (root / "closed").chmod(0o755)


def test_links_and_special_files(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "x.txt").write_text("x")
    (tmp_path / "real" / "up").symlink_to(tmp_path)
    (tmp_path / "real" / "link.txt").symlink_to("x.txt")
    (tmp_path / "real" / "broken.txt").symlink_to("nowhere")
    os.mkfifo(tmp_path / "real" / "pipe")
    assert [file.path for file in expand([str(tmp_path)]).files] == ["real/link.txt", "real/x.txt"]


def test_a_name_that_is_not_text(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"bad\xff.txt")).touch()
    with pytest.raises(InputError, match="not UTF-8"):
        expand([str(tmp_path)])


def test_other_filesystems() -> None:
    memory = fsspec.filesystem("memory")
    memory.pipe({"/corpus/a.txt": b"a", "/corpus/b/c.txt": b"cc", "/corpus/.d": b""})
    expanded = expand(["memory://corpus/**/*.txt"])
    assert (expanded.root, [file.path for file in expanded.files]) == ("memory://corpus", ["a.txt", "b/c.txt"])
    with open_input("memory://corpus/b/c.txt") as opened:
        assert opened.read() == b"cc"
    assert stat_input("memory://corpus/b/c.txt") == (2, expanded.files[1].version)
    memory.rm("/corpus", recursive=True)


_names = st.sampled_from(["a", "b", "ab", "a.x", "b.x"])
_paths = st.lists(_names, min_size=1, max_size=4).map("/".join)
_steps = st.sampled_from(["*", "**", "a", "b", "a*", "*.x", "?", "[ab]", "[!a]*"])


@settings(max_examples=60, deadline=None)
@given(paths=st.sets(_paths, min_size=1, max_size=8), pattern=st.lists(_steps, min_size=1, max_size=4).map("/".join))
def test_globs_match_as_plain_search_does(paths: set[str], pattern: str) -> None:
    """The walk that descends only where it must finds what testing every file would."""
    files = {path for path in paths if not any(other.startswith(f"{path}/") for other in paths)}
    match = re.compile(glob_translate(pattern)).match
    expected = sorted(path for path in files if any(match("/".join(path.split("/")[:count])) for count in range(1, 5)))
    with tempfile.TemporaryDirectory() as root:
        for path in files:
            (Path(root) / path).parent.mkdir(parents=True, exist_ok=True)
            (Path(root) / path).touch()
        try:
            expanded = expand([f"{root}/{pattern}"])
        except InputError:
            assert expected == []
        else:
            prefix = f"{expanded.root}/"[len(root) + 1 :].lstrip("/")
            assert [prefix + file.path for file in expanded.files] == expected
