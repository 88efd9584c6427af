"""Make a corpus of LLVM IR from public packages: C, C++ and Rust, to learn from and held out.

Packages are Debian source packages and packaged Rust crates, compiled and not installed: C and C++ by clang with `-O2`
and no pass run, Rust by rustc likewise, and once more without optimisation and with debug information.
`train_ir.tsv` and `heldout_ir.tsv` beside this file list them; no package is in both, and no source file of a held-out
package is compiled for training.  Files under GPL or LGPL, and those whose licence is not known to be permissive, are
left out.  What does not compile is left out too, and counted.

`OUT/train/<language>/<package>/*.bc` is what vocabularies are learned from: of each package no more than a share, so
that none decides.  `OUT/heldout/…` is what they are measured on.  `--more` makes `OUT/more/…`, what training packages
have beyond their share, for measurements of speed, and `--clang` makes `OUT/versions/<clang>/…`: the same held-out
sources by several compilers.  No module names a folder of this machine: that is checked in every one.

A run goes on where one that was stopped ended.  Bitcode is for the machine's own architecture; the lists were made with
clang 19 and rustc 1.95 on x86-64.  `--choose` makes them anew from the newest packages.

Needs clang-19, rustc, `apt-get`, `dpkg-source` and `dpkg-deb`::

    python -m benchmarks.build_ir --out IR --cache CACHE
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

from benchmarks.ir_sets import SETS, Listed, list_path, read_list, write_list
from benchmarks.ir_sources import Source, Tree, header_folders, joined, unpacked
from benchmarks.measuring import MB
from tokenmill.errors import ItemError
from tokenmill.ir.canonical import Canonical
from tokenmill.ir.ir_file import IrFile, IrOptions

MIRROR, SUITE = "http://deb.debian.org/debian", "bookworm"
CLANG = "clang-19"
COMPILE_SECONDS = 600
#: Bytes of canonical text: of one module, of a package and language in a set, and beyond it.
LONGEST_BYTES = 5 * MB
SHARE_BYTES: dict[str, dict[str, float]] = {
    "train": {"c": 2 * MB, "cpp": 3 * MB, "rust": 3 * MB, "rust-g": 1.5 * MB},
    "heldout": {"c": 2 * MB, "cpp": 3 * MB, "rust": 5 * MB, "rust-g": 5 * MB},
}
MORE_BYTES = 6 * MB
FULL = 0.8
VERSIONS_BYTES = 1 * MB
MOST_FILES = 80

PACKAGES = {
    "train": (
        "box2d brotli c-ares double-conversion expat flac fmtlib googletest jq libevent libjsoncpp libogg libpng1.6 "
        "libsodium libuv1 libvorbis libwebp libzstd lz4 mbedtls opus protobuf pugixml simdjson "
        "sqlite3 xxhash"
    ),
    "heldout": "bzip2 cjson hiredis jansson leveldb libyaml re2 tinyxml2 woff2 yaml-cpp zlib",
}
CRATES = {
    "train": (
        "adler arrayvec ascii bit-vec bumpalo byteorder bytes color-quant deunicode diff dtoa either fastrand "
        "fixedbitset fnv glob heck hex humansize humantime itoa json linked-hash-map lru md5 memchr object oorandom "
        "percent-encoding rgb rustc-demangle scopeguard shlex similar siphasher slab smallvec typed-arena unicode-bidi "
        "unicode-segmentation unicode-width unicode-xid urlencoding utf8parse void weezl xmlparser"
    ),
    "heldout": "base64 hashbrown httparse ryu semver strsim textwrap",
}
VERSIONS_PACKAGES = ("jansson", "libyaml", "tinyxml2", "woff2", "zlib")


class Made(NamedTuple):
    """A module: its file in the cache, its name and language, its source, and how long its canonical text is."""

    file: Path
    name: str
    language: str
    source: Source
    text_bytes: int


class Compiler:
    """Compiles files of unpacked packages into a cache, and reads what was made."""

    def __init__(self, cache: Path, command: str) -> None:
        self._cache = cache.resolve()
        self._command = command
        self._private = [str(self._cache).encode(), str(Path.cwd()).encode()]
        if command == "rustc":
            root = subprocess.run(["rustc", "--print", "sysroot"], capture_output=True, text=True, check=True)
            self._private.append(root.stdout.strip().encode())

    def made(self, tree: Tree, source: Source, language: str, counts: Counter[str]) -> Made | None:
        """Return a source's module, None where there is none; `counts` learns why.

        Raises ValueError where the module names a folder of this machine.
        """
        name = source.path.replace("/", "+") + (".g" if language == "rust-g" else "") + ".bc"
        kept = f"{tree.package}_{tree.version.replace(':', '%3a')}"
        file = self._cache / "bitcode" / self._command / kept / name
        failed = file.with_suffix(".failed")
        if not file.exists() and not failed.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            partial_file = file.with_suffix(".partial")
            command = self._rust(tree, source, language) if source.edition else self._clang(tree, source)
            done = subprocess.run(
                [*command, "-o", str(partial_file)],
                cwd=tree.root,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=COMPILE_SECONDS,
                check=False,
            )
            if not done.returncode:
                partial_file.rename(file)
            elif done.returncode > 0:  # one that was killed is tried again by the next run
                failed.write_bytes(done.stderr[-2000:])
        if not file.exists():
            counts["do not compile"] += 1
            return None
        data = file.read_bytes()
        try:
            text = IrFile(data, IrOptions(max_text_bytes=LONGEST_BYTES)).module(Canonical()).text
        except ItemError as error:
            counts[error.reason] += 1
            return None
        for private in self._private:
            if private in text or private in data:
                raise ValueError(f"{file} names the folder {private.decode()}")
        counts["compiled"] += 1
        return Made(file, name, language, source, len(text))

    def _clang(self, tree: Tree, source: Source) -> list[str]:
        language = ["-x", "c++", "-std=c++17"] if source.language == "cpp" else ["-std=gnu11"]
        own = str(Path(source.path).parent)
        return [
            self._command,
            *("-O2", "-Xclang", "-disable-llvm-passes", "-emit-llvm", "-c", "-w", *language),
            *(["-DHAVE_CONFIG_H"] if (tree.root / "config.status").is_file() else []),
            *(f"-ffile-prefix-map={tree.root.resolve()}=.", "-fdebug-compilation-dir=.", f"-I{own}"),
            *(option for folder in header_folders(tree.root) for option in ("-idirafter", folder)),
            source.path,
        ]

    def _rust(self, tree: Tree, source: Source, language: str) -> list[str]:
        variant = ["-g", "-Copt-level=0"] if language == "rust-g" else ["-O"]
        features = [option for name in ("std", "alloc", "default") for option in ("--cfg", f'feature="{name}"')]
        return [
            "rustc",
            *("--crate-type", "lib", "--emit=llvm-bc", "-Cno-prepopulate-passes", "-Ccodegen-units=1"),
            *("-Clink-dead-code", "--cap-lints", "allow", "--edition", source.edition, *variant, *features),
            *("--crate-name", source.crate, f"--remap-path-prefix={tree.root.resolve()}=.", source.path),
        ]


def build(
    part: str, more_bytes: int, seen: frozenset[str], cache: Path, out: Path, tree: Tree
) -> tuple[list[Listed], Counter[str]]:
    """Make a package's modules of a set; return its lines of the list, and how many sources became what.

    Sources whose content is in `seen` are passed over, and those of a language once its share is nearly full.
    """
    counts: Counter[str] = Counter()
    text_bytes: Counter[tuple[str, str]] = Counter()
    taken: dict[str, list[Made]] = {}
    compiler = Compiler(cache, "rustc" if tree.package.startswith("librust-") else CLANG)
    for source in tree.sources[:MOST_FILES]:
        for language in ("rust", "rust-g") if source.edition else (source.language,):
            rooms = {part: SHARE_BYTES[part][language], "more": more_bytes}
            rooms = {place: room for place, room in rooms.items() if text_bytes[place, language] < FULL * room}
            if not rooms:
                continue
            if source.sha256 in seen:
                counts["in another package"] += 1
                continue
            made = compiler.made(tree, source, language, counts)
            if made is None:
                continue
            place = next((one for one in rooms if text_bytes[one, language] + made.text_bytes <= rooms[one]), None)
            if place is None:
                counts["beyond the share"] += 1
                continue
            text_bytes[place, language] += made.text_bytes
            counts[f"bytes of text, {place}"] += made.text_bytes
            put(made, out / place / language / tree.package)
            if place == part:
                taken.setdefault(language, []).append(made)
    rows = [
        Listed(tree.package, tree.version, language, joined(one.source.licence for one in some), str(len(some)))
        for language, some in taken.items()
    ]
    return rows, counts


def build_versions(commands: Sequence[str], cache: Path, out: Path, tree: Tree) -> int:
    """Compile a package's sources by several compilers; keep those that all compile, and return how many."""
    compilers = [Compiler(cache, command) for command in commands]
    kept = text_bytes = 0
    for source in tree.sources[:MOST_FILES]:
        some = [compiler.made(tree, source, source.language, Counter()) for compiler in compilers]
        found = [made for made in some if made is not None]
        if len(found) < len(compilers):
            continue
        if kept and text_bytes + found[0].text_bytes > VERSIONS_BYTES:
            break
        kept += 1
        text_bytes += found[0].text_bytes
        for command, made in zip(commands, found, strict=True):
            put(made, out / "versions" / command / made.language / tree.package)
    return kept


