"""Collect openly licensed recordings from public packages: speech, music and effects, to train on and held out.

The packages are Debian packages, read as streams: nothing is installed.  `train_audio.tsv` and `heldout_audio.tsv`
beside this file list every recording.  A run fetches those packages, checks each file against its SHA-256 and writes
the piece that the list names, at its own rate and channels, as FLAC of 16 bits to `OUT/<set>/<kind>/`; what was coded
with loss stays so.  `OUT/LICENCES.md` says which package gave what under which licence.

`--choose` makes the two lists anew.  A recording is taken where its package's copyright file gives it an open licence,
it is not shorter than its share asks, and it is not silence; where a package has more than its share, those of the
lowest hashes.  The two sets share no package, no speaker of a package in several languages, and no file.  Speech for
training comes from packages of other makers than held-out speech in the same language.

Needs `apt-get` and `dpkg-deb`, PyAV and soundfile::

    python -m benchmarks.build_audio --out AUDIO
"""

from __future__ import annotations

import argparse
import hashlib
import io
import re
import subprocess
import tarfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Literal, NamedTuple

import av
import numpy
import soundfile

from benchmarks.audio_sets import KINDS, SETS, Listed, Samples, list_path, read_list, write_list
from benchmarks.build_images import OPEN, copyright_licences, fetch, resource_files, spdx

AUDIO = re.compile(r"\.(wav|ogg|oga|opus|mp3|flac|g722)$", re.IGNORECASE)
SILENCE_RMS = 10 ** (-50 / 20)
G722_HZ = 16_000
TRANSCRIPT = re.compile(r"^<s> (.*?)\s*</s> \((\S+)\)$", re.MULTILINE)


class Share(NamedTuple):
    """What is taken of a package: recordings whose path matches, of one kind, up to a number and a length in all.

    `longest` is the length of the piece that is taken of one; of music it begins after three tenths of it.
    """

    set: Literal["train", "heldout"]
    kind: Literal["speech", "music", "effects"]
    package: str
    path: str
    seconds: float
    shortest: float
    longest: float
    language: str = ""  # `?`: the last group of the path's pattern, and English where it did not match
    licence: str = ""  # where the package's copyright file cannot be read by machine
    count: int = 999


ASTERISK = r"_\w_\w+/(?!silence|.*monkeys)[\w/-]+\.g722$"
SHARES = [
    Share("heldout", "speech", "pocketsphinx-testdata", r"/(cards|librivox)/.*\.wav$", 60, 0.5, 12, "en"),
    Share("heldout", "speech", "asterisk-core-sounds-en-g722", ASTERISK, 150, 2.5, 10, "en", count=24),
    Share("heldout", "speech", "asterisk-core-sounds-es-g722", ASTERISK, 150, 2.5, 10, "es", count=24),
    Share("heldout", "speech", "fillets-ng-data-cs", r"/cs/.*\.ogg$", 120, 3, 10, "cs", "GPL-2", 24),
    Share("heldout", "speech", "ktuberling-data", r"/fr/(egypte|lune)_.*\.wav$", 40, 1.1, 10, "fr", count=16),
    Share("heldout", "speech", "ktuberling-data", r"/uk/.*\.ogg$", 40, 1.1, 10, "uk", count=12),
    Share("heldout", "music", "sonic-pi-samples", r"/(loop_|guit_|ambi_(g|h|l|d)).*\.flac$", 200, 4.5, 10, count=14),
    Share("heldout", "music", "hyperrogue-music", r"/music/hr.*\.ogg$", 200, 20, 10, count=12),
    Share("heldout", "music", "lomiri-sounds", r"/ringtones/.*\.ogg$", 100, 8, 10, count=8),
    Share("heldout", "effects", "deepin-sound-theme", r"/stereo/.*\.wav$", 60, 0.7, 6, count=12),
    Share("heldout", "effects", "extremetuxracer-data", r"/sounds/.*\.wav$", 60, 0.5, 6),
    Share("heldout", "effects", "gcompris-qt-data", r"memory-sound/resource/.*\.(ogg|wav)$", 90, 0.7, 6, count=16),
    Share("heldout", "effects", "gcompris-qt-data", r"farm_animals/resource/.*\.ogg$", 60, 0.7, 6, count=9),
    Share("heldout", "effects", "sound-icons", r"/sound-icons/.*\.wav$", 30, 0.5, 6, count=8),
    Share("train", "speech", "tuxpaint-stamps-default", r"_desc(?:_(\w+))?\.(?:ogg|wav)$", 1800, 1, 15, "?"),
    Share(
        "train",
        "speech",
        "klettres-data",
        r"/klettres/(ar|de|es|hu|it|lt|ml|nds|nl|pt_BR|tn|en_GB)/.*\.ogg$",
        420,
        0.8,
        10,
        "?",
    ),
    Share("train", "speech", "asterisk-core-sounds-fr-g722", ASTERISK, 420, 1.5, 15, "fr"),
    Share("train", "speech", "asterisk-core-sounds-it-g722", ASTERISK, 420, 1.5, 15, "it", "CC-BY-3.0"),
    Share("train", "speech", "asterisk-core-sounds-ru-g722", ASTERISK, 420, 1.5, 15, "ru", "CC-BY-3.0"),
    Share("train", "speech", "fillets-ng-data-nl", r"/nl/.*\.ogg$", 600, 1.5, 15, "nl", "GPL-2"),
    Share("train", "music", "hedgewars-data", r"/Data/Music/.*\.ogg$", 720, 5, 30),
    Share("train", "music", "colobot-common-sounds", r"/music/.*\.ogg$", 600, 5, 30),
    Share("train", "music", "ardentryst", r"/Music/.*\.ogg$", 360, 5, 30),
    Share("train", "music", "frozen-bubble-data", r"/snd/.*\.ogg$", 90, 20, 30),
    Share("train", "music", "xmoto-data", r"/Musics/.*\.ogg$", 200, 5, 30),
    Share("train", "music", "lincity-ng-data", r"/music/.*\.ogg$", 90, 5, 30),
    Share("train", "music", "scratch", r"Media/Sounds/(Music Loops|Instruments|Percussion)/.*", 180, 1, 15),
    Share("train", "effects", "tuxpaint-stamps-default", r"/(?!.*_desc)[^/]*\.(ogg|wav)$", 300, 0.4, 8),
    Share("train", "effects", "colobot-common-sounds", r"/sounds/.*\.wav$", 100, 0.3, 8),
    Share("train", "effects", "lincity-ng-data", r"/sounds/.*\.wav$", 240, 0.3, 8),
    Share("train", "effects", "endless-sky-data", r"/sounds/.*\.(wav|mp3)$", 150, 0.3, 8),
    Share("train", "effects", "lugaru-data", r"/Sounds/(?!music).*\.ogg$", 150, 0.3, 8),
    Share("train", "effects", "ardentryst", r"/Sounds/.*\.ogg$", 200, 0.3, 8),
    Share("train", "effects", "scratch", r"Media/Sounds/(Animal|Effects|Electronic|Human)/.*", 120, 0.3, 8),
    Share("train", "effects", "hydrogen-drumkits", r"/Millo[^/]*/.*\.flac$", 100, 0.3, 8, licence="GPL-2"),
    Share("train", "effects", "oxygen-sounds", r"/sounds/.*\.ogg$", 110, 0.5, 8),
    Share("train", "effects", "wordwarvi-sound", r"/sounds/(?!lucky).*\.ogg$", 60, 0.3, 8),
]


