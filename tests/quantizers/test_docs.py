"""The example in docs/quantizers.md runs, and its tables name every kind."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.quantizers.cases import CONFIGS

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "quantizers.md").read_text()


def test_the_example_runs_and_prints_what_it_says(capsys: pytest.CaptureFixture[str]) -> None:
    source = TEXT.split("```python\n")[1].split("```")[0]
    exec(compile(source, "docs/quantizers.md", "exec"), {})
    first, *rows = capsys.readouterr().out.splitlines()
    assert f"# {first}\n" in source
    assert len(rows) == 4


def test_every_kind_has_its_rows() -> None:
    for config in CONFIGS.values():
        assert TEXT.count(f"`{config.model_dump()['kind']}`") >= 2
