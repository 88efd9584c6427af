"""The loader among torch's DataLoader workers: which worker this is, and what workers tell each other of epochs.

torch is never imported here, only found where the program has imported it.
"""

from __future__ import annotations

import sys
from multiprocessing import RawArray
from multiprocessing.context import get_spawning_popen
from typing import Any


def current_worker() -> tuple[int, int]:
    """Return this DataLoader worker's number and the number of workers; (0, 1) outside of workers."""
    if "torch.utils.data" not in sys.modules:
        return 0, 1
    info = sys.modules["torch.utils.data"].get_worker_info()
    return (0, 1) if info is None else (info.id, info.num_workers)


def in_worker() -> bool:
    """Say whether this process is a DataLoader worker."""
    return "torch.utils.data" in sys.modules and sys.modules["torch.utils.data"].get_worker_info() is not None


def register_iterable(kind: type) -> None:
    """Make torch's DataLoader take a class for an IterableDataset, where torch has been imported."""
    if "torch.utils.data" in sys.modules:
        sys.modules["torch.utils.data"].IterableDataset.register(kind)


class WorkerBoard:
    """A few numbers that a loader shares with its copies in DataLoader workers, in memory without a name.

    torch copies a dataset into its workers anew for every epoch; what the copies learn is lost. On the board they
    leave that an epoch has ended, so that the copies of the next one begin there, and that workers are at work at all.
    """

    def __init__(self) -> None:
        self._numbers = RawArray("q", 3)

    @property
    def epoch(self) -> int:
        """The epoch that comes next, as far as workers know."""
        return int(self._numbers[0])

    @property
    def samples(self) -> int:
        """Samples delivered before that epoch."""
        return int(self._numbers[1])

    @property
    def in_use(self) -> bool:
        """Whether workers have read since `begin`."""
        return bool(self._numbers[2])

    def begin(self, epoch: int, samples: int) -> None:
        """Say where reading starts, as the main process knows it."""
        self._numbers[:] = [epoch, samples, 0]

    def use(self) -> None:
        """Say that a worker reads."""
        self._numbers[2] = 1

    def end_epoch(self, epoch: int, samples: int) -> None:
        """Say that an epoch has ended, and which comes next; every worker says the same."""
        if epoch > self._numbers[0]:
            self._numbers[1] = samples
            self._numbers[0] = epoch

    def __getstate__(self) -> dict[str, Any]:
        # Shared memory travels only to a process that is being started; a pickle elsewhere gets a board of its own.
        return {"numbers": self._numbers if get_spawning_popen() else list(self._numbers)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        numbers = state["numbers"]
        self._numbers = RawArray("q", numbers) if isinstance(numbers, list) else numbers
