"""What is asked of a run, as plain values that cross a process boundary as JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class RunRequest:
    """Run the splits [first_split, last_split) of a plan.

    Attributes:
        output: The dataset's root.
        generation: Number of the plan.
        first_split: First split of the partition.
        last_split: The split after its last.
        workers: Worker processes, for the embedded runner.
        runner: `embedded`, or a Beam runner's name.
        options: Beam pipeline options for other runners, passed through untouched.
        accelerator: Beam's resource hint for tables that want one, passed through untouched; None for no hint.
        skip: Splits of the partition that are known to be done.
    """

    output: str
    generation: int
    first_split: int
    last_split: int
    workers: int = 1
    runner: str = "embedded"
    options: tuple[str, ...] = ()
    accelerator: str | None = None
    skip: tuple[int, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> RunRequest:
        """Read what `to_json` wrote."""
        return cls(**{**value, "options": tuple(value["options"]), "skip": tuple(value["skip"])})
