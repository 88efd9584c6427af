"""Very long texts: cut them into pieces, so that the pieces' tokens laid end to end are exactly the text's.

Engines are fast on ordinary text but superlinear (or worse) on one pre-token of megabytes: a million spaces, base64
without a break. Two kinds of cut keep every piece short.

**Safe cuts** lie where the pre-tokenization pattern has a boundary whatever surrounds it: no alternative can match
both characters (a non-space and the space after it), and no look-ahead reaches across.

**Joints** lie inside one giant pre-token. Two facts make them exact:

1. *Byte-pair encoding.* Let p split a byte string into L and R, let t be the last token of BPE(L) and u the first of
   BPE(R). If BPE(t·u) = [t, u], then BPE(L·R) = BPE(L) + BPE(R). For suppose that some merge crosses p, and take the
   first. Until then both sides evolve as if alone, and within them the bytes of t and of u as if alone too; merges go
   by rank, leftmost first, and a part's order is the whole's; so the same merge would cross p in BPE(t·u).
   (The criterion is that of the Rust crate `bpe`, github.com/github/rust-gems.)
2. *The pattern.* At the positions that `Joints.accepts` names, the text before p still ends in one pre-token that
   reaches p, and the text from p on still begins with one that ends where the giant one did.

A chunk's last tokens suffer from its being cut off, so some are dropped and the next chunk starts where they did. If
the tokens that meet there are not compatible, more are dropped; in the worst case the chunk grows to the whole text.
"""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.uint32]
EncodeText = Callable[[str], Ids]

