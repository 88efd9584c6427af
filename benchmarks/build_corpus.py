"""Build a real multilingual text-and-code corpus for benchmarks from public packages.

The packages are Debian packages (manuals, handbooks, help, message catalogues, dictionaries,
source code) and pure-Python wheels, read as streams: nothing is unpacked to disk.  Every file
in them that is valid UTF-8 text becomes a document ``{"id": "<package>/<path>", "text",
"lang", "source": "<package>"}``; ``lang`` is a programming language for code.  Markup is
reduced to its text, files over 2 MB are cut at line ends, exact duplicates are dropped, no
package exceeds its share, and the order is a hash order: any prefix is a fair sample.  The
same packages (``manifest.json`` has their SHA-256) and options give the same files.  Needs
``apt-get``, ``dpkg-deb``, ``pip``, ``orjson`` and ``zstandard``::

    python benchmarks/build_corpus.py --out corpus             # about 480 MB of text
    python benchmarks/build_corpus.py --out big --copies 4     # about 1.9 GB
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import html
import io
import random
import re
import struct
import subprocess
import tarfile
import unicodedata
import zipfile
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path
from typing import IO, NamedTuple

import orjson
import zstandard

MB = 1_000_000
MIN_DOC_BYTES, MAX_DOC_BYTES, MAX_FILE_BYTES = 64, 2 * MB, 64 * MB

# A group of packages a line: the share of each in MB, a name pattern, its variants.
DEBIAN = """
7 libreoffice-help-{} de el es fr ja km ko pl ru tr vi zh-cn zh-tw
2 libreoffice-l10n-{} am ar bg bn dz fa gu he hi hu ja ka kk kn ko ml mr ne pa-in si ta te th uk
9 manpages-{} de dev es fr fr-dev it ja ja-dev nl pl pt-br ru ru-dev tr uk zh
3 fortunes-{} cs de it pl ru zh
6 dict-freedict-{} ara-eng ell-eng eng-ara eng-hin jpn-eng
40 {} gnome-user-docs debian-handbook
16 {} installation-guide-amd64 linux-doc-6.1
12 {} debian-faq fortunes krita-l10n libc-l10n perl-doc postgresql-doc-15 python3.11-doc
28 {} golang-1.19-src rust-src glibc-source
18 {} emacs-el erlang-src libboost1.74-dev node-typescript openjdk-17-source
"""
WHEELS = """
10 {} ansible==12.3.0 django==5.2.19 sympy==1.14.0 transformers==5.23.0 twisted==26.10.0
"""
NESTED = re.compile(r"/(src\.zip|glibc-[\d.]+\.tar\.xz)$")  # archives to look into
EXTENSIONS = """
assembly .S;awk .awk;c .c .h;cpp .cc .cpp .hpp .ipp;css .css;elisp .el;erlang .erl .hrl;go .go;
java .java;javascript .js;json .json;perl .pl .pm;python .py .pyi;rust .rs;shell .sh;sql .sql;
toml .toml;typescript .ts;yaml .yaml .yml"""
CODE = {e: group.split()[0] for group in EXTENSIONS.split(";") for e in group.split()[1:]}
MARKUP, PLAIN = {".html", ".page", ".xhtml"}, {".dict", ".md", ".pod", ".rst", ".txt"}
LANGUAGES = """
af am ar ast be bg bn br bs ca cs cy da de dz el en eo es et eu fa fi fr ga gd gl gu he hi hr hu hy
ia id is it ja ka kab kk km kn ko ky lt lv mk ml mn mr ms my nb ne nl nn no pa pl pt ro ru si sk sl
sq sr sv sw ta te tg th tk tr tt ug uk ur uz vi zh"""
CODES = {c: c for c in LANGUAGES.split()} | {"ara": "ar", "ell": "el", "eng": "en", "jpn": "ja"}
HIDDEN = re.compile(r"(?s)<!--.*?-->|<(script|style|head|header|aside|info)\b.*?</\1\s*>|<\?.*?>")
BLOCK = re.compile(r"</?(?:p|div|li|h\d|tr|table|pre|title|br|dt|dd|item|section)\b[^>]*>")
ROFF = re.compile(r"(?m)^['.]\\\".*\n|^\.(?:[a-z]\w?\b.*|[A-Z][A-Za-z]?) ?|\\f(?:\(..|\[[^]]*\]|.)|\\&|\\[|/^]")


class Document(NamedTuple):
    """One document, its text still encoded; they sort by rank."""

    rank: bytes
    id: str
    text: bytes
    lang: str
    source: str
    code: bool


def strip_markup(text: str) -> str:
    """Return the readable text of HTML or Mallard source, a paragraph a line."""
    text = re.sub(r"<[^<>]*>", "", BLOCK.sub("\n", HIDDEN.sub(" ", text)))
    return re.sub(r"[ \t]*\n[ \t]*(?:\n\s*)?", "\n", html.unescape(text)).strip() + "\n"


def strip_roff(text: str) -> str:
    """Return a manual page without comments, requests and font escapes."""
    return ROFF.sub("", text).replace("\\-", "-").replace("\\(aq", "'").replace("\\e", "\\")


def catalogue_text(data: bytes) -> str:
    """Return the translations held in a compiled gettext catalogue, one a line."""
    order = {b"\xde\x12\x04\x95": "<", b"\x95\x04\x12\xde": ">"}[data[:4]]
    count, _, table = struct.unpack_from(order + "3I", data, 8)
    spans = [struct.unpack_from(order + "2I", data, table + 8 * i) for i in range(1, count)]
    strings = (data[start : start + length] for length, start in spans)
    return "\n".join(s.replace(b"\0", b"\n").decode() for s in strings) + "\n"


def guess_language(package: str, path: str) -> str:
    """Return the natural language of a file, from its path or its package's name."""
    folders = [re.split(r"[-_@]", part)[0] for part in path.split("/")[-2::-1]]
    for code in folders + package.split("-")[1:]:
        if code in CODES:
            return CODES[code]
    return "en"


