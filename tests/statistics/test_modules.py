"""Modules of LLVM IR are counted exactly, in any order, and come back from files as they were."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.statistics import cases
from tokenmill.errors import CorruptionError, DatasetError
from tokenmill.statistics import PartStatistics, arrow, merge_parts, read_statistics
from tokenmill.statistics.modules import ModuleStatistics
from tokenmill.streams import Jagged, StreamSpec

GOLDEN = Path(__file__).parent / "golden" / "part-modules-v2.arrow"
MEASURES = [
    "functions_by_instructions",
    "instructions_by_opcode",
    "values_by_type",
    "modules_by_hash",
    "functions_by_hash",
    "calls_by_place",
]


def modules_of(part: PartStatistics) -> ModuleStatistics:
    assert part.modules is not None
    return part.modules


@cases.whole_parts
@given(cases.modules)
def test_counts_are_those_of_a_slow_and_obvious_count(modules: list[cases.Compiled]) -> None:
    counted = modules_of(cases.module_part(modules))
    functions = [function for module in modules for function in module.functions]
    assert counted.defined == counted.functions.total == counted.lengths.count == len(functions)
    assert counted.declared == sum(module.declared for module in modules)
    assert counted.global_values == 3 * len(modules)
    assert counted.instructions == counted.lengths.total == sum(functions)
    assert (counted.stored_bytes, counted.text_bytes) == (10 * sum(functions), 40 * sum(functions))
    opcodes = Counter[int]()
    for function in functions:
        opcodes[function % 5] += function
    assert counted.opcodes == opcodes
    assert counted.types == ({0: sum(functions) + 3 * len(modules)} if modules else {})
    assert counted.modules.estimate() == len({module.content for module in modules})
    assert sorted(counted.modules.sparse()[1]) == sorted(Counter(module.content for module in modules).values())
    assert sorted(counted.functions.sparse()[1]) == sorted(Counter(functions).values())
    called = Counter[bytes]()
    for module in modules:
        called.update(dict(module.called))
    assert dict(counted.called.most_called(100)) == called


@cases.whole_parts
@given(cases.modules, st.integers(0, 8), st.integers(1, 9))
def test_neither_parts_nor_batches_nor_order_show(modules: list[cases.Compiled], cut: int, batch_rows: int) -> None:
    whole = cases.module_part(modules)
    data = whole.to_arrow_bytes()
    read = PartStatistics.from_arrow_bytes(data)
    assert read == whole
    assert read.to_arrow_bytes() == data
    assert cases.module_part(modules[::-1], batch_rows).to_arrow_bytes() == data
    one, other = cases.module_part(modules[:cut]), cases.module_part(modules[cut:])
    other.merge(one)
    assert other.to_arrow_bytes() == data


def test_a_merged_file_comes_back() -> None:
    merged = merge_parts([("c", cases.golden_module_part()), ("rust", cases.module_part([]))], cases.MODULE_SPECS)
    read = read_statistics(merged.to_arrow_bytes())
    assert read == merged
    assert read.overall() == cases.golden_module_part()  # type: ignore[union-attr]


def test_the_golden_file_is_read_and_written_again_byte_for_byte() -> None:
    read = PartStatistics.from_arrow_bytes(GOLDEN.read_bytes())
    assert read == cases.golden_module_part()
    assert cases.golden_module_part().to_arrow_bytes(cases.GOLDEN_EXTRA) == GOLDEN.read_bytes()


def series_of(file: arrow.StatisticsFile) -> list[arrow.Series]:
    found: list[tuple[tuple[str, str, str], tuple[Any, Any]]] = [*file.series.items(), *file.wide_series.items()]
    return [arrow.Series(*names, keys, counts) for names, (keys, counts) in found]


@pytest.mark.parametrize("measure", MEASURES)
def test_counts_that_are_absent_or_do_not_add_up_are_refused(measure: str) -> None:
    read = arrow.decode(GOLDEN.read_bytes())
    whole = series_of(read)
    assert measure in {one.measure for one in whole}
    for changed in (None, 1):
        series = [
            arrow.Series(
                one.source,
                one.stream,
                one.measure,
                one.keys,
                one.counts + (changed or 0 if one.measure == measure else 0),
            )
            for one in whole
            if one.measure != measure or changed is not None
        ]
        with pytest.raises(CorruptionError):
            PartStatistics.from_arrow_bytes(arrow.encode(read.header, series, {}))
    PartStatistics.from_arrow_bytes(arrow.encode(read.header, whole, {}))


@pytest.mark.parametrize("member", ["stored_bytes", "opcodes", "types", "instructions", "modules", "called"])
def test_a_header_without_a_member_is_refused(member: str) -> None:
    read = arrow.decode(GOLDEN.read_bytes())
    del read.header["modules"][member]
    with pytest.raises(CorruptionError):
        PartStatistics.from_arrow_bytes(arrow.encode(read.header, series_of(read), {}))


def test_any_arrow_reader_opens_the_file() -> None:
    table = pa.ipc.open_file(GOLDEN).read_all()
    wide = [row for row in table.to_pylist() if row["wide_keys"] is not None]
    assert [row["measure"] for row in wide] == ["modules_by_hash", "functions_by_hash"]
    assert all(row["keys"] is None and len(row["wide_keys"]) == len(row["counts"]) > 9 for row in wide)


def test_only_files_with_wide_keys_have_the_later_version(monkeypatch: pytest.MonkeyPatch) -> None:
    assert arrow.decode(cases.module_part([]).to_arrow_bytes()).header["format_version"] == 2
    assert arrow.decode(cases.part([]).to_arrow_bytes()).header["format_version"] == 1
    monkeypatch.setattr(arrow, "WIDE_FORMAT_VERSION", 3)
    data = cases.module_part([]).to_arrow_bytes()
    monkeypatch.undo()
    with pytest.raises(DatasetError, match="format version 3; this tokenmill reads 1 and 2"):
        PartStatistics.from_arrow_bytes(data)


def test_a_series_has_keys_of_one_width() -> None:
    table = pa.ipc.open_file(GOLDEN).read_all()
    for column, values in (("wide_keys", [1]), ("keys", None)):
        rows = table.slice(0, 1).to_pylist()
        rows[0][column] = values
        sink = pa.BufferOutputStream()
        with pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(pa.Table.from_pylist(rows, schema=table.schema))
        with pytest.raises(CorruptionError, match="both widths, or of none"):
            arrow.decode(bytes(sink.getvalue()))


def test_streams_of_these_names_that_are_something_else_are_no_modules() -> None:
    named = {**cases.MODULE_SPECS, "module": StreamSpec("uint8", vocabulary_size=3)}
    assert PartStatistics.start(named).modules is None
    assert PartStatistics.start(cases.SPECS).modules is None


def test_names_without_their_counts_are_refused() -> None:
    sizes, streams = cases.module_batch([cases.Compiled(1, (2,), ((b"puts", 1),))])
    streams["called_counts"] = Jagged.from_rows([np.array([1, 1])], cases.MODULE_SPECS["called_counts"])
    with pytest.raises(ValueError, match="1 called names have 2 counts"):
        PartStatistics.start(cases.MODULE_SPECS).add_rows(sizes, streams)