# `\s` here is Python's, which holds the patterns' (White_Space) and four control characters more: that errs to the
# safe side. Letters and punctuation are listed only where no version of Unicode disagrees.
_LETTERS = "A-Za-zぁ-ゖァ-ヺ一-龥"
_PUNCTUATION_BUT_APOSTROPHE = r"!-&(-/:-@\[-`{-~、。，！？"
_ASCII_PUNCTUATION = frozenset("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~")
_WHITE_SPACE = (  # the property White_Space, which has not changed since Unicode 6.3
    "\t\n\x0b\x0c\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)
_WHITE_SPACES = re.compile(f"[{_WHITE_SPACE}]*")
_NEWLINES = re.compile(r"[\r\n]*")
_COUNTED_DIGITS = re.compile(r"[ A-Za-z!-/:-@\[-`{-~]?([0-9]+)")
_CASELESS = frozenset({"Lo", "Lm", "Mn", "Mc", "Me"})
_DROPPED_TOKENS = 16  # A token depends on what follows through chains of merges; longer ones than this are rare.


@dataclass(frozen=True)
class Family:
    r"""What the proofs need to know of a pre-tokenization pattern.

    Attributes:
        newlines: `\s*[\r\n]+` comes before the other white space, and punctuation takes newlines along.
        cased: Words are `[upper]*[lower]+` with marks among the letters; otherwise `\p{L}+`.
        digits: The most digits in a pre-token; None for any number.
    """

    newlines: bool
    cased: bool
    digits: int | None

    def cut_pattern(self) -> re.Pattern[str]:
        """Return a pattern whose matches `_cut_of` turns into safe cuts.

        It starts with one set of characters, so that `re` skips all others quickly; what comes before is looked at
        afterwards.
        """
        characters = rf" \t\xa0\u3000\r\n{_PUNCTUATION_BUT_APOSTROPHE}0-9"
        behind = [
            r"(?<=\S[ \t\xa0\u3000])",  # only the first character of a match can be a space before something else
            rf"(?<=[{_LETTERS}0-9][\r\n{_PUNCTUATION_BUT_APOSTROPHE}])",  # words end with letters, marks, contractions
            r"(?<=[A-Za-z][0-9])",
        ]
        if self.cased:
            characters += "A-Z"
            behind.append(r"(?<=[a-km-qstuw-z][A-Z])")  # not after l, r, v: 'lL, 'rE and 'vE are contractions
        if self.newlines:
            behind.insert(0, r"(?P<after>(?<=[\r\n])(?=[^\s/]))")
        return re.compile(f"[{characters}](?:{'|'.join(behind)})")


def _cut_of(found: re.Match[str]) -> int:
    return found.end() if found.lastgroup == "after" else found.start()


O200K = Family(newlines=True, cased=True, digits=3)
CL100K = Family(newlines=True, cased=False, digits=3)
GPT2 = Family(newlines=False, cased=False, digits=None)


class ByteLevelPairs:
    """Tells whether two tokens may stand side by side: whether their bytes together encode to just these two.

    Attributes:
        lengths: `[id]`, bytes of each token.
    """

    def __init__(self, ranks: Mapping[bytes, int]) -> None:
        self._ranks = ranks
        self._tokens = {rank: token for token, rank in ranks.items()}
        self.lengths = np.zeros(max(self._tokens) + 1, np.int64)
        for rank, token in self._tokens.items():
            self.lengths[rank] = len(token)
        self.compatible = lru_cache(maxsize=1 << 16)(self._compatible)

    def _compatible(self, left: int, right: int) -> bool:
        left_bytes, right_bytes = self._tokens[left], self._tokens[right]
        return merge(left_bytes + right_bytes, self._ranks) == [left_bytes, right_bytes]


def merge(piece: bytes, ranks: Mapping[bytes, int]) -> list[bytes]:
    """Encode bytes by the definition of BPE: while any adjacent pair has a rank, join the leftmost of the least."""
    parts = [piece[index : index + 1] for index in range(len(piece))]
    while len(parts) > 1:
        pairs = [ranks.get(parts[index] + parts[index + 1], sys.maxsize) for index in range(len(parts) - 1)]
        least = min(pairs)
        if least == sys.maxsize:
            break
        at = pairs.index(least)
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
    return parts


class Cutter:
    """Encodes long texts in pieces, for one pattern family.

    Args:
        family: Of the pattern that `encode` uses.
        encode: Encodes a text that is not long.
        pairs: Returns the vocabulary's token pairs; called when the first joint is made.
        piece_characters: Texts up to this length are not long. 64 Ki: an engine's superlinear behaviour hardly shows.
        chunk_characters: Size of the chunks of a giant pre-token. 8 Ki: where engines are fastest on those.
    """

    def __init__(
        self,
        family: Family,
        encode: EncodeText,
        pairs: Callable[[], ByteLevelPairs],
        piece_characters: int = 1 << 16,
        chunk_characters: int = 1 << 13,
    ) -> None:
        self._family = family
        self._safe = family.cut_pattern()
        self._encode = encode
        self._pairs = pairs
        self._piece = piece_characters
        self._chunk = chunk_characters

    def encode(self, text: str) -> Ids:
        """Return the ids of a text of any length."""
        parts: list[Ids] = []
        start = 0
        while len(text) - start > self._piece:
            cut = self._last_safe(text, start, start + self._piece)
            if cut is not None:
                parts.append(self._encode(text[start:cut]))
            else:
                cut = self._next_safe(text, start + self._piece)
                parts.extend(self._splice(text[start:cut]))
            start = cut
        parts.append(self._encode(text[start:]))
        return np.concatenate(parts)

    def has_short_pre_tokens(self, text: str) -> bool:
        """Tell whether a text has safe cuts at most `piece_characters` apart, so that no pre-token is longer."""
        start = 0
        while len(text) - start > self._piece:
            cut = self._last_safe(text, start, start + self._piece)
            if cut is None:
                return False
            start = cut
        return True

    def _last_safe(self, text: str, start: int, stop: int) -> int | None:
        """Return the last safe cut in (start, stop), looking in ever wider windows, from the end."""
        window, upper = 256, stop
        while upper - start > 1:
            lower = max(start, upper - window)
            last = None
            for found in self._safe.finditer(text, lower, upper):
                last = found
            if last is not None and _cut_of(last) > start:
                return _cut_of(last)
            if lower == start:
                break
            window, upper = window * 4, lower + 1
        return None

    def _next_safe(self, text: str, start: int) -> int:
        # No cut lies within white space, and `re` is twenty times faster at walking through it.
        found = self._safe.search(text, max(start, _match_end(_WHITE_SPACES, text, start) - 1))
        return len(text) if found is None else _cut_of(found)

    def _splice(self, text: str) -> list[Ids]:
        """Encode a text without safe cuts, in chunks that meet at joints."""
        pieces: list[tuple[int, Ids]] = []  # where each starts, and its ids; adjacent ones are compatible
        joints = Joints(text, self._family)
        start, chunk = 0, self._chunk
        trouble = 0  # chunks stay enlarged up to here, or the same joint would be tried again and again
        while True:
            stop = joints.last(start, start + chunk)
            ids = self._encode(text[start:stop])
            if pieces and not joints.is_boundary(start) and not self._fit(pieces[-1][1], ids):
                trouble, chunk = max(trouble, stop), 2 * chunk
                left_start, left = pieces.pop()
                shorter = self._shorten(text, left_start, start, left, joints)
                start = left_start if shorter is None else shorter[1]
                if shorter is not None:
                    pieces.append((left_start, shorter[0]))
                continue
            if stop == len(text):
                return [*(piece for _, piece in pieces), ids]
            shorter = self._shorten(text, start, stop, ids, joints)
            if shorter is None:
                trouble, chunk = max(trouble, stop), 2 * chunk
                continue
            pieces.append((start, shorter[0]))
            start = shorter[1]
            if start > trouble:
                chunk = self._chunk

    def _fit(self, left: Ids, right: Ids) -> bool:
        return self._pairs().compatible(int(left[-1]), int(right[0]))

    def _shorten(self, text: str, start: int, stop: int, ids: Ids, joints: Joints) -> tuple[Ids, int] | None:
        """Drop tokens from the end, back to a joint; None where no token would be left."""
        ends = np.cumsum(self._pairs().lengths[ids])
        document = np.frombuffer(text[start:stop].encode(), np.uint8)
        is_character_start = (document & 0xC0) != 0x80
        characters = np.cumsum(is_character_start)
        for kept in range(len(ids) - min(_DROPPED_TOKENS, (len(ids) + 1) // 2), 0, -1):
            end = int(ends[kept - 1])
            if is_character_start[end]:
                position = start + int(characters[end]) - 1
                if joints.accepts(start, position):
                    return ids[:kept], position
        return None


class Joints:
    """The positions of a text where a giant pre-token may be taken apart."""

    def __init__(self, text: str, family: Family) -> None:
        self._text = text
        self._family = family
        self._spaces = (0, 0, -1)  # start, end and last newline of the run of white space looked at last
        self._caseless = (0, 0)  # start and end of the run of letters without case looked at last

    def last(self, start: int, stop: int) -> int:
        """Return the last joint of text[start:] up to `stop`, or the first one that is found further on, or the end."""
        size = stop - start
        while stop < len(self._text):
            for position in range(stop, max(start, stop - 256), -1):
                if self.accepts(start, position):
                    return position
            size *= 2
            stop = start + size
        return len(self._text)

    def is_boundary(self, position: int) -> bool:
        """Tell whether an accepted position is the end of a pre-token, so that the tokens there never met."""
        left = self._text[position - 1]
        return self._family.digits is not None and left.isascii() and left.isdigit()

    def accepts(self, start: int, position: int) -> bool:
        """Tell whether text[start:], pre-tokenized, may be taken apart at this position.

        That is: text[start:position] ends with one pre-token that is the beginning of the whole's (or all of it), and
        text[position:] begins with one that is the rest of it (or is the next).
        """
        text = self._text
        if not start < position < len(text):
            return False
        left, right = text[position - 1], text[position]
        if left in _WHITE_SPACE:
            return right in _WHITE_SPACE and self._in_white_space(start, position)
        if left.isascii() and left.isdigit():
            return self._in_digits(start, position)
        if left in _ASCII_PUNCTUATION:
            return self._in_punctuation(start, position)
        return self._in_letters(start, position)

    def _in_white_space(self, start: int, position: int) -> bool:
        if not self._family.newlines:
            return True  # `\s+(?!\S)` takes all but the last, whichever they are
        text = self._text
        self._look_at_spaces(position)
        _, end, newline = self._spaces
        if position > newline:  # and text[position - 1] may be that newline
            return True
        if text[position - 1] not in "\r\n":
            return False
        run = start + len(text[start:position].rstrip(_WHITE_SPACE))
        if run == start or (text[run - 1].isascii() and text[run - 1].isalnum()):
            return True
        # Punctuation before the run takes the newlines at its start along, and only those.
        taken = _match_end(_NEWLINES, text, run)
        return position > taken or (taken == end and text[end : end + 1] != "/")

    def _look_at_spaces(self, position: int) -> None:
        """Fill in `_spaces` for the run from `position` on; a run of megabytes is looked through once."""
        text = self._text
        first, end, newline = self._spaces
        if first <= position < end:
            return
        if position < first and _match_end(_WHITE_SPACES, text, position, first) == first:
            new = first  # the run reaches further back than known: only what is new is looked through
        else:
            new = end = _match_end(_WHITE_SPACES, text, position)
            newline = -1
        if newline < 0:
            newline = max(text.rfind("\n", position, new), text.rfind("\r", position, new))
        self._spaces = (position, end, newline)

    def _in_digits(self, start: int, position: int) -> bool:
        text = self._text
        if self._family.digits is None:
            return text[position].isascii() and text[position].isdigit()
        counted = _COUNTED_DIGITS.fullmatch(text, start, position)
        return counted is not None and len(counted[1]) % self._family.digits == 0

    def _in_punctuation(self, start: int, position: int) -> bool:
        text = self._text
        before, after = text[max(start, position - 4) : position], text[position : position + 2]
        if len(before) < 4 or len(after) < 2 or not _ASCII_PUNCTUATION.issuperset(before + after):
            return False  # with one mark after the cut, a letter could take it: `!a`
        # Slashes may be what an earlier pre-token takes along after its newlines.
        return before != "////" or not text[start:position].strip("/")

    def _in_letters(self, start: int, position: int) -> bool:
        text = self._text
        # Four letters before: more than a contraction has.
        before = {unicodedata.category(character) for character in text[max(start, position - 4) : position]}
        after = unicodedata.category(text[position])
        if position - start < 4:
            return False
        if not self._family.cased:
            return after[0] == "L" and all(category[0] == "L" for category in before)
        if before <= {"Ll", "Lo"}:
            return after == "Ll" or (after == "Lo" and self._lower_follows(position))
        # Capitals may turn out to begin a word in lower case, with all that precedes them in it: see the whole of it.
        word = text[start:position]
        return after == "Lu" and before == {"Lu"} and word.isascii() and word[1:].isalpha() and word[1:].isupper()

    def _lower_follows(self, position: int) -> bool:
        """Tell whether the caseless letters from here on end where they do in any word they are part of.

        Not so before a capital: `a的B` is two words, `的Bc` is one.
        """
        first, end = self._caseless
        if not first <= position < end:
            letters = _caseless_letters()
            if position >= first or _match_end(letters, self._text, position, first) != first:
                end = _match_end(letters, self._text, position)
            self._caseless = (position, end)
        following = self._text[self._caseless[1] : self._caseless[1] + 1]
        return not following or unicodedata.category(following) not in {"Lu", "Lt", "Cn"}


def _match_end(pattern: re.Pattern[str], text: str, position: int, stop: int | None = None) -> int:
    found = pattern.match(text, position, len(text) if stop is None else stop)
    return position if found is None else found.end()


@lru_cache(maxsize=1)
def _caseless_letters() -> re.Pattern[str]:
    """Return a pattern for a run of letters without case and of marks."""
    ranges: list[list[int]] = []
    for code in range(sys.maxunicode + 1):
        if unicodedata.category(chr(code)) in _CASELESS:
            if ranges and ranges[-1][1] == code - 1:
                ranges[-1][1] = code
            else:
                ranges.append([code, code])
    return re.compile("[" + "".join(f"\\U{first:08x}-\\U{last:08x}" for first, last in ranges) + "]*")
