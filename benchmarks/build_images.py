"""Collect freely licensed photographs and drawings from public packages: a training set and a held-out set.

The packages are Debian packages, read as streams: nothing is installed.  `train_images.tsv` and `heldout_images.tsv`
beside this file list every image: package, version, path in it (in a Qt resource file after a `!`), SHA-256, licence,
photograph or drawing.  A run fetches those packages, checks each image against its SHA-256 and writes the original
files to `OUT/train` and `OUT/heldout`, named by package and hash.

`--choose` makes the two lists anew.  An image is taken where its package's copyright file gives it an open licence, its
shorter side has at least 256 pixels, its longer side is at most three times that, and it is not blank; where a package
has more than its share, those of the lowest hashes.  The two sets share no package, and no training image is a near
duplicate (64-bit difference hash, 10 bits or fewer apart) of a held-out image or of scikit-image's photographs.

Needs `apt-get` and `dpkg-deb`, and Pillow; `--choose` needs scikit-image too::

    python -m benchmarks.build_images --out IMAGES
"""

from __future__ import annotations

import argparse
import hashlib
import io
import re
import struct
import subprocess
import tarfile
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal, NamedTuple

import numpy
from PIL import Image

from benchmarks.image_sets import sample_files

MIN_SIDE, MAX_ASPECT, MIN_DEVIATION = 256, 3, 8.0
SET_DISTANCE, HELDOUT_DISTANCE, TRAIN_DISTANCE = 10, 6, 4
IMAGE = re.compile(r"\.(jpe?g|png|webp|gif)$", re.IGNORECASE)
OPEN = re.compile(r"^(CC0|CC-BY|L?GPL|public|PD\b|Expat|MIT|BSD|Free-Art)", re.IGNORECASE)
HEADINGS = ("package", "version", "path", "sha256", "licence", "kind")
SETS = ("train", "heldout")
Image.MAX_IMAGE_PIXELS = None  # wallpapers are large, and every file is checked by its hash


class Share(NamedTuple):
    """What is taken from a package: images whose path matches, of one kind, up to a number."""

    set: Literal["train", "heldout"]
    package: str
    kind: Literal["photograph", "drawing"]
    path: str
    limit: int = 999
    licence: str = ""  # where the package's copyright file cannot be read by machine


SHARES = [
    Share(
        "heldout",
        "gcompris-qt-data",
        "photograph",
        r"activities/(explore_\w+|erase|clickgame|categorization|solar_system)/resource/.*\.webp",
    ),
    Share("heldout", "gcompris-qt-data", "drawing", r"activities/lang/resource/words_sample/", 50),
    Share("heldout", "lomiri-wallpapers-16.04", "photograph", r"backgrounds/(?!analogpattern|Picture_)"),
    Share("heldout", "lomiri-wallpapers-20.04", "photograph", r"backgrounds/(?!Painting)"),
    Share(
        "heldout",
        "scratch",
        "photograph",
        r"Media/Backgrounds/\w+/(?!party-room|room\d|spotlight|.*bench|school|train-tracks3).*\.jpg",
    ),
    Share("heldout", "tuxpaint-stamps-default", "drawing", r"/stamps/.*(cartoon|alphabets).*\.png", 50),
    Share("train", "endless-sky-data", "photograph", r"images/(land|scene)/.*\.jpg"),
    Share("train", "mate-backgrounds", "photograph", r"/nature/"),
    Share(
        "train",
        "plasma-workspace-wallpapers",
        "photograph",
        r"/(BytheWater|Cold|ColorfulC|Darkest|EveningG|FallenL|Grey|Kite|OneSt|Path|summer)\w*/contents/images/",
    ),
    Share(
        "train",
        "lxqt-themes",
        "photograph",
        r"wallpapers/(Butterfly|Valendas|after|appleflower|butterfly|cloud|drop|flowers|fog|this)",
    ),
    Share("train", "plasma-workspace-wallpapers", "drawing", r"/contents/images/", 25),
    Share("train", "mate-backgrounds", "drawing", r"/abstract/"),
    Share("train", "ukui-wallpapers", "drawing", r"backgrounds/"),
    Share("train", "gnome-backgrounds", "drawing", r"gnome/(adwaita|grid|pixels|symbolic|wood)", 14, "CC-BY-SA-3.0"),
    Share("train", "desktop-base", "drawing", r"desktop-base/.*(grub|login|wallpaper)", 12),
    Share("train", "openclipart-png", "drawing", r"openclipart/png/(?!computer/icons)", 450, "public-domain"),
    Share("train", "wesnoth-1.16-data", "drawing", r"images/(portraits|story|maps)/|campaigns/.*story", 300, "GPL-2+"),
    Share(
        "train", "freecol", "drawing", r"images/(foundingFathers/\w+|mercenaries/\w+|monarch/.*|ui/.*)\.(jpg|png)", 90
    ),
    Share("train", "freedroidrpg-data", "drawing", r"graphics/backgrounds/"),
    Share("train", "freeorion-data", "drawing", r"art/(species|misc|planets|nebulae|hulls_design)/", 60),
    Share("train", "hedgewars-data", "drawing", r"Data/(Graphics/Missions|Themes|Forts)/", 60),
    Share("train", "naev-data", "drawing", r"gfx/(planet/exterior|loading)/", 60),
    Share("train", "renpy-demo", "drawing", r"game/images/", 20),
    Share("train", "renpy-thequestion", "drawing", r"game/images/", 10),
    Share("train", "supertux-data", "drawing", r"images/background/", 40),
]


