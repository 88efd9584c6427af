"""The state of a loader: how far the run has come, in a few numbers from which any ranks and workers can go on.

It says what was delivered, never what was read ahead; it is JSON, at most 1 KB and about 100 bytes a source.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import astuple, dataclass
from typing import Any

from tokenmill.errors import LoaderError
from tokenmill.loader.feeds import Place

FORMAT = 1
_DIGITS = 16


@dataclass(frozen=True)
class SourceState:
    """How far a run has come in one source.

    Attributes:
        name: Of the source.
        fingerprint: Of its table, the first 16 digits.
        stream: The stream that is read, how much of every document, what one is, and how codes are laid out.
        generation: Of the dataset, in which the table is found again.
        place: What comes next of it.
    """

    name: str
    fingerprint: str
    stream: str
    generation: int
    place: Place


@dataclass(frozen=True)
class WorkerState:
    """What the state of a DataLoader worker says beside.

    Attributes:
        number: Of the worker.
        workers: How many there are.
        batches: How many batches, of all workers, the sequence was at since the workers began.
        batch_size: Samples of a batch on all ranks together.
    """

    number: int
    workers: int
    batches: int
    batch_size: int


@dataclass(frozen=True)
class LoaderState:
    """How far a run has come.

    Attributes:
        samples: Samples delivered to all ranks together since the run began.
        order: What decides the order of samples beside the data: seed, window, packing and so on, by name.
        sources: The sources.
        worker: Of a DataLoader worker; None for a whole rank.
    """

    samples: int
    order: Mapping[str, Any]
    sources: tuple[SourceState, ...]
    worker: WorkerState | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        value: dict[str, Any] = {
            "format": FORMAT,
            "samples": self.samples,
            "tokens": self.samples * int(self.order["window"]),
            "order": dict(self.order),
            "sources": [
                {
                    "name": source.name,
                    "data": source.fingerprint,
                    "stream": source.stream,
                    "generation": source.generation,
                    "next": [source.place.epoch, source.place.group, source.place.sample],
                }
                for source in self.sources
            ],
        }
        if self.worker is not None:
            value["worker"] = list(astuple(self.worker))
        return value

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> LoaderState:
        """Read what `to_json` wrote; raises LoaderError where it is something else."""
        try:
            if value["format"] > FORMAT:
                raise LoaderError(
                    f"the state has format {value['format']}; this version reads up to {FORMAT}",
                    fix="install a newer tokenmill",
                )
            return cls(
                samples=_natural(value["samples"]),
                order=dict(value["order"]),
                sources=tuple(
                    SourceState(
                        source["name"],
                        source["data"],
                        source["stream"],
                        _natural(source["generation"]),
                        _place(*source["next"]),
                    )
                    for source in value["sources"]
                ),
                worker=WorkerState(*map(_natural, value["worker"])) if "worker" in value else None,
            )
        except (KeyError, TypeError, ValueError) as error:
            raise _no_state(error) from error


def _place(epoch: Any, group: Any, sample: Any) -> Place:
    return Place(_natural(epoch), _natural(group), _natural(sample))


def _natural(value: Any) -> int:
    if int(value) < 0:
        raise ValueError(f"{value} is below 0")
    return int(value)


def _no_state(error: Exception) -> LoaderError:
    return LoaderError(
        f"the state is not one of a TokenLoader: {error!r} is missing or wrong",
        fix="give load_state_dict what state_dict returned",
    )


def shortened(fingerprint: str) -> str:
    """Return as much of a fingerprint as a state holds."""
    return fingerprint[:_DIGITS]


def check_same(saved: LoaderState, here: LoaderState) -> None:
    """Raise LoaderError naming both values where a state belongs to other data or to another order."""
    for name in sorted({*saved.order, *here.order}):
        ours, theirs = here.order.get(name), saved.order.get(name)
        if ours != theirs:
            raise LoaderError(
                f"the state was saved with {name} {theirs!r}, this loader has {ours!r}: the order of samples differs",
                fix=f"make the loader with {name} {theirs!r}, or start a new run",
            )
    names = [source.name for source in saved.sources]
    # One source may have moved, and be called otherwise; its data tells.
    if names != [source.name for source in here.sources] and not len(names) == len(here.sources) == 1:
        raise LoaderError(
            f"the state was saved with the sources {names}, this loader has {[one.name for one in here.sources]}",
            fix="name the same sources in the same order; a weight of 0 leaves one out",
        )
    for theirs, ours in zip(saved.sources, here.sources, strict=True):
        if theirs.fingerprint != ours.fingerprint:
            raise LoaderError(
                f"source {ours.name!r} holds other data than the state was saved with: fingerprint "
                f"{ours.fingerprint} here, {theirs.fingerprint} in the state",
                fix=f"open the generation that the run began with (generation={theirs.generation}), or start a new run",
            )
        if theirs.stream != ours.stream:
            raise LoaderError(
                f"source {ours.name!r}: the state was saved with stream {theirs.stream!r}, this loader has "
                f"{ours.stream!r}",
                fix="make the loader with that stream, documents, skip_duplicates, distinct, prefix, pattern and "
                "separator, or start a new run",
            )


def check_worker(saved: WorkerState, here: WorkerState) -> None:
    """Refuse the state of another worker, or of batches of another size: its batches are not this one's."""
    if saved != here:
        raise LoaderError(
            f"the state is of DataLoader worker {saved.number} of {saved.workers} and batches of "
            f"{saved.batch_size} samples; this is worker {here.number} of {here.workers}, and batches have "
            f"{here.batch_size}",
            fix="loader.load_state_dict(…), before the DataLoader is made, takes the state for any of them",
        )


def unwrap(value: Mapping[str, Any]) -> tuple[Mapping[str, Any], int]:
    """Find the loader's state in what torchdata's StatefulDataLoader saved; returns any other state as it is.

    Returns:
        The state of the worker that delivered last, and how many batches were delivered since it was taken.
    """
    try:
        if "_snapshot" in value:
            workers = value["_snapshot"]["_worker_snapshots"].values()
            states = [worker["dataset_state"] for worker in workers]
            newest = max(states, key=lambda state: (state["samples"], state["sources"][0]["next"]))
            return newest, int(value.get("_steps_since_snapshot", 0))
        if "dataset_state" in value:
            return value["dataset_state"], 0
    except (LookupError, AttributeError, TypeError, ValueError) as error:
        raise _no_state(error) from error
    return value, 0
