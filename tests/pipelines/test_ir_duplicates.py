"""Modules that a job of LLVM IR meets several times, through the pipeline: the same file whoever did the work."""

from __future__ import annotations

import shutil
from pathlib import Path

import tokenmill
from pipelines import Launcher
from tests.ir.samples import COMPILED, MODULES
from tests.pipelines.test_runners import planned, run
from tokenmill.manifests import Manifest
from tokenmill.publication import publish
from tokenmill.storage.outputs import Storage
from tokenmill.verification import verify

NAMES = ("c-clang19.bc", "cpp-clang19.bc", "rust-rustc1.95.bc")
#: Source → its files, each with the module that it is a copy of: one module in three files, of two sources.
FILES = {
    "first": {"a.bc": NAMES[0], "b.bc": NAMES[1], "c.bc": NAMES[0]},
    "second": {"d.bc": NAMES[2], "e.bc": NAMES[0], "f.bc": NAMES[2]},
}
REPEATS = {"c.bc": "a.bc", "e.bc": "a.bc", "f.bc": "d.bc"}


def test_the_same_module_under_several_names(tmp_path: Path) -> None:
    assert set(NAMES) <= set(COMPILED)
    for source, files in FILES.items():
        (tmp_path / source).mkdir()
        for name, module in files.items():
            shutil.copy(MODULES / module, tmp_path / source / name)
    sources = [{"name": name, "modality": "llvm-ir", "uris": [str(tmp_path / name)]} for name in FILES]
    tables = [
        {"name": "line", "tokenizer": {"id": "llvm-ir"}},
        {"name": "second", "tokenizer": {"id": "llvm-ir", "mode": "lexeme"}, "sources": ["second"]},
    ]
    made: list[Manifest] = []
    with Launcher() as launcher:
        for workers in (1, 2):
            output = tmp_path / f"out{workers}"
            splitting = {"split_bytes": 4096, "part_bytes": 1024}
            job, plan = planned(tmp_path, output, sources=sources, tables=tables, splitting=splitting)
            assert len(plan.splits) > len(FILES)
            assert run(launcher, job, plan, workers=workers)[-1] == {"event": "done"}
            made.append(publish(Storage.open(job.output), plan, max_rejected_fraction=0))
            assert verify(job.output).problems == []
    assert [table.duplicates for table in made[0].tables.values()] == [
        table.duplicates for table in made[1].tables.values()
    ]

    dataset = tokenmill.open(str(tmp_path / "out1"))
    for name, expected in (("line", REPEATS), ("second", {"f.bc": "d.bc"})):
        table = dataset[name]
        keys, found = [row.key for row in table], table.known_duplicates()
        assert {keys[row]: keys[of] for row, of in zip(found.rows, found.of, strict=True)} == expected
        assert [row.key for row in table.distinct()] == [key for key in keys if key not in expected]
    assert [rows["line"].key for rows in dataset.paired("line", "second", distinct=True)] == ["d.bc", "e.bc"]
