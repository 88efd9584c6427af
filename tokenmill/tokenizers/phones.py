"""The `phones` tokenizer: speech as the phones that pocketsphinx hears in it, by its packaged English model.

Phones are found by a phone loop with a language model of phones (allphone decoding). Every piece of a recording gets a
decoder of its own: the library's noise estimate and cepstral means would otherwise go on from one to the next.
"""

from __future__ import annotations

import struct
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
from pydantic import model_validator

from tokenmill.audio.audio_file import Samples
from tokenmill.audio.recording import Recording
from tokenmill.audio.tokenizer import AudioEncoder, AudioTokenizer
from tokenmill.contract import Asset, hash_file
from tokenmill.errors import AssetError, TokenizerError
from tokenmill.registry import missing_extra
from tokenmill.streams import StreamSpec, narrowest_dtype

RATE_HZ = 16_000
FRAME_SAMPLES = 160
FRAME_HZ = RATE_HZ / FRAME_SAMPLES
#: A piece is this long at most; it ends where the last third of it is quietest.
PIECE_SECONDS = 30
SILENCE = "SIL"

_IDS, _DURATIONS = "ids", "durations"
_PIECE_FRAMES = PIECE_SECONDS * 100
_EARLIEST_CUT = _PIECE_FRAMES * 2 // 3
#: Over so many frames, half before a cut and half after it, it is to be quiet.
_QUIET_FRAMES = 24
#: What an acoustic model may consist of, as the library looks for it. Only the first is read for planning.
_PHONES_FILE = "mdef"
_NEEDED_FILES = (_PHONES_FILE, "means", "variances", "transition_matrices")
_OTHER_FILES = ("feat.params", "feature_transform", "mixture_weights", "noisedict", "sendump", "senmgau")
_MOST_PHONES = 4096
#: What CMU Sphinx recommends for phone recognition, in place of values that are meant for words:
#: https://cmusphinx.github.io/wiki/phonemerecognition/
_SETTINGS = {"lw": 2.0, "beam": 1e-20, "pbeam": 1e-20}
#: Loads the tokenizer that standard input tells of, and has it hear a second of noise.
_TRIAL = """
import sys
import numpy as np
from tokenmill.audio.audio_file import AudioClip
from tokenmill.tokenizers.phones import PhonesTokenizer
encoder = PhonesTokenizer.model_validate_json(sys.stdin.read()).load()
noise = np.random.default_rng(0).standard_normal(16_000).astype(np.float32) / 10
encoder.encode([encoder.prepare(AudioClip(noise, 16_000, 1))])
"""


