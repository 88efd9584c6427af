"""A sentence of the demo recordings: real speech, for what synthesized sound cannot tell."""

from __future__ import annotations

import tarfile
from pathlib import Path

import numpy as np

from tokenmill.audio.audio_file import AudioFile, HeldContent, Samples

RATE_HZ = 16_000
TEXT = "he might even have been made amiable himself"
_DEMO = Path(__file__).resolve().parents[2] / "examples" / "data" / "audio" / "spoken.tar"


def speech() -> Samples:
    """Return three seconds at 16 kHz, in which `TEXT` is said."""
    with tarfile.open(_DEMO) as archive:
        file = archive.extractfile("amiable.wav")
        assert file is not None
        recording = AudioFile(HeldContent(file.read())).recording(RATE_HZ)
    return np.concatenate(list(recording.blocks()))