class Piece(NamedTuple):
    """A piece of a file of a package: float32 `[sample, channel]`, where it begins, and how the file is coded."""

    samples: Samples
    rate_hz: int
    start_seconds: float
    coding: str


def package_files(file: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the path and content of each recording, copyright file and transcription, those in Qt resources too."""
    command = ["dpkg-deb", "--fsys-tarfile", str(file)]
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE) as process,
        tarfile.open(fileobj=process.stdout, mode="r|") as tar,
    ):
        for member in tar:
            path = member.name.removeprefix("./")
            content = tar.extractfile(member) if member.isreg() else None
            if content is not None and path.endswith(".rcc"):
                inside = ((f"{path}!{inner}", data) for inner, data in resource_files(content.read()))
                yield from ((inner, data) for inner, data in inside if AUDIO.search(inner))
            elif content is not None and (AUDIO.search(path) or "/copyright" in path or path.endswith("transcription")):
                yield path, content.read()


def decode(path: str, data: bytes, share: Share | None, start_seconds: float = 0, seconds: float = 0) -> Piece | None:
    """Decode what a share takes of a file, None where it is too short; without a share, the piece that is given.

    Raises an error of soundfile or PyAV where the file is damaged.
    """
    suffix = PurePosixPath(path).suffix.lower().removeprefix(".")
    if suffix == "g722":
        with av.open(io.BytesIO(data), format="g722") as container:
            frames = [frame.to_ndarray() for frame in container.decode(audio=0)]
        whole = numpy.concatenate(frames, axis=1).T.astype(numpy.float32) / 32768
        file = io.BytesIO()
        soundfile.write(file, whole, G722_HZ, "PCM_16", format="WAV")
        data = file.getvalue()
    with soundfile.SoundFile(io.BytesIO(data)) as sound:
        name = sound.subtype.lower() if sound.format in ("OGG", "MP3") else sound.format.lower()
        coding = suffix if suffix == "g722" else {"mpeg_layer_iii": "mp3"}.get(name, name)
        if share is not None:
            length = sound.frames / sound.samplerate
            if length < share.shortest:
                return None
            start_seconds = round(0.3 * length, 1) if share.kind == "music" and length > 2 * share.longest else 0.0
            seconds = share.longest
        sound.seek(round(start_seconds * sound.samplerate))
        samples = sound.read(round(seconds * sound.samplerate), dtype="float32", always_2d=True)
        return Piece(samples, sound.samplerate, start_seconds, coding)


def language(share: Share, path: str) -> str:
    """Return the language that a path's share says it is in."""
    if share.language != "?":
        return share.language
    found = re.search(share.path, path)
    return (found[found.re.groups] if found is not None else None) or "en"


def choose_share(share: Share, files: dict[str, bytes], version: str, taken: set[str]) -> list[Listed]:
    """Return what a share takes of its package's files, and note the files' hashes."""
    licences = [
        pair
        for path, data in files.items()
        if "/copyright" in path
        for pair in copyright_licences(data.decode(errors="replace"))
    ]
    transcripts = {
        name: text.strip()
        for path, data in files.items()
        if path.endswith("transcription")
        for text, name in TRANSCRIPT.findall(data.decode())
    }
    fitting = {hashlib.sha256(data).hexdigest(): path for path, data in files.items() if re.search(share.path, path)}
    rows: list[Listed] = []
    total = 0.0
    for sha256, path in sorted(fitting.items()):
        named = [name for pattern, name in licences if pattern.search(path)]
        licence = spdx(share.licence or (named[-1] if named else "unknown"))
        if not AUDIO.search(path) or not OPEN.match(licence) or sha256 in taken:
            continue
        try:
            piece = decode(path, files[path], share)
        except (soundfile.LibsndfileError, av.FFmpegError):
            continue
        if piece is None or numpy.sqrt(numpy.mean(piece.samples**2)) < SILENCE_RMS:
            continue
        seconds = len(piece.samples) / piece.rate_hz
        if total + seconds > share.seconds or len(rows) >= share.count:
            break
        taken.add(sha256)
        total += seconds
        numbers = (
            str(piece.rate_hz),
            str(piece.samples.shape[1]),
            f"{piece.start_seconds:.1f}",
            f"{seconds:.3f}",
        )
        spoken = language(share, path) if share.kind == "speech" else ""
        transcript = transcripts.get(PurePosixPath(path).stem, "")
        rows.append(
            Listed(
                share.kind, share.package, version, path, sha256, licence, spoken, piece.coding, *numbers, transcript
            )
        )
    return rows


def choose(cache: Path) -> dict[str, list[Listed]]:
    """Return both lists, made anew from the newest packages."""
    found: dict[str, list[Listed]] = {name: [] for name in SETS}
    taken: set[str] = set()
    for package in sorted(
        {share.package for share in SHARES}, key=lambda name: [s.package for s in SHARES].index(name)
    ):
        file = fetch(package, "", cache)
        files = dict(package_files(file))
        version = file.name.split("_")[1].replace("%3a", ":")
        for share in SHARES:
            if share.package != package:
                continue
            rows = choose_share(share, files, version, taken)
            found[share.set] += rows
            minutes = sum(float(row.seconds) for row in rows) / 60
            print(f"{share.set:8} {share.kind:8} {package:32} {len(rows):4} {minutes:6.1f} min", flush=True)
    return found


def extract(rows: list[Listed], cache: Path, out: Path) -> None:
    """Write the files of a list; raises ValueError where a package has not the recording that the list names."""
    for kind in KINDS:
        (out / kind).mkdir(parents=True, exist_ok=True)
    wanted = {(row.package, row.path): row for row in rows}
    for package, version in sorted({(row.package, row.version) for row in rows}):
        for path, data in package_files(fetch(package, version, cache)):
            row = wanted.get((package, path))
            if row is None or hashlib.sha256(data).hexdigest() != row.sha256:
                continue
            del wanted[package, path]
            piece = decode(path, data, None, float(row.start_seconds), float(row.seconds))
            assert piece is not None
            file = out / row.kind / row.file_name()
            soundfile.write(file, piece.samples, piece.rate_hz, "PCM_16", format="FLAC")
    if wanted:
        raise ValueError(f"not in its package as listed: {min(wanted)}, and {len(wanted) - 1} more")


def licences(lists: dict[str, list[Listed]]) -> str:
    """Return a text that says which package gives what under which licence."""
    totals: dict[tuple[str, ...], list[float]] = defaultdict(list)
    for part, rows in lists.items():
        for row in rows:
            key = (part, row.kind, f"`{row.package}` {row.version}", row.licence, row.coding)
            totals[key].append(float(row.seconds))
    lines = [
        "| set | kind | package | licence | coded there as | recordings | minutes |",
        "|---|---|---|---|---|---|---|",
    ]
    for key, seconds in sorted(totals.items()):
        lines.append(f"| {' | '.join(key)} | {len(seconds)} | {sum(seconds) / 60:.1f} |")
    return "# Recordings and their licences\n\n" + "\n".join(lines) + "\n"


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for the files")
    parser.add_argument("--cache", type=Path, default=Path("corpus-cache"), help="packages")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--choose", action="store_true", help="make the lists anew from the newest packages")
    options = parser.parse_args()
    if options.choose:
        for part, rows in choose(options.cache).items():
            write_list(part, rows)
    lists = {part: read_list(part) for part in options.sets if list_path(part).is_file()}
    for part, rows in lists.items():
        extract(rows, options.cache, options.out / part)
        minutes = sum(float(row.seconds) for row in rows) / 60
        print(f"{part}: {len(rows)} recordings, {minutes:.1f} minutes, in {options.out / part}")
    (options.out / "LICENCES.md").write_text(licences(lists), encoding="utf-8")


if __name__ == "__main__":
    main()