class PhonesTokenizer(AudioTokenizer):
    """Phones of speech, of the packaged English model or of another one of CMU Sphinx, with how long each lasts."""

    id: ClassVar[str] = "phones"
    libraries: ClassVar[tuple[str, ...]] = (*AudioTokenizer.libraries, "pocketsphinx")
    locations: ClassVar[frozenset[str]] = frozenset({"acoustic_model", "phone_model"})

    collapse: bool = True
    """Whether `ids` has a phone once, and `durations` for how many frames of 10 ms; or `ids` has it for every frame."""
    acoustic_model: str | None = None
    """The directory of another model of pocketsphinx, for 16 kHz, with a binary `mdef`. Default: the packaged one."""
    phone_model: str | None = None
    """And its language model of phones."""

    @model_validator(mode="after")
    def _fields_agree(self) -> Self:
        if (self.acoustic_model is None) != (self.phone_model is None):
            raise ValueError("`acoustic_model` and `phone_model` go together")
        return self

    def assets(self) -> dict[str, Asset]:
        """Hash the model's files; raises AssetError where one is missing."""
        return {name: hash_file(path, location) for name, (path, location) in self._files().items()}

    def code_streams(self) -> dict[str, StreamSpec]:
        """Return `ids`, (phone) with `durations` in frames of 10 ms, or (frame). Reads the names of the phones."""
        phones = self.phones()
        dtype, size = narrowest_dtype(len(phones)), len(phones)
        if not self.collapse:
            return {_IDS: StreamSpec(dtype, ("frame",), vocabulary_size=size, labels=phones, frame_hz=FRAME_HZ)}
        return {
            _IDS: StreamSpec(dtype, ("phone",), vocabulary_size=size, labels=phones),
            _DURATIONS: StreamSpec("uint32", ("phone",)),
        }

    def phones(self) -> tuple[str, ...]:
        """Return the names of the phones, which are those of the model, in its order; raises AssetError."""
        path = self._files()[_PHONES_FILE][0]
        return _phone_names(path.read_bytes(), str(path))

    def check(self) -> None:
        """Try a model that is not the packaged one, in another process: a damaged one may end that."""
        if self.acoustic_model is None:
            return
        done = subprocess.run(
            [sys.executable, "-c", _TRIAL], input=self.model_dump_json(), capture_output=True, text=True, check=False
        )
        if done.returncode:
            said = (done.stderr.strip().splitlines() or ["it ended the process without a word"])[-1]
            raise AssetError(
                f"pocketsphinx cannot use this model with the phone model {self.phone_model}: {said[:300]}",
                where=self.acoustic_model,
                fix="give an acoustic model of pocketsphinx and a language model of its phones, both whole",
            )

    def load(self, device: str = "cpu") -> PhonesEncoder:
        """Return an encoder; raises AssetError, or MissingExtraError naming the extra."""
        if device != "cpu":
            raise TokenizerError(f"tokenizer {self.id!r} runs on the device 'cpu' (given {device!r})")
        files = self._files()
        model = _Model(files[_PHONES_FILE][0].parent, files["phone_model"][0])
        return PhonesEncoder(self.streams(), model, self.phones())

    def token_text(self, ids: Sequence[int]) -> list[str]:
        """Return the phones' names."""
        phones = self.phones()
        return [phones[number] for number in ids]

    def _files(self) -> dict[str, tuple[Path, str | None]]:
        """Return path and location of every file that a decoder reads."""
        if self.acoustic_model is not None and self.phone_model is not None:
            folder, phone_model, location = Path(self.acoustic_model), Path(self.phone_model), None
        else:
            packaged = Path(_library().get_model_path()) / "en-us"
            folder, phone_model = packaged / "en-us", packaged / "en-us-phone.lm.bin"
            location = "package:pocketsphinx/model/en-us"
        names = [*_NEEDED_FILES, *(name for name in _OTHER_FILES if (folder / name).is_file())]
        if missing := [name for name in names if not (folder / name).is_file()]:
            raise AssetError(
                f"there is no {' and no '.join(missing)} in this directory",
                where=str(folder),
                fix="give a directory with an acoustic model of pocketsphinx",
            )
        files = {name: (folder / name, f"{location}/en-us/{name}" if location else None) for name in names}
        return {**files, "phone_model": (phone_model, f"{location}/{phone_model.name}" if location else None)}


class PhonesEncoder(AudioEncoder):
    """Sound to phones, piece by piece.

    Args:
        specs: The tokenizer's streams.
        model: What hears phones in a piece.
        phones: Their names; a phone's id is its place.
    """

    def __init__(self, specs: Mapping[str, StreamSpec], model: _Model, phones: Sequence[str]) -> None:
        super().__init__(RATE_HZ, specs)
        self._model = model
        self._id_of = {name: number for number, name in enumerate(phones)}

    def row(self, recording: Recording) -> dict[str, npt.NDArray[Any]]:
        """Return the phones of all pieces; raises ItemError where the recording is damaged."""
        ids: list[int] = []
        durations: list[int] = []
        for piece in _pieces(recording.blocks()):
            for place, (phone, frames) in enumerate(self._model.phones(piece)):
                number = self._id_of[phone]
                if place == 0 and ids and ids[-1] == number:  # it goes on across the cut
                    durations[-1] += frames
                else:
                    ids.append(number)
                    durations.append(frames)
        phones, frames_each = np.array(ids, self._specs[_IDS].dtype), np.array(durations, np.uint32)
        if _DURATIONS not in self._specs:
            return {_IDS: expand(phones, frames_each)}
        return {_IDS: phones, _DURATIONS: frames_each}


