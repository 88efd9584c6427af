"""From audio files to the packaged form of what was learned from them: what `tokenmill train mdct-rvq` does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tokenmill.audio.audio_file import AudioFile, HeldContent
from tokenmill.errors import InputError, ItemError
from tokenmill.tokenizers.mdct_rvq.training import TrainingSettings, learn
from tokenmill.tokenizers.mdct_rvq.transform import HOP, RATE_HZ, analyse

#: Frames of each kind of recordings that are learned from; about 15 minutes.
KIND_FRAMES = 70_000
#: Of a file no more frames than this are looked at: five minutes.
_FILE_FRAMES = 300 * RATE_HZ // HOP
#: Frames are made louder or softer by so many decibels, drawn evenly: recordings of any level are to be coded.
_GAINS_DB = (-30.0, 6.0)
#: Fewer frames than this say too little of the world.
_FEWEST = 4096


def train_on_files(paths: Sequence[Path], settings: TrainingSettings, report: Callable[[str], None]) -> bytes:
    """Return the bytes of a weights file.

    Args:
        paths: Audio files, and folders whose audio files are taken, in the order of their names. Each path counts as a
            kind of sound, such as speech or music, and all kinds count the same.
        settings: How large the tables become.
        report: Is told what is being done, and which files were left out.

    Raises:
        InputError: There are too few recordings.
    """
    draw = np.random.default_rng(settings.seed)
    frames = np.concatenate([_frames_of_kind(path, draw, report) for path in paths])
    frames *= 10 ** (draw.uniform(*_GAINS_DB, (len(frames), 1)).astype(np.float32) / 20)
    np.rint(frames, out=frames)
    frames = frames[frames.any(axis=1)]
    if len(frames) < _FEWEST:
        raise InputError(
            f"the recordings have {len(frames):,} frames that are not silent; {_FEWEST:,} are the fewest to learn from",
            where=", ".join(map(str, paths)),
            fix="give more audio files, or folders of them; half an hour and more is better",
        )
    return learn(frames, settings, report).save()


def _frames_of_kind(path: Path, draw: np.random.Generator, report: Callable[[str], None]) -> npt.NDArray[np.float32]:
    """Return frames of a folder's recordings, no more of one than its share: float32 `[frame, coefficient]`."""
    files = _files(path)
    share = -(-KIND_FRAMES // max(len(files), 1))
    found: list[npt.NDArray[np.float32]] = []
    for file in draw.permutation(np.array(files, object)).tolist() if files else []:
        try:
            frames = _frames_of_file(file)
        except ItemError as error:
            report(f"left out: {file}: {error.what}")
            continue
        # Recordings are of unequal lengths: what short ones lack, long ones make up for.
        taken = draw.permutation(len(frames))[: 4 * share]
        found.append(frames[np.sort(taken)])
    whole = np.concatenate([np.empty((0, HOP), np.float32), *found])
    kept: npt.NDArray[np.float32] = whole[np.sort(draw.permutation(len(whole))[:KIND_FRAMES])]
    report(f"{path}: {len(found):,} recordings, {len(kept):,} of {len(whole):,} frames")
    return kept


def _frames_of_file(path: Path) -> npt.NDArray[np.float32]:
    """Return the frames that are not silent: float32 `[frame, coefficient]`; raises ItemError where there is none."""
    recording = AudioFile(HeldContent(path.read_bytes())).recording(RATE_HZ)
    parts: list[npt.NDArray[np.float32]] = []
    for block in analyse(recording.blocks()):
        parts.append(block[block.any(axis=1)].astype(np.float32))
        if sum(map(len, parts)) >= _FILE_FRAMES:
            break
    return np.concatenate([np.empty((0, HOP), np.float32), *parts])


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        return sorted(found for found in path.rglob("*") if found.is_file())
    if path.is_file():
        return [path]
    raise InputError("there is no such file or folder", where=str(path))
