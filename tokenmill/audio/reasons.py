"""Why a recording has no row: the fixed list of reasons that decoding gives. docs/operations.md repeats it.

Readers give reasons of their own before anything is decoded (`tokenmill.sources.reasons`).
"""

from __future__ import annotations

#: The file has no bytes.
EMPTY_FILE = "empty_file"
#: The file does not begin as WAV, FLAC, Ogg, MP3 or M4A files do. Its name plays no part.
NOT_AUDIO = "not_audio"
#: The file breaks off, a checksum is wrong, or its sound cannot be decoded. The message says how far it was read.
DAMAGED_AUDIO = "damaged_audio"
#: The file may well be sound, but its codec, or a number of channels or a rate beyond reason, is not decoded here.
UNSUPPORTED_AUDIO = "unsupported_audio"
#: The recording is longer than `limits.max_audio_seconds`.
TOO_LONG = "too_long"

REASONS = (EMPTY_FILE, NOT_AUDIO, DAMAGED_AUDIO, UNSUPPORTED_AUDIO, TOO_LONG)