class _Model:
    """A model whose decoders are made afresh.

    Args:
        folder: The acoustic model.
        phone_model: The language model of phones.

    Raises:
        AssetError: The library cannot load it.
        MissingExtraError: It is not installed.
    """

    def __init__(self, folder: Path, phone_model: Path) -> None:
        self._library = _library()
        self._folder, self._phone_model = str(folder), str(phone_model)
        try:
            self._decoder()
        except RuntimeError as error:
            raise AssetError(
                f"pocketsphinx cannot load this model with the phone model {phone_model}: {error}",
                where=str(folder),
                fix="give an acoustic model and a language model of its phones",
            ) from error

    def phones(self, piece: npt.NDArray[np.int16]) -> Iterator[tuple[str, int]]:
        """Yield the phones of a piece `[sample]` and their frames, of which there are as many as the piece has begun.

        The library's windows of 25 ms fit one time less than there are frames: silence is added, and whatever the last
        window does not reach belongs to the last phone.
        """
        frames = -(-len(piece) // FRAME_SAMPLES)
        if piece.min() == piece.max():  # less its mean, nothing is left to tell phones by
            yield SILENCE, frames
            return
        decoder = self._decoder()
        decoder.start_utt()
        # As one utterance: cepstral means are those of the whole piece.
        decoder.process_raw(np.pad(piece, (0, (frames + 1) * FRAME_SAMPLES - len(piece))).tobytes(), full_utt=True)
        decoder.end_utt()
        if decoder.hyp() is None:  # shorter than the shortest phone
            yield SILENCE, frames
            return
        found = [(segment.word, segment.start_frame) for segment in decoder.seg()]
        ends = [*(start for _, start in found[1:]), frames]
        start = 0
        for (phone, _), end in zip(found, ends, strict=True):
            if end > start:
                yield phone, end - start
                start = end

    def _decoder(self) -> Any:
        return self._library.Decoder(
            hmm=self._folder, allphone=self._phone_model, lm=None, dict=None, loglevel="FATAL", **_SETTINGS
        )


def expand(ids: npt.NDArray[Any], durations: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the id of every frame `[frame]`, from ids and their durations in frames, both `[phone]`."""
    return np.repeat(ids, durations)


def _pieces(blocks: Iterator[Samples]) -> Iterator[npt.NDArray[np.int16]]:
    """Cut blocks of any length, float32 `[sample]`, into pieces: all but the last are whole frames."""
    most = _PIECE_FRAMES * FRAME_SAMPLES
    left = np.empty(0, np.int16)
    for block in blocks:
        for start in range(0, len(block), most):
            part = block[start : start + most]
            left = np.concatenate([left, np.rint(part.clip(-1, 1) * 32_767).astype(np.int16)])
            while len(left) > most:
                cut = _quietest(left[:most]) * FRAME_SAMPLES
                yield left[:cut]
                left = left[cut:]
    if len(left):
        yield left


def _quietest(piece: npt.NDArray[np.int16]) -> int:
    """Return the frame, in the last third of a piece of full length, around which there is least energy."""
    # Whole numbers: no order of adding gives another sum.
    energies = np.square(piece.reshape(_PIECE_FRAMES, FRAME_SAMPLES).astype(np.int64)).sum(axis=1)
    sums = np.concatenate([[0], np.cumsum(energies[_EARLIEST_CUT:])])
    return int(_EARLIEST_CUT + _QUIET_FRAMES // 2 + np.argmin(sums[_QUIET_FRAMES:] - sums[:-_QUIET_FRAMES]))


def _phone_names(data: bytes, where: str) -> tuple[str, ...]:
    """Read the names of phones from a binary model definition: a description of its format, numbers, then the names.

    The layout is that of `bin_mdef.c` of pocketsphinx.
    """
    try:
        kind, _, described = struct.unpack_from("<4sii", data)
        count, silence = (struct.unpack_from("<i", data, 12 + described + 4 * place)[0] for place in (0, 9))
        names = data[12 + described + 40 :].split(b"\0", _MOST_PHONES)[:count]
        phones = tuple(name.decode("ascii") for name in names)
        if kind != b"BMDF" or len(phones) != count or len(set(phones)) != count or phones[silence] != SILENCE:
            raise ValueError("no binary model definition with a phone SIL")
    except (struct.error, ValueError, IndexError) as error:
        raise AssetError(
            f"the phones of this acoustic model cannot be read: {error}",
            where=where,
            fix="give a model whose mdef is binary: pocketsphinx_mdef_convert makes it so",
        ) from error
    return phones


def _library() -> Any:
    try:
        import pocketsphinx
    except ModuleNotFoundError as error:
        raise missing_extra(error, "tokenizer 'phones'") from error
    return pocketsphinx
