"""The base of tokenizers of LLVM IR: what they take, what every row has, and what counts for their fingerprint."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pytest

from tests.ir.samples import TEXT, compiled
from tokenmill.contract import resolve
from tokenmill.errors import ItemError
from tokenmill.ir.canonical import Canonical
from tokenmill.ir.ir_file import IrFile
from tokenmill.ir.streams import MODULE_STREAMS
from tokenmill.ir.tokenizer import IrPreparation, IrTokenizer, module_row
from tokenmill.streams import Jagged, StreamSpec


class Letters(IrTokenizer):
    id: ClassVar[str] = "letters"

    def token_streams(self) -> dict[str, StreamSpec]:
        return {"ids": StreamSpec("uint8", vocabulary_size=256)}


def test_prepared_modules_fill_their_streams() -> None:
    preparation = IrPreparation(Canonical())
    rows = [module_row(preparation.prepare(IrFile(data))) for data in (TEXT, compiled("cpp-clang19.bc"))]
    for name, spec in MODULE_STREAMS.items():
        Jagged.from_rows([row[name] for row in rows], spec).check(name, spec, 2)
    assert rows[0]["module"].tolist() == [len(TEXT), len(preparation.prepare(IrFile(TEXT)).text), 1, 1, 1]
    assert rows[0]["opcodes"].sum() == 6
    assert rows[1]["module"][2] == len(rows[1]["function_hashes"]) == len(np.unique(rows[1]["function_hashes"]))
    assert rows[0]["instructions"].tolist() == [6]
    assert rows[0]["types"].sum() == 7
    assert (rows[0]["called_names"].tobytes(), rows[0]["called_counts"].tolist()) == (b"puts\n", [1])
    names = rows[1]["called_names"].tobytes().splitlines()
    assert [*zip(names, rows[1]["called_counts"].tolist(), strict=True)] == preparation.prepare(
        IrFile(compiled("cpp-clang19.bc"))
    ).census.most_called()
    assert not np.array_equal(rows[0]["sha256"], rows[1]["sha256"])


def test_other_payloads_and_damaged_modules() -> None:
    preparation = IrPreparation(Canonical())
    with pytest.raises(TypeError, match="IrFile"):
        preparation.prepare(TEXT)
    with pytest.raises(ItemError, match="no bytes"):
        preparation.prepare(IrFile(b""))


def test_every_choice_is_part_of_the_fingerprint() -> None:
    fingerprints = {resolve(Letters()).fingerprint}
    for name in Canonical.model_fields:
        fingerprints.add(resolve(Letters.model_validate({"canonical": {name: False}})).fingerprint)
    assert len(fingerprints) == 1 + len(Canonical.model_fields)


def test_the_llvm_that_reads_is_told() -> None:
    (note,) = Letters().notes()
    assert "LLVM 2" in note
    assert set(Letters().streams()) == {"ids", *MODULE_STREAMS}
