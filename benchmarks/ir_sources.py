"""Sources to compile to LLVM IR: Debian source packages and packaged Rust crates, and what may be used of them.

A file may be used where its package's copyright file gives it a permissive licence: GPL, LGPL, MPL and what this file
does not know are left out.  Of a choice of licences the permissive ones count.
"""

from __future__ import annotations

import fnmatch
import functools
import hashlib
import re
import shutil
import subprocess
import threading
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from benchmarks.build_images import fetch

SUFFIXES = {".c": "c", ".cc": "cpp", ".cpp": "cpp", ".cxx": "cpp"}
HEADERS = frozenset((".h", ".hh", ".hpp"))
APT_SOURCES = """Types: deb-src
URIs: {mirror}
Suites: {suite}
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
"""
CONFIGURE_SECONDS = 300

#: Of packages whose copyright file cannot be read by machine, or says it in a name of its own.
BY_PACKAGE = {"c-ares": "MIT", "libwebp": "BSD-3-Clause", "libjsoncpp": "MIT"}
PERMISSIVE = (
    (r"expat|mit|expat with embedded exception", "MIT"),
    (r"x11", "X11"),
    (r"0bsd", "0BSD"),
    (r"bsd-2-clause", "BSD-2-Clause"),
    (r"bsd-(3|c3)(-clause)?([~-]google)?", "BSD-3-Clause"),
    (r"bsd-variant", "bzip2-1.0.6"),
    (r"apache-2(\.0)?", "Apache-2.0"),
    (r"apache-2\.0 with llvm exception", "Apache-2.0 WITH LLVM-exception"),
    (r"bsl-1\.0", "BSL-1.0"),
    (r"cc0(-1\.0)?", "CC0-1.0"),
    (r"isc", "ISC"),
    (r"libpng", "Libpng"),
    (r"zlib(/libpng)?", "Zlib"),
    (r"unlicense", "Unlicense"),
    (r"unicode(-dfs-2016)?", "Unicode-DFS-2016"),
    (r"public-domain", "LicenseRef-public-domain"),
)

_apt = threading.Lock()


class Source(NamedTuple):
    """A file to compile.

    Attributes:
        path: Its path in the package, with `/`.
        language: `c`, `cpp` or `rust`.
        licence: An SPDX expression.
        sha256: Of its content.
        edition: Of a crate, Rust's edition.
        crate: Of a crate, its name.
    """

    path: str
    language: str
    licence: str
    sha256: str
    edition: str = ""
    crate: str = ""


class Tree(NamedTuple):
    """An unpacked package: its name and version, its folder, and the files of it that may be used."""

    package: str
    version: str
    root: Path
    sources: list[Source]


def permissive(licence: str) -> str | None:
    """Return a licence's SPDX expression where it is permissive, otherwise None; of a choice, what is permissive."""
    found = []
    for part in re.split(r"\s+and\s+", licence.strip().replace("(", "").replace(")", ""), flags=re.IGNORECASE):
        names = [_spdx(one) for one in re.split(r"\s+or\s+", part.strip(" ,"), flags=re.IGNORECASE)]
        some = sorted({name for name in names if name is not None})
        if not some:
            return None
        found.append(" OR ".join(some))
    return joined(found)


def _spdx(licence: str) -> str | None:
    return next((name for pattern, name in PERMISSIVE if re.fullmatch(pattern, licence.strip(), re.IGNORECASE)), None)


def copyright_licences(text: str) -> list[tuple[re.Pattern[str], str]]:
    """Return the patterns of paths of a copyright file with their licences; the last match holds."""
    found = []
    for paragraph in re.split(r"\n\s*\n", text):
        files = re.search(r"^Files:((?:.*\n)(?:[ \t].*\n)*)", paragraph + "\n", re.MULTILINE)
        licence = re.search(r"^License:[ \t]*(\S.*)$", paragraph, re.MULTILINE)
        if files and licence:
            either = "|".join(fnmatch.translate(glob.removeprefix("./")) for glob in files[1].split())
            found.append((re.compile(either), licence[1]))
    return found


