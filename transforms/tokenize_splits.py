"""TokenizeSplits: bring every referenced split to valid receipts. The pure function is `tokenmill.parts.process_split`.

Elements are references, never payloads: reading, tokenizing and publishing happen inside one fused DoFn.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any, NamedTuple

import apache_beam as beam
from apache_beam.metrics import Metrics

from tokenmill.errors import TokenmillError, error_from_json
from tokenmill.parts import process_split
from tokenmill.plans import Plan, read_plan
from tokenmill.storage.outputs import Storage


class SplitReference(NamedTuple):
    """A split of a plan, the tables that one reading of it serves, and whether those want an accelerator."""

    split: int
    tables: tuple[str, ...]
    accelerated: bool = False


class PipelineFailure(Exception):
    """An error of ours on its way through a runner, which hands on nothing but the text of a traceback."""

    # Base64, for a runner may escape the text, cut it into lines, or quote it several times over.
    _MARK = re.compile(r"<tokenmill-error ([A-Za-z0-9+/=]+)>")

    @classmethod
    def of(cls, error: TokenmillError) -> PipelineFailure:
        """Wrap an error so that `find` finds it in any text that quotes it."""
        packed = base64.b64encode(json.dumps(error.to_json()).encode()).decode()
        return cls(f"{error} <tokenmill-error {packed}>")

    @classmethod
    def find(cls, text: str) -> TokenmillError | None:
        """Return the error in a runner's message, or None."""
        match = cls._MARK.search(text)
        return None if match is None else error_from_json(json.loads(base64.b64decode(match[1])))


class TokenizeSplits(beam.PTransform):
    """SplitReference → a report (a mapping: `tokenmill.parts.SplitReport`) of what was made and kept.

    Args:
        output: The dataset's root.
        generation: Number of the plan.
    """

    def __init__(self, output: str, generation: int) -> None:
        super().__init__()
        self._output = output
        self._generation = generation

    def expand(self, references: Any) -> Any:
        """Apply the DoFn."""
        return references | beam.ParDo(_TokenizeSplit(self._output, self._generation))


class _TokenizeSplit(beam.DoFn):
    def __init__(self, output: str, generation: int) -> None:
        self._output = output
        self._generation = generation
        self._rows = Metrics.counter("tokenmill", "rows")
        self._tokens = Metrics.counter("tokenmill", "tokens")
        self._input_bytes = Metrics.counter("tokenmill", "input-bytes")
        self._rejected = Metrics.counter("tokenmill", "rejected-items")

    def setup(self) -> None:
        self._storage = Storage.open(self._output)
        self._plan: Plan = read_plan(self._storage, self._generation)

    def process(self, reference: SplitReference) -> Iterator[dict[str, Any]]:
        try:
            report = process_split(self._storage, self._plan, reference.split, reference.tables)
        except TokenmillError as error:
            raise PipelineFailure.of(error) from error
        self._rows.inc(report.rows)
        self._tokens.inc(report.tokens)
        self._input_bytes.inc(report.input_bytes)
        self._rejected.inc(report.rejected)
        yield asdict(report)
