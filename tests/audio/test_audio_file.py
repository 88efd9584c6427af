from __future__ import annotations

import pickle

import numpy as np

from tests.audio.samples import tones, written
from tokenmill.audio.audio_file import AudioClip, AudioFile, AudioOptions, HeldContent


def test_a_file_is_decoded_only_once_it_is_read() -> None:
    recording = AudioFile(HeldContent(b"no sound at all")).recording(16_000)
    assert recording.rate_hz == 16_000
    assert recording.nbytes == 0


def test_held_content_is_opened_as_often_as_one_likes() -> None:
    content = HeldContent(b"abc")
    assert content.size_bytes == 3
    first, second = content.open(), content.open()
    assert first.read() == second.read() == b"abc"


def test_files_and_clips_go_to_other_processes() -> None:
    file = AudioFile(HeldContent(written(tones(100))), AudioOptions(channel=0, max_seconds=5))
    clip = AudioClip(tones(100)[:, 0], 48_000, 1)
    np.testing.assert_array_equal(
        pickle.loads(pickle.dumps(file)).recording(48_000).samples(), file.recording(48_000).samples()
    )
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(clip)).recording(48_000).samples(), clip.samples)
