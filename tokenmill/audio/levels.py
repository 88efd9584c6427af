"""How loud a recording is, and how much of it is silence: computed as it passes, the same whatever the blocks are."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from tokenmill.audio.audio_file import Samples

#: Silence is what stays below this level for a whole frame.
SILENCE_DBFS = -60.0
FRAME_SECONDS = 0.02
#: What no recording is below; that of one without samples, or of zeros.
FLOOR_DBFS = -120.0
#: Frames that are summed up at once.
_BATCH_FRAMES = 64


class Levels:
    """Takes a recording's samples block by block.

    Args:
        rate_hz: Their rate.
    """

    def __init__(self, rate_hz: int) -> None:
        self._frame_samples = max(round(rate_hz * FRAME_SECONDS), 1)
        self._held = np.empty(0, np.float32)
        self._samples = 0
        self._silent = 0
        self._peak = 0.0
        self._energy = 0.0

    def add(self, samples: Samples) -> None:
        """Take the next float32 `[sample]`."""
        step = self._frame_samples * _BATCH_FRAMES
        held = np.concatenate([self._held, samples]) if len(self._held) else samples
        whole = len(held) - len(held) % step
        for start in range(0, whole, step):
            self._take(held[start : start + step])
        self._held = held[whole:].copy()

    def values(self) -> npt.NDArray[np.float32]:
        """Return float32 `[3]`: RMS and peak in dB relative to full scale, and the share of silence, 0 … 1.

        A sine that reaches -1 and 1 has an RMS of -3.01 dB. The last frame counts by its length; no samples at all are
        no silence.
        """
        if len(self._held):
            self._take(self._held)
            self._held = np.empty(0, np.float32)
        count = max(self._samples, 1)
        values = (_decibels(math.sqrt(self._energy / count)), _decibels(self._peak), self._silent / count)
        return np.array(values, np.float32)

    def _take(self, samples: Samples) -> None:
        """Count frames, the last one of a recording perhaps shorter."""
        size = np.abs(samples)
        peaks = np.maximum.reduceat(size, np.arange(0, len(size), self._frame_samples))
        lengths = np.full(len(peaks), self._frame_samples)
        lengths[-1] = len(size) - self._frame_samples * (len(peaks) - 1)
        self._silent += int(lengths[peaks < 10 ** (SILENCE_DBFS / 20)].sum())
        self._peak = max(self._peak, float(peaks.max()))
        wide = samples.astype(np.float64)
        self._energy += float(np.square(wide).sum())
        self._samples += len(samples)


def _decibels(amplitude: float) -> float:
    return max(20 * math.log10(amplitude), FLOOR_DBFS) if amplitude > 0 else FLOOR_DBFS
