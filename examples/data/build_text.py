"""Make the demo texts in ``examples/data/text`` from freely licensed documentation.

Three Debian packages supply them: the GNOME desktop help (Mallard pages), the Debian
Administrator's Handbook (HTML) and the Python documentation (reStructuredText).  A page
becomes one document ``{"id", "text", "lang", "licence"}``; paragraphs left
untranslated (not in the language's script) are dropped, and of the pages that keep enough
text a fixed number is drawn per language, in a hash order.
``LICENCES.md`` is written beside the data, with the authors that the pages credit.  The
same package versions give the same files.

Needs ``apt-get`` and ``dpkg-deb``, and the packages ``orjson`` and ``zstandard``::

    python examples/data/build_text.py --cache corpus-cache
"""

from __future__ import annotations

import argparse
import hashlib
import html
import io
import re
import subprocess
import tarfile
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import orjson
import zstandard

MIN_BYTES = 600
MIN_SCRIPT_SHARE = 0.4
GNOME_LANGUAGES = ("C", "de", "el", "es", "fr", "ja", "ko", "mr", "ru", "ta", "zh_CN")


class Origin(NamedTuple):
    """A package, and what is taken from it."""

    name: str
    package: str
    path: str  # groups: language (may be empty), page
    licence: str
    pages: dict[str, int]  # documents by the package's name of a language
    notice: str


ORIGINS = [
    Origin(
        name="gnome-help",
        package="gnome-user-docs",
        path=r"^usr/share/help/([\w@]+)/gnome-help/([\w-]+)\.page$",
        licence="CC-BY-SA-3.0",
        pages=dict.fromkeys(GNOME_LANGUAGES, 50),
        notice=(
            "GNOME desktop help, © 2010-2014 Shaun McCance and the contributors to the GNOME"
            " Documentation Project, under the Creative Commons Attribution-ShareAlike 3.0"
            " Unported licence (https://creativecommons.org/licenses/by-sa/3.0/). The pages and"
            " their translations credit:"
        ),
    ),
    Origin(
        name="debian-handbook",
        package="debian-handbook",
        path=r"^usr/share/doc/debian-handbook/html/([\w-]+)/([\w.-]+)\.html$",
        licence="CC-BY-SA-3.0",
        pages={
            "en-US": 30,
            "ar-MA": 90,
            "fa-IR": 90,
            "ja-JP": 25,
            "ru-RU": 30,
            "fr-FR": 20,
            "zh-CN": 40,
        },
        notice=(
            "The Debian Administrator's Handbook, © 2003-2015 Raphaël Hertzog, © 2006-2015"
            " Roland Mas, © 2013-2015 Freexian SARL, and its volunteer translators. The work"
            " is under the GNU GPL, version 2 or later, or the Creative Commons"
            " Attribution-ShareAlike 3.0 Unported licence"
            " (https://creativecommons.org/licenses/by-sa/3.0/); the latter is the one used here."
        ),
    ),
    Origin(
        name="python-docs",
        package="python3.11-doc",
        path=r"^usr/share/doc/python3\.11/html/_sources/()((?:tutorial|faq|howto)/\w+)\.rst\.txt$",
        licence="PSF-2.0",
        pages={"": 30},
        notice=(
            "Python documentation (tutorial, questions and answers, how-to guides), © 2001-2023"
            " Python Software Foundation, all rights reserved, under the Python Software"
            " Foundation License, version 2, which follows."
        ),
    ),
]
SCRIPTS = {
    "ar": "ARABIC",
    "el": "GREEK",
    "fa": "ARABIC",
    "he": "HEBREW",
    "hi": "DEVANAGARI",
    "mr": "DEVANAGARI",
    "ja": "CJK HIRAGANA KATAKANA",
    "ko": "HANGUL",
    "ru": "CYRILLIC",
    "ta": "TAMIL",
    "zh": "CJK",
}
_HIDDEN = re.compile(
    r"<!--.*?-->|<(script|style|head|info)\b.*?</\1\s*>|<\?.*?\?>"
    r'|<ul class="docnav.*?</ul>|<div id="banner">.*?</div>|<p id="title">.*?</p>',
    re.DOTALL,
)
_PRE = re.compile(r"<(pre|screen|code)\b[^>]*>(.*?)</\1>", re.DOTALL)
_BLOCK = re.compile(r"</?(?:p|div|li|h\d|tr|table|title|br|dt|dd|item|section|ul|td)\b[^>]*>")
_NAME = re.compile(r"<credit\b.*?<name>(.*?)</name>|<mal:name>(.*?)</mal:name>", re.DOTALL)


def read_package(file: Path) -> Iterator[tuple[str, str]]:
    """Yield the path and text of each UTF-8 file of a Debian package, unpacking nothing."""
    command = ["dpkg-deb", "--fsys-tarfile", str(file)]
    data = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(data), mode="r|") as tar:
        for member in tar:
            content = tar.extractfile(member) if member.isreg() else None
            if content is not None and member.name.endswith((".page", ".html", ".txt")):
                yield member.name.removeprefix("./"), content.read().decode()