def unpacked(package: str, version: str, cache: Path, mirror: str, suite: str) -> Tree:
    """Return a package of a version, or (where that is empty) the newest, fetched unless the cache has it.

    Raises RuntimeError where the archive has no such version.
    """
    if package.startswith("librust-"):
        return _crate(package, version, cache)
    described = _source_package(package, version, cache, mirror, suite)
    (version,) = re.findall(r"^Version: (\S+)$", described.read_text(encoding="utf-8"), re.MULTILINE)
    root = cache / "trees" / described.stem
    if not root.exists():
        root.parent.mkdir(parents=True, exist_ok=True)
        # Under another name until it is whole: a run that is stopped leaves nothing that looks finished.
        partial = root.with_name(root.name + ".partial")
        shutil.rmtree(partial, ignore_errors=True)
        _run(["dpkg-source", "--no-check", "-x", str(described.resolve()), str(partial)], cache)
        partial.rename(root)
    done = root.with_name(root.name + ".configured")
    if not done.exists():
        if (root / "configure").is_file():
            # Some fail for want of a library: what does not compile without is left out.
            subprocess.run(
                ["sh", "./configure"],
                cwd=root,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=CONFIGURE_SECONDS,
                check=False,
            )
        done.touch()
    licences = copyright_licences((root / "debian" / "copyright").read_text(encoding="utf-8", errors="replace"))
    sources = []
    for file in sorted(root.rglob("*")):
        path = file.relative_to(root).as_posix()
        if file.suffix not in SUFFIXES or not file.is_file() or path.startswith((".pc/", "debian/")):
            continue
        named = BY_PACKAGE.get(package) or next((name for ours, name in reversed(licences) if ours.match(path)), "")
        licence = permissive(named)
        if licence is not None:
            sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
            sources.append(Source(path, SUFFIXES[file.suffix], licence, sha256))
    # In an order that has nothing to do with what is in them.
    sources.sort(key=lambda source: hashlib.sha256(source.path.encode()).digest())
    return Tree(package, version, root, sources)


@functools.cache
def header_folders(root: Path) -> list[str]:
    """Return the folders of a tree that hold headers, however far below: the shortest paths first."""
    own = {file.parent.relative_to(root) for file in root.rglob("*") if file.suffix in HEADERS}
    folders = {above.as_posix() for folder in own for above in (folder, *folder.parents)}
    return sorted((one for one in folders if not one.startswith((".pc", "debian"))), key=lambda one: (len(one), one))


def _source_package(package: str, version: str, cache: Path, mirror: str, suite: str) -> Path:
    folder = cache / "packages"
    folder.mkdir(parents=True, exist_ok=True)
    pattern = f"{package}_{version.rpartition(':')[2] or '*'}.dsc"
    if not any(folder.glob(pattern)):
        with _apt:
            options = _apt_options(cache, mirror, suite)
            wanted = f"{package}={version}" if version else package
            _run(["apt-get", *options, "-qq", "source", "--download-only", wanted], folder)
    return max(folder.glob(pattern))


def _apt_options(cache: Path, mirror: str, suite: str) -> list[str]:
    """Return options by which apt-get uses lists of its own, and the machine's stay as they are."""
    folder = (cache / "apt").resolve()
    options = []
    for name, value in (
        ("Dir::Etc::SourceList", "/dev/null"),
        ("Dir::Etc::SourceParts", f"{folder}/parts"),
        ("Dir::State::Lists", f"{folder}/lists"),
        ("Dir::Cache", str(folder)),
        ("APT::Sandbox::User", ""),
    ):
        options += ["-o", f"{name}={value}"]
    text = APT_SOURCES.format(mirror=mirror, suite=suite)
    described = folder / "parts" / "sources.sources"
    if not described.is_file() or described.read_text() != text:
        for name in ("parts", "lists/partial"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        described.write_text(text)
        try:
            _run(["apt-get", *options, "-qq", "update"], folder)
        except RuntimeError:
            described.unlink()
            raise
    return options


def _crate(package: str, version: str, cache: Path) -> Tree:
    with _apt:
        file = fetch(package, version, cache / "packages")
    version = file.name.split("_")[1].replace("%3a", ":")
    root = cache / "trees" / f"{package}_{version}"
    if not root.exists():
        partial = root.with_name(root.name + ".partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        _run(["dpkg-deb", "-x", str(file.resolve()), str(partial.resolve())], cache)
        partial.rename(root)
    (described,) = root.glob("usr/share/cargo/registry/*/Cargo.toml")
    crate = tomllib.loads(described.read_text(encoding="utf-8"))
    path = crate.get("lib", {}).get("path", "src/lib.rs")
    licences = copyright_licences((root / "usr/share/doc" / package / "copyright").read_text(encoding="utf-8"))
    # One file stands for the crate, which is compiled as a whole: every licence of its Rust files must do.
    inside = [file.relative_to(described.parent).as_posix() for file in described.parent.rglob("*.rs")]
    named = {next((name for ours, name in reversed(licences) if ours.match(one)), "") for one in inside}
    found = [permissive(name) for name in sorted(named)]
    sources = []
    if all(one is not None for one in found):
        licence = joined(one for one in found if one is not None)
        sha256 = hashlib.sha256((described.parent / path).read_bytes()).hexdigest()
        name = crate.get("lib", {}).get("name", crate["package"]["name"]).replace("-", "_")
        edition = crate["package"].get("edition", "2015")
        sources.append(Source(path, "rust", licence, sha256, edition, name))
    return Tree(package, version, described.parent, sources)


def joined(licences: Iterable[str]) -> str:
    """Return one SPDX expression for things under several licences."""
    found = sorted(set(licences))
    return found[0] if len(found) == 1 else " AND ".join(f"({one})" if " " in one else one for one in found)


def _run(command: list[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr[-2000:]}")