def read_archive(stream: IO[bytes], name: str) -> Iterator[tuple[str, bytes]]:
    """Yield the path and content of each regular file, also of the NESTED archives."""
    if name.endswith((".zip", ".whl")):
        with zipfile.ZipFile(io.BytesIO(stream.read())) as bundle:
            for info in bundle.infolist():
                if not info.is_dir() and info.file_size <= MAX_FILE_BYTES:
                    yield info.filename, bundle.read(info)
        return
    with tarfile.open(fileobj=stream, mode="r|*") as tar:
        for member in tar:
            content = tar.extractfile(member) if member.isreg() else None
            path = member.name.removeprefix("./")
            if content is not None and NESTED.search(path):
                for inner, data in read_archive(content, path):
                    yield f"{path}/{inner.removeprefix('./')}", data
            elif content is not None and member.size <= MAX_FILE_BYTES:
                yield path, content.read()


def read_package(file: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the path and content of each regular file of a .deb or a wheel."""
    if file.suffix != ".deb":
        return read_archive(io.BytesIO(file.read_bytes()), file.name)
    command = ["dpkg-deb", "--fsys-tarfile", str(file)]
    tar = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
    return read_archive(io.BytesIO(tar), "data.tar")


def to_text(path: str, data: bytes) -> tuple[str, str | None]:
    """Return a file's text and programming language; raise ValueError to leave it out."""
    if path.endswith((".gz", ".dz")):
        with gzip.open(io.BytesIO(data)) as stream:
            data, path = stream.read(MAX_FILE_BYTES), path[:-3]
    suffix = Path(path).suffix
    if suffix == ".mo":
        return catalogue_text(data), None
    if b"\0" in data or "/_sources/" in path:  # binary, or the source of an HTML page
        raise ValueError(path)
    if suffix in MARKUP:
        return strip_markup(data.decode()), None
    if "/man/" in path:
        return strip_roff(data.decode()), None
    if suffix in PLAIN or ("/fortunes/" in path and not suffix):
        return data.decode(), None
    return data.decode(), CODE[suffix]


def package_documents(file: Path, package: str) -> Iterator[Document]:
    """Yield every document of one package, long files as several documents."""
    for path, data in read_package(file):
        try:
            text, code = to_text(path, data)
        except (ValueError, OSError, EOFError, KeyError, struct.error):
            continue  # not text, not UTF-8, or damaged
        lang, rest, number = code or guess_language(package, path), text.encode(), 0
        while len(rest) >= MIN_DOC_BYTES:
            cut = len(rest) if len(rest) <= MAX_DOC_BYTES else rest.rfind(b"\n", 0, MAX_DOC_BYTES)
            if cut <= 0:
                break
            name = f"{package}/{path}" + (f"#{number}" if number else "")
            yield Document(digest(name.encode()), name, rest[:cut], lang, package, bool(code))
            rest, number = rest[cut + 1 :], number + 1


def digest(data: bytes) -> bytes:
    """Return the hash used for the order and for finding duplicates."""
    return hashlib.blake2b(data, digest_size=16).digest()


def download(cache: Path, pip: str) -> list[tuple[str, Path, float]]:
    """Fetch what the cache lacks; return (package, file, share in bytes) in order."""
    cache.mkdir(parents=True, exist_ok=True)
    groups = [line.split() for line in (DEBIAN + WHEELS).splitlines() if line]
    shares = {g[1].format(name): float(g[0]) * MB for g in groups for name in g[2:]}
    globs = {n: n.replace("==", "-") + ("-*.whl" if "==" in n else "_*.deb") for n in shares}
    missing = [name for name, glob in globs.items() if not any(cache.glob(glob))]
    wheels = [name for name in missing if "==" in name]
    if debs := [name for name in missing if "==" not in name]:
        subprocess.run(["apt-get", "download", "-qq", *debs], cwd=cache, check=True)
    if wheels:
        flags = ["--quiet", "--no-deps", "--only-binary=:all:", "--dest", str(cache)]
        subprocess.run([pip, "download", *flags, *wheels], check=True)
    return [(n.split("==")[0], max(cache.glob(globs[n])), share) for n, share in shares.items()]


def collect(packages: list[tuple[str, Path, float]], limit: float) -> list[Document]:
    """Return the corpus in its final order: unique, within shares, cut at the limit."""
    seen: set[bytes] = set()
    corpus: list[Document] = []
    for package, file, share in packages:
        size = 0
        for document in sorted(package_documents(file, package)):
            key = digest(document.text)
            if key not in seen and size + len(document.text) <= share:
                seen.add(key)
                size += len(document.text)
                corpus.append(document)
        print(f"{package:28} {size / MB:7.1f} MB", flush=True)
    corpus.sort()
    totals = list(accumulate(len(document.text) for document in corpus))
    return corpus[: bisect_left(totals, limit) + 1]


def split(corpus: list[Document], files: int, seed: int) -> list[list[Document]]:
    """Deal the corpus, in order, to files of uneven size (the largest 8 times the smallest)."""
    draw = random.Random(seed)
    weights = [1.0, 8.0, *(8 ** draw.random() for _ in range(files))][:files]
    draw.shuffle(weights)
    scale = sum(len(document.text) for document in corpus) / sum(weights)
    shards: list[list[Document]] = [[]]
    size, bound = 0, weights[0] * scale
    for document in corpus:
        if size >= bound and len(shards) < files:
            bound += weights[len(shards)] * scale
            shards.append([])
        shards[-1].append(document)
        size += len(document.text)
    return shards


def write(shards: list[list[Document]], out: Path, copies: int) -> None:
    """Write every copy of every shard; the ids of copy 1, 2, ... end in ~1, ~2, ..."""
    out.mkdir(parents=True, exist_ok=True)
    for number, shard in enumerate(shards * copies):
        copy = number // len(shards)
        path, compressor = out / f"part-{number:05}.jsonl.zst", zstandard.ZstdCompressor(3)
        with zstandard.open(path, "wb", compressor) as stream:
            for _, name, text, lang, source, _ in shard:
                key = f"{name}~{copy}" if copy else name
                row = {"id": key, "text": text.decode(), "lang": lang, "source": source}
                stream.write(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))


