"""Make the demo recordings in ``examples/data/audio`` from openly licensed ones in public packages.

Debian packages supply them: spoken words of pocketsphinx, Tux Paint, KTuberling and Asterisk, sounds of Scratch, Sonic
Pi and Tux Paint.  The files are the packages' own, unchanged, but for the one M4A file, which is made of a recording
of Asterisk's.  One half is a folder with a file of each format, the other a WebDataset tar file of speech with what is
said, its language and a licence.  ``LICENCES.md`` is written beside them.  The same package versions give the same
files, the M4A with the same FFmpeg.

Needs ``apt-get`` and ``dpkg-deb``, and PyAV; run it from the repository's root::

    python -m examples.data.build_audio --cache corpus-cache
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import NamedTuple

import av

from benchmarks.build_audio import package_files
from benchmarks.build_images import fetch

POCKETSPHINX, TUX_PAINT, KTUBERLING = "pocketsphinx-testdata", "tuxpaint-stamps-default", "ktuberling-data"
SCRATCH, SONIC_PI, ASTERISK = "scratch", "sonic-pi-samples", "asterisk-core-sounds-it-g722"
FROG = "usr/share/tuxpaint/stamps/animals/amphibians/frog"
M4A_BITRATE = 64_000


class Sound(NamedTuple):
    """One demo recording, and where it comes from."""

    name: str
    package: str
    path: str
    text: str
    language: str
    licence: str
    credit: str


def spoken(name: str, path: str, text: str) -> Sound:
    """Return English speech of pocketsphinx's tests."""
    path = f"usr/share/pocketsphinx/test/data/{path}"
    return Sound(name, POCKETSPHINX, path, text, "en", "BSD-2-Clause", "Carnegie Mellon University; LibriVox")


def painted(name: str, path: str, text: str, language: str = "") -> Sound:
    """Return a sound of Tux Paint's stamps."""
    return Sound(name, TUX_PAINT, path, text, language, "GPL-2.0", "the Tux Paint developers and contributors")


def scratched(name: str, path: str, text: str) -> Sound:
    """Return a sound of Scratch."""
    path = f"usr/share/scratch/Media/Sounds/{path}"
    return Sound(name, SCRATCH, path, text, "", "CC-BY-SA-3.0", "© 2011 Massachusetts Institute of Technology")


FOLDER = [
    spoken("ten-of-clubs.wav", "cards/001.wav", "ten of clubs"),
    Sound(
        "guitar.flac",
        SONIC_PI,
        "usr/share/sonic-pi/samples/guit_harmonics.flac",
        "harmonics of a guitar",
        "",
        "CC0-1.0",
        "BStateham (freesound.org)",
    ),
    painted(
        "rooster.ogg",
        "usr/share/tuxpaint/stamps/animals/birds/rooster_desc_fr.ogg",
        "un coq multicolore",
        "fr",
    ),
    painted("frog.ogg", f"{FROG}.ogg", "a frog croaks"),
    Sound(
        "rocket.opus",
        KTUBERLING,
        "usr/share/ktuberling/sounds/nn/moon_rocket.opus",
        "a rocket, named in Norwegian",
        "nn",
        "GPL-2.0-or-later",
        "the KTuberling developers and translators",
    ),
    scratched("guitar-chords.mp3", "Music Loops/GuitarChords1.mp3", "chords of a guitar"),
    scratched("water.mp3", "Effects/WaterRunning.mp3", "water runs"),
    Sound(
        "goodbye.m4a",
        ASTERISK,
        "usr/share/asterisk/sounds/it_IT_m_Carlo/vm-goodbye.g722",
        "goodbye, in Italian",
        "it",
        "CC-BY-3.0",
        "Carlo Flora (segreterietelefoniche.it), translated by Silvia Petrin",
    ),
]
SPOKEN = [
    painted("frog-en.ogg", f"{FROG}_desc.ogg", "a frog", "en"),
    painted("frog-fr.ogg", f"{FROG}_desc_fr.ogg", "une grenouille", "fr"),
    painted("frog-ru.ogg", f"{FROG}_desc_ru.ogg", "лягушка", "ru"),
    painted("frog-el.ogg", f"{FROG}_desc_el.ogg", "βάτραχος", "el"),
    painted("frog-es.ogg", f"{FROG}_desc_es.ogg", "una rana", "es"),
    spoken("seven-of-clubs.wav", "cards/003.wav", "seven of clubs"),
    spoken(
        "amiable.wav",
        "librivox/sense_and_sensibility_01_austen_64kb-0930.wav",
        "he might even have been made amiable himself",
    ),
]


