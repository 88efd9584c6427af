"""Make the demo modules in ``examples/data/ir`` from small libraries under permissive licences in public packages.

Debian source packages supply the C and C++, Debian's packages of Rust libraries the Rust.  clang-19 and rustc compile
each unit by itself, without optimisation passes, from a path relative to its package, so that no module tells where it
was made.  Some have debug information, and one is there a second time, as its canonical text.  ``LICENCES.md``, written
beside them, has the licences' texts.  The same packages and compilers give the same files.

Needs ``apt-get`` with source packages (``deb-src``), ``dpkg-deb``, ``dpkg-source``, ``clang-19`` and ``rustc``; run it
from the repository's root::

    python -m examples.data.build_ir --cache corpus-cache
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
from pathlib import Path
from typing import NamedTuple

from benchmarks.build_images import fetch
from tokenmill.ir.canonical import Canonical
from tokenmill.ir.ir_file import IrFile

CLANG = ("clang-19", "-O2", "-Xclang", "-disable-llvm-passes", "-emit-llvm", "-c")
DEBUG = ("-g", "-ffile-compilation-dir=.")
RUSTC = ("rustc", "--crate-type=lib", "--emit=llvm-bc", "-Cno-prepopulate-passes", "-Ccodegen-units=1", "-O")
#: The unit whose module is there as text, too.
TWICE = "adler32.c"


class Library(NamedTuple):
    """What is taken of a package: units, all compiled alike, and the licence that they are under."""

    language: str
    package: str
    licence: str
    text: str  # the file that holds it
    units: tuple[str, ...]
    flags: tuple[str, ...]
    debug: tuple[str, ...] = ()  # units with debug information


LIBRARIES = (
    Library(
        "c",
        "zlib",
        "Zlib",
        "LICENSE",
        (
            *("adler32.c", "compress.c", "crc32.c", "deflate.c", "gzclose.c", "gzlib.c", "gzread.c", "gzwrite.c"),
            *("infback.c", "inffast.c", "inflate.c", "inftrees.c", "trees.c", "uncompr.c", "zutil.c"),
        ),
        ("-std=gnu11", "-DHAVE_UNISTD_H"),
        ("uncompr.c",),
    ),
    Library("c", "cjson", "MIT", "LICENSE", ("cJSON.c", "cJSON_Utils.c"), ("-std=gnu11",)),
    Library("cpp", "tinyxml2", "Zlib", "LICENSE.txt", ("tinyxml2.cpp",), ("-std=c++17",)),
    Library(
        "cpp",
        "box2d",
        "MIT",
        "LICENSE",
        tuple(
            f"src/collision/b2_{name}.cpp"
            for name in ("circle_shape", "collide_circle", "collide_edge", "collide_polygon", "collision", "distance")
        ),
        ("-std=c++17", "-Iinclude"),
        ("src/collision/b2_circle_shape.cpp",),
    ),
    *(
        Library("rust", f"librust-{crate}-dev", licence, text, ("src/lib.rs",), (f"--edition={edition}", *flags))
        for crate, licence, text, edition, flags in (
            ("ryu", "Apache-2.0 OR BSL-1.0", "LICENSE-BOOST", 2015, ()),
            ("httparse", "MIT OR Apache-2.0", "LICENSE-MIT", 2018, ("--cfg", 'feature="std"')),
            ("semver", "MIT OR Apache-2.0", "LICENSE-MIT", 2018, ("--cfg", 'feature="std"')),
            ("strsim", "MIT", "LICENSE", 2015, ()),
        )
    ),
)


class Built(NamedTuple):
    """A file of the demo, relative to the language's folder, and where it comes from."""

    file: str
    library: Library
    unit: str
    version: str


def unpack(library: Library, cache: Path) -> tuple[Path, str]:
    """Return the folder of a package's sources, downloaded unless the cache has them, and the package's version."""
    folder = cache / "ir" / library.package
    if library.language == "rust":
        file = fetch(library.package, "", cache)
        version = file.name.split("_")[1]
        if not folder.exists():
            subprocess.run(["dpkg-deb", "--extract", file, folder], check=True)
        (sources,) = folder.glob("usr/share/cargo/registry/*")
        return sources, version
    if not any(cache.glob(f"{library.package}_*.dsc")):
        cache.mkdir(parents=True, exist_ok=True)
        subprocess.run(["apt-get", "source", "-qq", "--download-only", library.package], cwd=cache, check=True)
    description = max(cache.glob(f"{library.package}_*.dsc"))
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(["dpkg-source", "--no-check", "-x", description.resolve(), folder.resolve()], check=True)
    return folder, description.stem.split("_")[1]


def build(library: Library, sources: Path, version: str, out: Path) -> list[Built]:
    """Compile a library's units into the folder of its language."""
    name = library.package.removeprefix("librust-").removesuffix("-dev")
    folder = out / library.language / name
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for unit in library.units:
        file = folder / (f"{name}.bc" if library.language == "rust" else f"{Path(unit).stem}.bc")
        if library.language == "rust":
            command = [*RUSTC, f"--crate-name={name}", "--cap-lints=allow", *library.flags, unit]
        else:
            command = [*CLANG, "-w", *library.flags, *(DEBUG if unit in library.debug else ()), unit]
        subprocess.run([*command, "-o", file.resolve()], cwd=sources, check=True)
        made.append(Built(f"{name}/{file.name}", library, unit, version))
        if unit == TWICE:
            text = file.with_suffix(".ll")
            text.write_bytes(IrFile(file.read_bytes()).module(Canonical()).text)
            made.append(Built(f"{name}/{text.name}", library, unit, version))
    return made


def licences(files: list[Built], texts: dict[str, str]) -> str:
    """Return what `LICENCES.md` says."""
    notes = [
        "# Licences of the demo modules",
        (
            "Written by `examples/data/build_ir.py`: libraries of Debian packages, compiled to LLVM IR by clang 19 and"
            " rustc. The modules keep the licences of their sources; the licence of the project's code does not apply"
            f" to them. `{TWICE}` is there twice, as bitcode and as text."
        ),
    ]
    for language in ("c", "cpp", "rust"):
        rows = ["| file | made of | licence | package |", "|---|---|---|---|"]
        for file in files:
            if file.library.language == language:
                origin = f"`{file.library.package}` {file.version}"
                rows.append(f"| {file.file} | {file.unit} | {file.library.licence} | {origin} |")
        notes += [f"## {language}", "\n".join(rows)]
    for package, text in texts.items():
        lines = "\n".join(line.rstrip() for line in text.strip().splitlines())
        notes += [f"## `{package}`", f"```text\n{lines}\n```"]
    return "\n\n".join(notes) + "\n"


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "ir")
    parser.add_argument("--cache", type=Path, default=Path("corpus-cache"), help="packages")
    options = parser.parse_args()
    files: list[Built] = []
    texts = {}
    for library in LIBRARIES:
        sources, version = unpack(library, options.cache)
        files += build(library, sources, version, options.out)
        texts[library.package] = (sources / library.text).read_text(encoding="utf-8")
    (options.out / "LICENCES.md").write_text(licences(files, texts), encoding="utf-8")
    modules = [(options.out / file.library.language / file.file).read_bytes() for file in files]
    digest = hashlib.sha256(b"".join(modules)).hexdigest()
    print(f"{len(modules)} modules, {sum(map(len, modules))} bytes, sha256 {digest}")


if __name__ == "__main__":
    main()
