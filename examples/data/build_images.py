"""Make the demo images in ``examples/data/images`` from freely licensed pictures in public packages.

Three Debian packages supply them: Scratch's stage backgrounds (JPEG photographs and GIF drawings), GCompris' animals
and monuments (WebP) and the Open Clip Art Library (PNG drawings with transparency).  The files are the packages' own,
unchanged: one half is a folder, the other a WebDataset tar file with a caption and a licence for each image.
``LICENCES.md`` is written beside them.  The same package versions give the same files.

Needs ``apt-get`` and ``dpkg-deb``, and Pillow; run it from the repository's root::

    python -m examples.data.build_images --cache corpus-cache
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import NamedTuple

from benchmarks.build_images import fetch, package_files

SCRATCH, GCOMPRIS, CLIPART = "scratch", "gcompris-qt-data", "openclipart-png"
BACKGROUNDS = "usr/share/scratch/Media/Backgrounds/"
RESOURCES = "usr/share/gcompris-qt/rcc/{0}.rcc!gcompris/src/activities/{0}/resource/"
DRAWINGS = "usr/share/openclipart/png/"
MIT = "© 2011 Massachusetts Institute of Technology"
CONTRIBUTORS = "dedicated to the public domain by the contributors of openclipart.org"


class Picture(NamedTuple):
    """One demo image, and where it comes from."""

    package: str
    path: str
    caption: str
    licence: str
    credit: str


def background(path: str, caption: str) -> Picture:
    """Return a background of Scratch."""
    return Picture(SCRATCH, BACKGROUNDS + path, caption, "CC-BY-SA-3.0", MIT)


def resource(activity: str, path: str, caption: str, licence: str, credit: str) -> Picture:
    """Return a picture of GCompris; its README files credit each."""
    return Picture(GCOMPRIS, RESOURCES.format(activity) + path, caption, licence, credit)


def drawing(path: str, caption: str) -> Picture:
    """Return a drawing of the Open Clip Art Library."""
    return Picture(CLIPART, DRAWINGS + path, caption, "public-domain", CONTRIBUTORS)


FOLDER = [
    background("Outdoors/castle.jpg", "a castle of pale stone"),
    background("Outdoors/city-with-water2.jpg", "a city beside a wide river by day"),
    background("Nature/canyon.jpg", "red earth and low hills under a blue sky"),
    background("Nature/hill.jpg", "a dry hill above the sea"),
    background("Indoors/clothing-store.jpg", "the inside of a clothing store"),
    background("Nature/desert.gif", "a drawing of a desert with a cactus and a rock"),
    resource(
        "explore_farm_animals", "animals/cat.webp", "a cat plays with a ball of wool", "public-domain", "Loliloli"
    ),
    resource(
        "explore_world_animals", "animals/lemur.webp", "ring-tailed lemurs in a meadow", "CC0-1.0", "Mathias Appel"
    ),
    drawing("animals/fish/seahorse.png", "a drawing of a seahorse"),
    drawing("plants/flowers/tulips_ganson.png", "a drawing of tulips"),
    drawing("transportation/boating/sailboat_illustration.png", "a drawing of a sailing boat"),
    drawing("food/fruit/peach_simple.png", "a drawing of a peach"),
]
CAPTIONED = [
    background("Outdoors/boardwalk.jpg", "a boardwalk and the sea under a blue sky"),
    background("Outdoors/pool.jpg", "a swimming pool beside a white house"),
    background("Nature/wave.jpg", "a wave breaks"),
    background("Outdoors/wooden-house.jpg", "an old wooden house with an open door"),
    background("Indoors/bedroom2.gif", "a drawing of a bedroom with a green bed"),
    resource("explore_world_animals", "animals/koala.webp", "a koala in a tree", "public-domain", "BurningWell"),
    resource("explore_monuments", "wonders/colosseum.webp", "the Colosseum in Rome", "public-domain", "Urse Ovidiu"),
    drawing("animals/mammals/horses/cavallo_architetto_franc_01.png", "a drawing of a horse"),
    drawing("plants/flowers/sun_flower_ganson.png", "a drawing of a sunflower before clouds"),
    drawing("transportation/fire_engine_romus_01.png", "a drawing of a fire engine, seen from above"),
    drawing("animals/bugs/fly_01.png", "a drawing of a fly"),
    drawing("food/desserts/cake1_jarno_vasamaa_01.png", "a drawing of a cake"),
]


def read_pictures(cache: Path) -> tuple[dict[Picture, bytes], dict[str, str]]:
    """Return the files of all pictures, and the versions of the packages; raises KeyError where one is missing."""
    found: dict[tuple[str, str], bytes] = {}
    versions = {}
    wanted = {(picture.package, picture.path) for picture in (*FOLDER, *CAPTIONED)}
    for package in (SCRATCH, GCOMPRIS, CLIPART):
        file = fetch(package, "", cache)
        versions[package] = file.name.split("_")[1].replace("%3a", ":")
        found.update({(package, path): data for path, data in package_files(file) if (package, path) in wanted})
    return {picture: found[picture.package, picture.path] for picture in (*FOLDER, *CAPTIONED)}, versions


def add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    """Add a member whose header says nothing but its name and size."""
    member = tarfile.TarInfo(name)
    member.size = len(data)
    archive.addfile(member, io.BytesIO(data))


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "images")
    parser.add_argument("--cache", type=Path, default=Path("corpus-cache"), help="packages")
    options = parser.parse_args()
    files, versions = read_pictures(options.cache)
    folder = options.out / "folder"
    folder.mkdir(parents=True, exist_ok=True)
    for picture in FOLDER:
        (folder / Path(picture.path).name).write_bytes(files[picture])
    with tarfile.open(options.out / "captioned.tar", "w", format=tarfile.USTAR_FORMAT) as archive:
        for picture in CAPTIONED:
            name = Path(picture.path)
            about = {"caption": picture.caption, "licence": picture.licence}
            add(archive, name.name, files[picture])
            add(archive, f"{name.stem}.json", json.dumps(about).encode())
    notes = [
        "# Licences of the demo images",
        (
            "Written by `examples/data/build_images.py`. The files are unchanged. They keep their licences; the licence"
            " of the project's code does not apply to them. Those under CC-BY-SA-3.0 are under the Creative Commons"
            " Attribution-ShareAlike 3.0 Unported licence (https://creativecommons.org/licenses/by-sa/3.0/)."
        ),
    ]
    for title, pictures in (("folder", FOLDER), ("captioned.tar", CAPTIONED)):
        lines = ["| file | shows | licence | by | package |", "|---|---|---|---|---|"]
        for picture in pictures:
            origin = f"`{picture.package}` {versions[picture.package]}"
            file_name = Path(picture.path).name
            lines.append(f"| {file_name} | {picture.caption} | {picture.licence} | {picture.credit} | {origin} |")
        notes += [f"## {title}", "\n".join(lines)]
    (options.out / "LICENCES.md").write_text("\n\n".join(notes) + "\n", encoding="utf-8")
    digest = hashlib.sha256(b"".join(files.values())).hexdigest()
    print(f"{len(files)} images, {sum(map(len, files.values()))} bytes, sha256 {digest}")


if __name__ == "__main__":
    main()