def read_sounds(cache: Path) -> tuple[dict[Sound, bytes], dict[str, str]]:
    """Return the files of all recordings, and the versions of the packages; raises KeyError where one is missing."""
    sounds = (*FOLDER, *SPOKEN)
    found: dict[tuple[str, str], bytes] = {}
    versions = {}
    wanted = {(sound.package, sound.path) for sound in sounds}
    for package in dict.fromkeys(sound.package for sound in sounds):
        file = fetch(package, "", cache)
        versions[package] = file.name.split("_")[1].replace("%3a", ":")
        found.update({(package, path): data for path, data in package_files(file) if (package, path) in wanted})
    return {sound: found[sound.package, sound.path] for sound in sounds}, versions


def m4a(data: bytes) -> bytes:
    """Return a G.722 file as an AAC file."""
    file = io.BytesIO()
    flags = {"fflags": "+bitexact"}  # no encoder's name and no time in it
    with (
        av.open(io.BytesIO(data), "r", format="g722") as source,
        av.open(file, "w", format="ipod", options=flags) as made,
    ):
        stream = made.add_stream("aac", rate=16_000, layout="mono")
        stream.bit_rate = M4A_BITRATE
        for frame in source.decode(audio=0):
            made.mux(stream.encode(frame))
        made.mux(stream.encode(None))
    return file.getvalue()


def add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    """Add a member whose header says nothing but its name and size."""
    member = tarfile.TarInfo(name)
    member.size = len(data)
    archive.addfile(member, io.BytesIO(data))


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "audio")
    parser.add_argument("--cache", type=Path, default=Path("corpus-cache"), help="packages")
    options = parser.parse_args()
    files, versions = read_sounds(options.cache)
    folder = options.out / "folder"
    folder.mkdir(parents=True, exist_ok=True)
    for sound in FOLDER:
        data = files[sound]
        (folder / sound.name).write_bytes(m4a(data) if sound.name.endswith(".m4a") else data)
    with tarfile.open(options.out / "spoken.tar", "w", format=tarfile.USTAR_FORMAT) as archive:
        for sound in SPOKEN:
            about = {"text": sound.text, "language": sound.language, "licence": sound.licence}
            add(archive, sound.name, files[sound])
            add(archive, f"{Path(sound.name).stem}.json", json.dumps(about, ensure_ascii=False).encode())
    notes = [
        "# Licences of the demo recordings",
        (
            "Written by `examples/data/build_audio.py`. The files are unchanged, but for `goodbye.m4a`, which was"
            " coded anew. They keep their licences; the licence of the project's code does not apply to them. Those"
            " under CC-BY-SA-3.0 and CC-BY-3.0 are under the Creative Commons Attribution-ShareAlike 3.0 Unported"
            " (https://creativecommons.org/licenses/by-sa/3.0/) and Attribution 3.0 Unported"
            " (https://creativecommons.org/licenses/by/3.0/) licences."
        ),
    ]
    for title, sounds in (("folder", FOLDER), ("spoken.tar", SPOKEN)):
        lines = ["| file | what is heard | language | licence | by | package |", "|---|---|---|---|---|---|"]
        for sound in sounds:
            origin = f"`{sound.package}` {versions[sound.package]}"
            cells = (sound.name, sound.text, sound.language, sound.licence, sound.credit, origin)
            lines.append(f"| {' | '.join(cells)} |")
        notes += [f"## {title}", "\n".join(lines)]
    (options.out / "LICENCES.md").write_text("\n\n".join(notes) + "\n", encoding="utf-8")
    digest = hashlib.sha256(b"".join(files.values())).hexdigest()
    print(f"{len(files)} recordings, {sum(map(len, files.values()))} bytes, sha256 {digest}")


if __name__ == "__main__":
    main()