def put(made: Made, folder: Path) -> None:
    """Put a module's file where it belongs, unless it is there; whoever reads the folder never sees half of it."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / made.name
    if not file.exists():
        partial_file = file.with_suffix(".partial")
        shutil.copyfile(made.file, partial_file)
        partial_file.rename(file)


def wanted(part: str, choose: bool) -> dict[str, str]:
    """Return the packages of a set with their versions; without a version where they are to be chosen."""
    if not choose:
        return {row.package: row.version for row in read_list(part)}
    return {
        **dict.fromkeys(PACKAGES[part].split(), ""),
        **{f"librust-{name}-dev": "" for name in CRATES[part].split()},
    }


def require(commands: Sequence[str]) -> None:
    """Say what is to be installed where a command is absent; raises SystemExit."""
    absent = [command for command in commands if shutil.which(command) is None]
    if absent:
        raise SystemExit(
            f"this machine has no {', '.join(absent)}: install clang from Debian or apt.llvm.org, rustc by rustup, "
            "and dpkg-dev; only a Debian machine has all of them"
        )


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for the modules")
    parser.add_argument("--cache", type=Path, default=Path("corpus-cache"), help="packages, unpacked and compiled")
    parser.add_argument("--choose", action="store_true", help="make the lists anew from the newest packages")
    parser.add_argument("--more", action="store_true", help="also what training packages have beyond their share")
    parser.add_argument("--clang", nargs="+", default=[], help="compilers for the set of the same sources by each")
    parser.add_argument("--mirror", default=MIRROR, help="archive of source packages")
    parser.add_argument("--suite", default=SUITE, help="release in it")
    parser.add_argument("--jobs", type=int, default=2, help="packages compiled at a time")
    options = parser.parse_args()
    require([CLANG, "rustc", "apt-get", "dpkg-source", "dpkg-deb", *options.clang])
    options.cache.mkdir(parents=True, exist_ok=True)
    packages = {part: wanted(part, options.choose) for part in SETS}
    with ThreadPoolExecutor(options.jobs) as pool:
        trees: dict[str, list[Tree]] = {}
        for part in SETS:
            fetched = partial(unpacked, cache=options.cache, mirror=options.mirror, suite=options.suite)
            trees[part] = list(pool.map(fetched, packages[part].keys(), packages[part].values()))
        heldout = frozenset(source.sha256 for tree in trees["heldout"] for source in tree.sources)
        for part in SETS:
            seen = heldout if part == "train" else frozenset()
            more_bytes = MORE_BYTES if options.more and part == "train" else 0
            make = partial(build, part, more_bytes, seen, options.cache, options.out)
            rows: list[Listed] = []
            total: Counter[str] = Counter()
            for tree, (some, counts) in zip(trees[part], pool.map(make, trees[part]), strict=True):
                print(f"{part:8} {tree.package:32} {dict(sorted(counts.items()))}", flush=True)
                rows += some
                total += counts
            print(f"{part}: {dict(sorted(total.items()))}", flush=True)
            if options.choose:
                write_list(part, rows)
            elif sorted(rows) != read_list(part):
                other = sorted(set(rows) ^ set(read_list(part)))
                print(f"{part}: not as {list_path(part).name} says, by other compilers or headers: {other}")
        if options.clang:
            same = [tree for tree in trees["heldout"] if tree.package in VERSIONS_PACKAGES]
            make_versions = partial(build_versions, options.clang, options.cache, options.out)
            for tree, kept in zip(same, pool.map(make_versions, same), strict=True):
                print(f"versions {tree.package:32} {kept} sources compiled by each", flush=True)


if __name__ == "__main__":
    main()
