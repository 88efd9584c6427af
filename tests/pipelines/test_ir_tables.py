"""Modules of LLVM IR through a pipeline: the same rows with one worker and with two, and of a module by itself.

Files, tar and Parquet, in both modes, with licences and languages carried along; workers whose readers are killed; runs
that are broken off.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import tokenmill
from pipelines import Launcher
from tests.ir.samples import COMPILED, TEXT, compiled
from tests.pipelines.test_runners import planned, run, shards
from tests.tar_files import as_tar
from tokenmill.encoding_ahead import encode_items
from tokenmill.ir.ir_file import IrFile
from tokenmill.jobs import Job
from tokenmill.plans import Plan
from tokenmill.registry import tokenizer_class
from tokenmill.storage.outputs import Storage

TABLES: dict[str, dict[str, Any]] = {
    "line": {"id": "llvm-ir"},
    "lexeme": {"id": "llvm-ir", "mode": "lexeme"},
    "bare": {"id": "llvm-ir", "canonical": {"debug": False, "comments": False, "local_names": False}},
}
LANGUAGES = {"c": "c", "cpp": "c++", "rust": "rust"}
#: Language and licence are asked of the sources that have them; of Rust, and of what has no licence, there is no row.
WHERE = {"language": ["c", "c++"], "license_expression": ["MIT", "Zlib"]}


@pytest.fixture(scope="module")
def launcher() -> Iterator[Launcher]:
    with Launcher() as started:
        started.load([(tokenizer, "auto") for tokenizer in TABLES.values()])
        yield started


def modules() -> list[tuple[str, bytes]]:
    """Return modules of all compilers, several of each, none like another."""
    texts = [("text.ll", TEXT.replace(b"choose", b"choose%d" % number)) for number in range(12)]
    return [(name, compiled(name)) for name in COMPILED] + texts


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three folders: modules as files, in tar files, and in Parquet as ComPile has it; with bad ones between."""
    root = tmp_path_factory.mktemp("modules")
    for folder in ("files", "tar", "parquet"):
        (root / folder).mkdir()
    for number, (name, data) in enumerate(modules()):
        (root / "files" / f"{number:02}-{name}").write_bytes(data[: -500 if number % 9 == 4 else None])
    for archive in range(3):
        members = {}
        for number, (name, data) in enumerate(modules()[archive::3]):
            ending = name.rpartition(".")[2]
            members[f"{number:02}.{ending}"] = data if number != 4 else b"no IR"
            about = {"language": LANGUAGES.get(name.split("-")[0], "c"), "licence": ("MIT", "Zlib")[number % 2]}
            members[f"{number:02}.json"] = json.dumps(about).encode()
        (root / "tar" / f"{archive}.tar").write_bytes(as_tar(members))
    contents = [data for _, data in modules()]
    contents[3] = None  # type: ignore[call-overload]
    contents[7] = contents[7][:300]
    table = pa.table(
        {
            "content": pa.array(contents, pa.binary()),
            "language": [LANGUAGES.get(name.split("-")[0], "c") for name, _ in modules()],
            "license_expression": [("MIT", "Zlib", "GPL-2.0", None)[number % 4] for number in range(len(contents))],
        }
    )
    pq.write_table(table, root / "parquet" / "a.parquet", row_group_size=5)
    return root


def changes(inputs: Path) -> dict[str, Any]:
    sources: list[dict[str, Any]] = [
        {"name": "files", "uris": [str(inputs / "files")]},
        {"name": "tar", "uris": [str(inputs / "tar")], "metadata": ["json.language", "json.licence"]},
        {"name": "parquet", "uris": [str(inputs / "parquet")], "metadata": ["language"], "where": WHERE},
    ]
    return {
        "sources": [{"modality": "llvm-ir", **source} for source in sources],
        "splitting": {"split_bytes": 40_000, "part_bytes": 60_000},
        "tables": [{"name": name, "tokenizer": tokenizer} for name, tokenizer in TABLES.items()],
    }


@pytest.fixture(scope="module")
def undisturbed(
    launcher: Launcher, inputs: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Job, Plan, dict[str, Any]]:
    job, plan = planned(inputs, tmp_path_factory.mktemp("one") / "out", **changes(inputs))
    assert len(plan.splits) > 4
    assert run(launcher, job, plan)[-1] == {"event": "done"}
    return job, plan, shards(job, plan)


def rejects(output: str, table: str) -> list[tuple[str, str]]:
    storage = Storage.open(output)
    paths = sorted(entry.path for entry in storage.list("rejects/") if entry.path.startswith(f"rejects/{table}-"))
    lines = (json.loads(line) for path in paths for line in storage.read(path).splitlines())
    return [(reject["locator"], reject["reason"]) for reject in lines]