class Listed(NamedTuple):
    """One image of a list; the fields are the columns."""

    package: str
    version: str
    path: str
    sha256: str
    licence: str
    kind: str

    def file_name(self) -> str:
        """Return the name that the image's file gets."""
        return f"{self.package}-{self.sha256[:16]}{Path(self.path).suffix.lower()}"


class Candidate(NamedTuple):
    """An image that could be taken, and its difference hash."""

    share: Share
    listed: Listed
    bits: int


def package_files(file: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the path and content of each regular file of a Debian package, those in Qt resource files too."""
    command = ["dpkg-deb", "--fsys-tarfile", str(file)]
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE) as process,
        tarfile.open(fileobj=process.stdout, mode="r|") as tar,
    ):
        for member in tar:
            content = tar.extractfile(member) if member.isreg() else None
            path = member.name.removeprefix("./")
            if content is not None and path.endswith(".rcc"):
                yield from ((f"{path}!{inner}", data) for inner, data in resource_files(content.read()))
            elif content is not None and (IMAGE.search(path) or "/copyright" in path):
                yield path, content.read()


def resource_files(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield the path and content of each file of a Qt binary resource file, stored or deflated."""
    magic, version, tree, contents, names = struct.unpack_from(">4s4I", data)
    if magic != b"qres":
        raise ValueError("not a Qt resource file")
    step = 22 if version >= 2 else 14
    folders = [(0, "")]
    while folders:
        number, above = folders.pop()
        first_child = struct.unpack_from(">2I", data, tree + number * step + 6)
        for child in range(first_child[1], first_child[1] + first_child[0]):
            name_at, flags = struct.unpack_from(">IH", data, tree + child * step)
            (length,) = struct.unpack_from(">H", data, names + name_at)
            name = data[names + name_at + 6 : names + name_at + 6 + 2 * length].decode("utf-16-be")
            if flags & 2:
                folders.append((child, f"{above}{name}/"))
                continue
            (at,) = struct.unpack_from(">I", data, tree + child * step + 10)
            (size,) = struct.unpack_from(">I", data, contents + at)
            content = data[contents + at + 4 : contents + at + 4 + size]
            yield above + name, zlib.decompress(content[4:]) if flags & 1 else content


def copyright_licences(text: str) -> list[tuple[re.Pattern[str], str]]:
    """Return the patterns of a machine-readable copyright file with their licences; the last match holds.

    The file names paths in the source package: those without a wildcard are matched by the file's name alone.
    """
    found = []
    for paragraph in re.split(r"\n\s*\n", text):
        files = re.search(r"^Files:((?:.*\n)(?:[ \t].*\n)*)", paragraph + "\n", re.MULTILINE)
        licence = re.search(r"^License:[ \t]*(\S.*)$", paragraph, re.MULTILINE)
        if files and licence:
            globs = [glob if set(glob) & set("*?") else Path(glob).name for glob in files[1].split()]
            escaped = (re.escape(glob.removeprefix("./")) for glob in globs)
            either = "|".join(glob.replace(r"\*", ".*").replace(r"\?", ".") for glob in escaped)
            found.append((re.compile(f"(?:^|[/!])(?:{either})$"), licence[1].strip()))
    return found


def readme_licences(path: str, text: str) -> list[tuple[re.Pattern[str], str]]:
    """Return the same of a README that lists the licences of the files beside it."""
    found = []
    for paragraph in re.split(r"\n\s*\n", text):
        files = re.search(r"^Files:((?:.*\n?)*)", paragraph, re.MULTILINE)
        licence = re.search(r"^License:[ \t]*(\S.*)$", paragraph, re.MULTILINE)
        if files and licence:
            folder = re.escape(path.removesuffix("README"))
            names = "|".join(re.escape(name) for name in files[1].split())
            found.append((re.compile(f"^{folder}(?:{names})$"), licence[1].strip()))
    return found


def spdx(licence: str) -> str:
    """Return a licence's name as its SPDX identifier is written."""
    licence = re.sub(r"^(public.domain\S*|PD)\b.*", "public-domain", licence, flags=re.IGNORECASE)
    return re.sub(r"^(CC-BY(?:-SA)?) (\d)", r"\1-\2", re.sub(r"^GPLv", "GPL-", licence))


def small_gray(data: bytes) -> numpy.ndarray | None:
    """Return an image over white as float32 [row=32, column=32]; None where it is too small, too long or blank."""
    with Image.open(io.BytesIO(data)) as image:
        if min(image.size) < MIN_SIDE or max(image.size) > MAX_ASPECT * min(image.size):
            return None
        image.draft("RGB", (MIN_SIDE, MIN_SIDE))
        pixels = image.convert("RGBA").resize((32, 32), Image.Resampling.BOX)
    gray = Image.alpha_composite(Image.new("RGBA", pixels.size, "white"), pixels).convert("L")
    values = numpy.asarray(gray, numpy.float32)
    return values if values.std() >= MIN_DEVIATION else None


def difference_hash(gray: numpy.ndarray) -> int:
    """Return 64 bits that say, on an 8 by 8 grid, where an image gets brighter from left to right."""
    image = Image.fromarray(gray).resize((9, 8), Image.Resampling.BOX)
    values = numpy.asarray(image, numpy.float32)
    return int.from_bytes(numpy.packbits(values[:, 1:] > values[:, :-1] + 0.5).tobytes(), "big")


def is_near(bits: int, others: Iterable[int], distance: int) -> bool:
    """Say whether a hash is within a distance of any other."""
    return any((bits ^ other).bit_count() <= distance for other in others)


def candidates(package: str, file: Path, counts: Counter[Share]) -> Iterator[Candidate]:
    """Yield the images of a package that could be taken, those of the lowest hash first, while their share lasts."""
    shares = [share for share in SHARES if share.package == package]
    version = file.name.split("_")[1].replace("%3a", ":")
    licences: list[tuple[re.Pattern[str], str]] = []
    own: list[tuple[re.Pattern[str], str]] = []
    images: dict[str, tuple[Share, str, bytes]] = {}
    for path, data in package_files(file):
        share = next((share for share in shares if re.search(share.path, path)), None)
        if path.endswith("/copyright"):
            licences += copyright_licences(data.decode(errors="replace"))
        elif path.endswith("/README"):
            own += readme_licences(path, data.decode())
        elif share is not None and IMAGE.search(path):
            images.setdefault(hashlib.sha256(data).hexdigest(), (share, path, data))
    for sha256, (share, path, data) in sorted(images.items()):
        named = [name for pattern, name in licences + own if pattern.search(path)]
        licence = spdx(share.licence or (named[-1] if named else "unknown"))
        gray = small_gray(data) if OPEN.match(licence) and counts[share] < share.limit else None
        if gray is not None:
            listed = Listed(package, version, path, sha256, licence, share.kind)
            yield Candidate(share, listed, difference_hash(gray))


def choose(cache: Path) -> dict[str, list[Listed]]:
    """Return both lists, made anew from the newest packages."""
    measured = [difference_hash(gray) for gray in map(small_gray, sample_files()) if gray is not None]
    found: dict[str, list[Listed]] = {name: [] for name in SETS}
    taken: dict[str, list[int]] = {"heldout": [], "train": []}
    counts = Counter[Share]()
    for part in ("heldout", "train"):  # the held-out set first: training gives way to it
        near = HELDOUT_DISTANCE if part == "heldout" else TRAIN_DISTANCE
        for package in dict.fromkeys(share.package for share in SHARES if share.set == part):
            for candidate in candidates(package, fetch(package, "", cache), counts):
                apart = [*measured, *taken["heldout"]] if part == "train" else []
                if is_near(candidate.bits, apart, SET_DISTANCE) or is_near(candidate.bits, taken[part], near):
                    continue
                counts[candidate.share] += 1
                taken[part].append(candidate.bits)
                found[part].append(candidate.listed)
            print(f"{part:8} {package:28} {sum(row.package == package for row in found[part]):5}", flush=True)
    return found


def fetch(package: str, version: str, cache: Path) -> Path:
    """Return a package's file, of a version or (where that is empty) the newest, downloaded unless the cache has it."""
    cache.mkdir(parents=True, exist_ok=True)
    pattern = f"{package}_{version.replace(':', '%3a') or '*'}_*.deb"
    if not any(cache.glob(pattern)):
        wanted = f"{package}={version}" if version else package
        subprocess.run(["apt-get", "download", "-qq", wanted], cwd=cache, check=True)
    return max(cache.glob(pattern))


def list_path(part: str) -> Path:
    """Return the path of the list of a set."""
    return Path(__file__).parent / f"{part}_images.tsv"


def read_list(part: str) -> list[Listed]:
    """Return the list of a set."""
    lines = list_path(part).read_text(encoding="utf-8").splitlines()
    return [Listed(*line.split("\t")) for line in lines[1:]]


def write_list(part: str, rows: list[Listed]) -> None:
    """Write the list of a set."""
    lines = ["\t".join(row) for row in (HEADINGS, *sorted(rows))]
    list_path(part).write_text("\n".join(lines) + "\n", encoding="utf-8")


def extract(rows: list[Listed], cache: Path, out: Path) -> None:
    """Write the files of a list; raises ValueError where a package has not the image that the list names."""
    out.mkdir(parents=True, exist_ok=True)
    wanted = {(row.package, row.path): row for row in rows}
    for package, version in sorted({(row.package, row.version) for row in rows}):
        for path, data in package_files(fetch(package, version, cache)):
            row = wanted.get((package, path))
            if row is not None and hashlib.sha256(data).hexdigest() == row.sha256:
                (out / row.file_name()).write_bytes(data)
                del wanted[package, path]
    if wanted:
        raise ValueError(f"{len(wanted)} images are missing or have changed, the first: {next(iter(wanted))}")


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for the images")
    parser.add_argument("--cache", type=Path, default=Path("corpus-cache"), help="packages")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--choose", action="store_true", help="make the lists anew from the newest packages")
    options = parser.parse_args()
    if options.choose:
        for part, rows in choose(options.cache).items():
            write_list(part, rows)
    for part in options.sets:
        rows = read_list(part)
        extract(rows, options.cache, options.out / part)
        kinds = Counter(row.kind for row in rows)
        print(f"{part}: {kinds['photograph']} photographs and {kinds['drawing']} drawings in {options.out / part}")


if __name__ == "__main__":
    main()
