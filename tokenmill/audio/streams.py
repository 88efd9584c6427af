"""The streams that every table of sound has beside its codes. What reads tables needs neither PyAV nor soxr for them.

`Recording.numbers` and `Recording.level` say what is in them.
"""

from __future__ import annotations

from tokenmill.streams import StreamSpec

RECORDING = "recording"
RECORDING_SPEC = StreamSpec("int64", dims=("value",), shape=(6,))
LEVEL = "level"
LEVEL_SPEC = StreamSpec("float32", dims=("value",), shape=(3,))
