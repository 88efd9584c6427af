"""The canonical text of a module as far as it is a matter of text: what is dropped or put in order of LLVM's print.

All of it works on text that LLVM has printed: strings have no line breaks and no bare quotation marks in them, and
top-level lines begin in the first column. The processes that read modules import this: standard library only.
"""

from __future__ import annotations

import re

#: What LLVM calls the source of a module that names none.
_NO_SOURCE = b'source_filename = "<string>"\n'
_LOCAL = rb'(?:"[^"\n]*"|[-\w$.]+)'
#: The comment of a block with two or more predecessors. It begins with what is searched for fast.
_PREDECESSORS = re.compile(rb"; preds = (%[^\n]*, %[^\n]*)$", re.MULTILINE)
_LABEL = re.compile(rb"^(" + _LOCAL + rb"):", re.MULTILINE)
_REFERENCE = re.compile(rb"%(" + _LOCAL + rb")")
_COMMENT_LINES = re.compile(rb"^;[^\n]*\n", re.MULTILINE)
_COMMENT = re.compile(rb'("[^"\n]*")|;[^\n]*')
_BEFORE_COMMENT = re.compile(rb": +$", re.MULTILINE)
_SOURCE = re.compile(rb'^source_filename = "[^"\n]*"\n', re.MULTILINE)
_FLAGS = re.compile(rb"^!llvm\.module\.flags = !\{([^}\n]*)\}\n", re.MULTILINE)
_DEBUG_VERSION = re.compile(rb'^(!\d+) = !\{i32 \d+, !"Debug Info Version", i32 \d+\}$', re.MULTILINE)
_FILE = re.compile(rb"^(![0-9]+ = (?:distinct )?!DIFile\()([^\n]*)\)$", re.MULTILINE)
_FILENAME = re.compile(rb'filename: "[^"\n]*"')
_DIRECTORY = re.compile(rb'directory: "[^"\n]*"')
_ATTRIBUTES = re.compile(rb"^(attributes #\d+ = \{)([^\n]*)\}$", re.MULTILINE)
_TARGET_ATTRIBUTE = re.compile(rb' "(?:target-cpu|target-features|tune-cpu)"(?:="[^"\n]*")?')


def without_module_id(text: bytes) -> bytes:
    """Return the text without its first line where that names the file it was read from."""
    if text.startswith(b"; ModuleID = "):
        text = text[text.index(b"\n") + 1 :]
    return text.replace(_NO_SOURCE, b"", 1) if text.startswith(_NO_SOURCE) else text


def with_ordered_predecessors(text: bytes) -> bytes:
    """Return the text with the blocks that each label's comment names in falling order of their place.

    LLVM prints them in the order of its lists of uses, which tell of how the module was made. In this order a module
    prints them that was read from text.
    """
    places: dict[bytes, int] = {}
    within = (0, 0)

    def ordered(found: re.Match[bytes]) -> bytes:
        nonlocal places, within
        if _LABEL.match(text, text.rfind(b"\n", 0, found.start()) + 1) is None:
            return found[0]  # inside a string
        names: list[bytes] = _REFERENCE.findall(found[1])
        if all(map(bytes.isdigit, names)):
            names.sort(key=int, reverse=True)
        else:
            if not within[0] <= found.start() < within[1]:
                start, stop = text.rfind(b"\ndefine ", 0, found.start()) + 1, text.find(b"\n}\n", found.end())
                within = (start, stop)
                places = {label[1]: place for place, label in enumerate(_LABEL.finditer(text, start, stop))}
            names.sort(key=lambda name: places.get(name, -1), reverse=True)  # the entry may have no label
        return b"; preds = " + b", ".join(b"%" + name for name in names)

    return _PREDECESSORS.sub(ordered, text)


def without_comments(text: bytes) -> bytes:
    """Return the text without comments, and without lines that hold nothing else."""
    return _BEFORE_COMMENT.sub(b":", _COMMENT.sub(rb"\1", _COMMENT_LINES.sub(b"", text)))


def without_source(text: bytes) -> bytes:
    """Return the text without the line that names the source."""
    return _SOURCE.sub(b"", text, count=1)


def without_debug_version(text: bytes) -> bytes:
    """Return the text without the module flag that debug information depends on: LLVM drops it all on reading."""
    found = _DEBUG_VERSION.search(text)
    flags = _FLAGS.search(text)
    if found is None or flags is None:
        return text
    kept = [number for number in flags[1].split(b", ") if number != found[1]]
    line = b"!llvm.module.flags = !{" + b", ".join(kept) + b"}\n" if kept else b""
    return text[: flags.start()] + line + text[flags.end() :]


def without_paths(text: bytes) -> bytes:
    """Return the text with all files of its debug information called `-`, in no directory.

    LLVM takes debug information of a file without a name for broken, and drops it all.
    """

    def nameless(found: re.Match[bytes]) -> bytes:
        named = _FILENAME.sub(b'filename: "-"', found[2], count=1)
        return found[1] + _DIRECTORY.sub(b'directory: ""', named, count=1) + b")"

    return _FILE.sub(nameless, text)


def without_target_attributes(text: bytes) -> bytes:
    """Return the text with attribute groups that say nothing of the processor."""
    return _ATTRIBUTES.sub(lambda found: found[1] + _TARGET_ATTRIBUTE.sub(b"", found[2]) + b"}", text)