def strip_markup(text: str) -> str:
    """Return the readable text of a Mallard or HTML page, a paragraph a line."""
    text = _HIDDEN.sub("", text)
    text = _PRE.sub(lambda match: match[2].replace("\n", "\0"), text)
    text = _BLOCK.sub("\1", re.sub(r"\s+", " ", text))
    text = html.unescape(re.sub(r"<[^<>]*>", "", text)).replace("\0", "\n")
    lines = (line.strip() for line in text.split("\1"))
    return "\n".join(line for line in lines if line) + "\n"


def script_share(text: str, lang: str) -> float:
    """Return the share of the letters that are in the language's script."""
    letters = [character for character in text if character.isalpha()]
    wanted = tuple(SCRIPTS.get(lang, "LATIN").split())
    hits = sum(unicodedata.name(letter, "").startswith(wanted) for letter in letters)
    return hits / max(1, len(letters))


def build(origin: Origin, file: Path) -> tuple[list[dict[str, str]], set[str]]:
    """Return the documents of an origin, and the people its pages credit."""
    found: dict[str, list[dict[str, str]]] = {language: [] for language in origin.pages}
    names: set[str] = set()
    for path, source in read_package(file):
        match = re.match(origin.path, path)
        if match is None or match[1] not in origin.pages:
            continue
        people = (html.unescape(a or b) for a, b in _NAME.findall(source))
        names.update(" ".join(re.sub(r" *<[^>]*>|,? *\d{4}|,+$", "", name).split()) for name in people)
        lang = re.split("[-_]", match[1])[0].replace("C", "en") or "en"
        text = source if path.endswith(".txt") else strip_markup(source)
        if lang in SCRIPTS:
            lines = text.splitlines(keepends=True)
            text = "".join(ln for ln in lines if script_share(ln, lang) >= MIN_SCRIPT_SHARE)
        if len(text.encode()) >= MIN_BYTES:
            name = f"{origin.name}/{lang}/{match[2]}"
            row = {"id": name, "text": text, "lang": lang, "licence": origin.licence}
            found[match[1]].append(row)
    rows: list[dict[str, str]] = []
    for language, count in origin.pages.items():
        rows += sorted(found[language], key=_rank)[:count]
    return sorted(rows, key=_rank), names


def agreement(file: Path) -> str:
    """Return the licence agreement of the Python documentation, as a quoted block."""
    (page,) = (text for path, text in read_package(file) if path.endswith("/license.rst.txt"))
    text = page[page.index("PSF LICENSE AGREEMENT") : page.index("\nBEOPEN.COM")]
    version = re.findall(r"python([\d.]+)-doc_([\d.]+)", file.name)[0][1]
    lines = text.replace("|release|", version).replace(".. parsed-literal::\n\n", "").strip()
    return "\n".join(f"    {line.strip()}".rstrip() for line in lines.splitlines())


def _rank(row: dict[str, str]) -> bytes:
    return hashlib.blake2b(row["id"].encode()).digest()


def fetch(package: str, cache: Path) -> Path:
    """Return a package's file, downloaded unless the cache has it."""
    cache.mkdir(parents=True, exist_ok=True)
    if not any(cache.glob(f"{package}_*.deb")):
        subprocess.run(["apt-get", "download", "-qq", package], cwd=cache, check=True)
    return max(cache.glob(f"{package}_*.deb"))


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "text")
    parser.add_argument("--cache", type=Path, default=Path("corpus-cache"), help="packages")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    notes = [
        "# Licences of the demo texts",
        (
            "Written by `examples/data/build_text.py`. Each document's `licence` field has its"
            " SPDX identifier. The pages were changed: markup, navigation, credits and paragraphs"
            " left untranslated are removed, white space is folded. The texts keep their licences;"
            " the licence of the project's code does not apply to them."
        ),
    ]
    for origin in ORIGINS:
        file = fetch(origin.package, options.cache)
        rows, names = build(origin, file)
        data = b"".join(orjson.dumps(r, option=orjson.OPT_APPEND_NEWLINE) for r in rows)
        path = options.out / f"{origin.name}.jsonl.zst"
        path.write_bytes(zstandard.ZstdCompressor(level=19).compress(data))
        counts = {lang: sum(r["lang"] == lang for r in rows) for lang in {r["lang"] for r in rows}}
        summary = ", ".join(f"{lang} {count}" for lang, count in sorted(counts.items()))
        version = file.name.split("_")[1].replace("%3a", ":")
        notes += [
            f"## {path.name}",
            (
                f"- Origin: Debian package `{origin.package}` {version}\n"
                f"- Licence: {origin.licence}\n"
                f"- Documents by language: {summary}"
            ),
            origin.notice,
        ]
        if names:
            notes.append(", ".join(sorted(names)) + ".")
        if origin.licence == "PSF-2.0":
            notes.append(agreement(file))
        print(f"{path.name}: {len(rows)} documents ({summary}), {len(data)} bytes of JSON")
    (options.out / "LICENCES.md").write_text("\n\n".join(notes) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