def script_bytes(corpus: list[Document]) -> Counter[str]:
    """Return the text's bytes by script; anything but a letter counts as Common."""
    characters, result = Counter[str](), Counter[str]()
    for document in corpus:
        characters.update(document.text.decode())
    for character, count in characters.items():
        letter = unicodedata.category(character)[0] in "LM"
        name = unicodedata.name(character, "Common") if letter else "Common"
        script = re.split("[ -]", name)[0].capitalize()
        script = {"Cjk": "CJK", "Hiragana": "Kana", "Katakana": "Kana"}.get(script, script)
        result[script] += count * len(character.encode())
    return result


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for the files")
    parser.add_argument("--cache", type=Path, default=Path("corpus-cache"), help="packages")
    parser.add_argument("--megabytes", type=float, default=481, help="text in one copy")
    parser.add_argument("--copies", type=int, default=1, help="copies of the corpus")
    parser.add_argument("--files", type=int, default=24, help="files in one copy")
    parser.add_argument("--seed", type=int, default=1, help="seed of the file sizes")
    parser.add_argument("--pip", default="pip", help="pip command, for the wheels")
    options = parser.parse_args()

    packages = download(options.cache, options.pip)
    corpus = collect(packages, options.megabytes * MB)
    shards = split(corpus, options.files, options.seed)
    write(shards, options.out, options.copies)

    tables = {"kind": Counter[str](), "script": script_bytes(corpus), "lang": Counter[str]()}
    for document in corpus:
        tables["kind"]["code" if document.code else "text"] += len(document.text)
        tables["lang"][document.lang] += len(document.text)
    manifest = {
        "bytes": sum(tables["kind"].values()),
        "documents": len(corpus),
        "file_bytes": [sum(len(document.text) for document in shard) for shard in shards],
        **{f"bytes_by_{name}": dict(table.most_common(24)) for name, table in tables.items()},
        "packages": {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for _, f, _ in packages},
    }
    text = orjson.dumps(manifest, option=orjson.OPT_INDENT_2)
    (options.out / "manifest.json").write_bytes(text)
    print(text[: text.index(b'  "packages"')].decode())


if __name__ == "__main__":
    main()
