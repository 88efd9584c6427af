"""The loader among torch's DataLoader workers: which worker this is, and what workers tell each other of epochs.

torch is never imported here, only found where the program has imported it.
"""

from __future__ import annotations

import os
import sys
import weakref
from collections.abc import Sequence
from multiprocessing import RawArray
from multiprocessing.context import get_spawning_popen
from typing import Any

from tokenmill.errors import LoaderError


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


#: What the numbers are: the next epoch and the samples before it; one more than the epoch that workers have begun, or
#: the next epoch where they have finished it, 0 where they have not begun; how many times a state was loaded.
_EPOCH, _SAMPLES, _BEGUN, _RUN = range(4)
_boards: weakref.WeakSet[WorkerBoard] = weakref.WeakSet()


class WorkerBoard:
    """A few numbers that a loader shares with its copies in DataLoader workers, in memory without a name.

    torch copies a dataset into its workers anew for every epoch; what the copies learn is lost. On the board they
    leave where the next epoch begins, for the copies that read it, and that workers are at work at all. A copy goes by
    what stood there when it was made: others of its epoch may have come to the end before it begins.
    """

    def __init__(self) -> None:
        self._numbers = RawArray("q", 4)
        self._copied: list[int] | None = None
        self._reading = False
        _boards.add(self)

    @property
    def epoch(self) -> int:
        """The epoch that comes next, as far as workers know."""
        return int(self._known[_EPOCH])

    @property
    def samples(self) -> int:
        """Samples delivered before that epoch."""
        return int(self._known[_SAMPLES])

    @property
    def in_use(self) -> bool:
        """Whether workers have read since `begin`."""
        return bool(self._numbers[_BEGUN])

    @property
    def _known(self) -> Sequence[int]:
        """The numbers as this process goes by them."""
        return self._copied if self._copied is not None and in_worker() else self._numbers

    def begin(self, epoch: int, samples: int) -> None:
        """Say where reading starts, as the main process knows it; workers that are there have no say any more."""
        self._numbers[:] = [epoch, samples, 0, self._numbers[_RUN] + 1]

    def resume(self, epoch: int, samples: int) -> None:
        """Take note that this worker starts from a state of its own."""
        self._copied = [epoch, samples, 0, self._numbers[_RUN]]
        self._reading = False

    def use(self, epoch: int) -> None:
        """Say that a worker begins to read an epoch.

        Raises:
            LoaderError: workers read before and did not come to the end, so that nobody knows how much was delivered.
        """
        self._check()
        if self._known[_RUN] != self._numbers[_RUN]:
            raise LoaderError(
                "a state was loaded while DataLoader workers were at work, which do not know of it",
                fix="make the DataLoader anew, or without persistent_workers",
            )
        self._reading = True
        self._numbers[_BEGUN] = epoch + 1

    def take_over(self, epoch: int, samples: int) -> None:
        """Say that the main process reads from here on; raises as `use` does."""
        if self.in_use:
            self._check()
            self.begin(epoch, samples)

    def end_epoch(self, epoch: int, samples: int) -> None:
        """Say where the next epoch begins; the worker that makes the last batch does."""
        if self._known[_RUN] == self._numbers[_RUN]:
            self._numbers[_SAMPLES] = samples
            self._numbers[_EPOCH] = self._numbers[_BEGUN] = epoch

    def leave(self) -> None:
        """Say that this worker has no batches left."""
        self._reading = False

    def _check(self) -> None:
        """Refuse to go on from nobody knows where."""
        if self._reading or self._known[_BEGUN] not in (0, self._known[_EPOCH]):
            raise LoaderError(
                "DataLoader workers read before, and were not asked for all of the epoch: how much of what they made "
                "was delivered is not known here",
                fix="say where to go on: loader.load_state_dict(loader.state_dict(batch)), with the last batch",
            )

    def __getstate__(self) -> dict[str, Any]:
        # Shared memory travels only to a process that is being started; a pickle elsewhere gets a board of its own.
        numbers = list(self._numbers)
        return {"numbers": self._numbers, "copied": numbers} if get_spawning_popen() else {"numbers": numbers}

    def __setstate__(self, state: dict[str, Any]) -> None:
        numbers = state["numbers"]
        self._numbers = RawArray("q", numbers) if isinstance(numbers, list) else numbers
        self._copied = state.get("copied")
        self._reading = False
        _boards.add(self)

    def note(self) -> None:
        """Take note of what stands here, for the copy in a process that is about to be forked."""
        self._copied = list(self._numbers)


def _before_fork() -> None:
    for board in list(_boards):
        board.note()


# Not in the child: by the time it runs, others may have changed what it shares with them.
os.register_at_fork(before=_before_fork)