def test_a_modules_row_depends_on_nothing_but_the_module(
    launcher: Launcher, inputs: Path, tmp_path: Path, undisturbed: tuple[Job, Plan, dict[str, Any]]
) -> None:
    job, plan = planned(inputs, tmp_path / "out", **changes(inputs))
    assert run(launcher, job, plan, workers=2)[-1] == {"event": "done"}
    assert shards(job, plan) == undisturbed[2]
    dataset = tokenmill.open(job.output)
    for name, config in TABLES.items():
        tokenizer = tokenizer_class("llvm-ir").model_validate({k: v for k, v in config.items() if k != "id"})
        encoder, decoder, specs = tokenizer.load(), tokenizer.decoder(), tokenizer.streams()
        assert decoder is not None
        table = dataset[name]
        assert len(rejects(job.output, name)) == len(rejects(job.output, "line")) > 4
        checked = 0
        for index, row in enumerate(table):
            path = inputs / "files" / row.key
            if not path.exists():
                continue
            alone = encode_items(encoder, specs, [IrFile(path.read_bytes())])
            for stream in specs:
                np.testing.assert_array_equal(row.streams[stream], alone.streams[stream][0], f"{name}, {stream}")
            text = IrFile(path.read_bytes()).module(tokenizer.canonical).text  # type: ignore[attr-defined]
            assert table.decode(index).encode() == text
            assert IrFile(text).module(tokenizer.canonical).text == text  # type: ignore[attr-defined]
            checked += 1
        assert checked >= 15


def test_metadata_is_carried_and_where_leaves_no_trace(undisturbed: tuple[Job, Plan, dict[str, Any]]) -> None:
    job, plan, _ = undisturbed
    table = tokenmill.open(job.output)["line"]
    sources = [split.source for split in plan.splits]
    rows = {name: [row for row in table if sources[row.split] == name] for name in ("files", "tar", "parquet")}
    assert {row.metadata["json.licence"] for row in rows["tar"]} == {"MIT", "Zlib"}
    assert {row.metadata["json.language"] for row in rows["tar"]} == {"c", "c++", "rust"}
    wanted = [
        (number, LANGUAGES.get(name.split("-")[0], "c"))
        for number, (name, _) in enumerate(modules())
        if number % 4 < 2 and not name.startswith("rust")
    ]
    assert [row.metadata["language"] for row in rows["parquet"]] == [kind for number, kind in wanted]
    assert not [place for place, _ in rejects(job.output, "line") if "parquet" in place]  # bad rows are not asked for
    everything = [reason for _, reason in rejects(job.output, "line")]
    assert everything.count("not_llvm_ir") == 3
    assert len(everything) > 4


def test_what_old_and_new_compilers_wrote_reads_alike(undisturbed: tuple[Job, Plan, dict[str, Any]]) -> None:
    table = tokenmill.open(undisturbed[0].output)["line"]
    rows = {row.key.partition("-")[2]: index for index, row in enumerate(table)}
    for language in ("c", "cpp"):
        found = [rows[name] for version in (14, 16, 19) if (name := f"{language}-clang{version}.bc") in rows]
        assert len(found) >= 2
        texts = [table.decode(index) for index in found]
        counts = [texts[0].count(f"\n{word} ") for word in ("define", "declare")]
        for text, index in zip(texts, found, strict=True):
            assert [text.count(f"\n{word} ") for word in ("define", "declare")] == counts
            assert counts[0] == len(table[index].streams["functions"])
            assert "i8*" not in text


def test_killing_what_reads_loses_nothing(
    launcher: Launcher, inputs: Path, tmp_path: Path, undisturbed: tuple[Job, Plan, dict[str, Any]]
) -> None:
    """Zygotes and readers of both workers are killed while they work."""
    job, plan = planned(inputs, tmp_path / "out", **changes(inputs))
    stop = threading.Event()
    killed: list[str] = []

    def kill() -> None:
        while not stop.wait(0.05):
            for process in psutil.Process().children(recursive=True):
                try:
                    is_zygote = "tokenmill.ir.zygote" in process.cmdline()
                    if not is_zygote or process.pid in seen:
                        continue
                    seen.add(process.pid)
                    if len(seen) <= 4:
                        stop.wait(0.4)
                        victim = process if len(seen) % 2 else (process.children() or [process])[0]
                        victim.kill()
                        killed.append("zygote" if victim is process else "reader")
                except psutil.NoSuchProcess:
                    continue

    seen: set[int] = set()
    killer = threading.Thread(target=kill)
    killer.start()
    try:
        assert run(launcher, job, plan, workers=2)[-1] == {"event": "done"}
    finally:
        stop.set()
        killer.join()
    assert killed
    assert shards(job, plan) == undisturbed[2]


def test_a_run_that_was_broken_off_is_taken_up(
    launcher: Launcher, inputs: Path, tmp_path: Path, undisturbed: tuple[Job, Plan, dict[str, Any]]
) -> None:
    job, plan = planned(inputs, tmp_path / "out", **changes(inputs))
    run(launcher, job, plan, first_split=0, last_split=2)
    storage = Storage.open(job.output)
    receipts = sorted(entry.path for entry in storage.list("") if "/receipts/" in entry.path)
    assert receipts
    storage.delete(receipts[::2])
    assert run(launcher, job, plan, workers=2)[-1] == {"event": "done"}
    assert shards(job, plan) == undisturbed[2]
