"""The alphabet of units: which number stands for what, and the tables both directions of the coding share.

A unit is the smallest thing that tokens are made of: a byte, a frequent lexeme, the start of a kind of line, an
operand. Numbers below `FIRST_LEXEME` are fixed here; then come the lexemes and the common names, which a vocabulary
brings.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

# Line starts: each begins with the line's newline (a text is coded as if a newline stood before it).
NEWLINE = 256
INDENT_2 = 257
INDENT_4 = 258
INDENT_10 = 259
DEFINE = 260  # "define"
END_OF_FUNCTION = 261  # "}"
NUMBERED = 262  # "  %N =", N the next number of the function
NUMBERED_ALLOCA = 263  # "  %N = alloca"
NAMED = 264  # "  %name =": a name follows
NAMED_ALLOCA = 265
LABEL = 266  # a blank line, "N:" and the comment on predecessors
LABEL_RAW = 267  # a blank line and "N:"; what stands behind the colon follows
NAMED_LABEL = 268
NAMED_LABEL_RAW = 269
NODE = 270  # "!N =", N the next number of nodes
LAST_LINE_START = NODE
# Parameters of a definition: " %N", and " %" before a name.
PARAMETER = 271
NAMED_PARAMETER = 272
# Sigils, a name follows.
AT = 273
SPACE_AT = 274
PERCENT = 275
SPACE_PERCENT = 276
DOLLAR = 277
SPACE_DOLLAR = 278
STRING_NAME = 279  # a string that is a name of the module
SPACE_STRING_NAME = 280
# Sigils, a number follows.
BANG = 281
SPACE_BANG = 282
HASH = 283
SPACE_HASH = 284
# From here on operands: no part of a line's template.
FIRST_OPERAND = 285
NEW_NAME = 285  # bytes of a name follow
NEXT_STRING = 286  # ".str", ".str.1", …: the next one
FAR_NAME = 287  # three digits follow, as in all units called FAR
NODE_AGAIN = 288  # the node that stood behind this template the last time
FAR_NODE = 289
GROUP_AGAIN = 290
NEW_GROUP = 291
FAR_GROUP = 292
FAR_SLOT = 293  # to 296, a unit for each kind of slot

# Numbers in the definition of a node: " 123".
NUMBER = 297  # digits follow
NUMBER_AGAIN = 298  # the last number of this line
# What a name is spelled with, at its first mention.
NAME_BYTES = 299
HEX_PAIRS = NAME_BYTES + 256  # two hexadecimal digits of a long run
PART_AGAIN = HEX_PAIRS + 256  # the part that followed the part before, the last time
PARTS = PART_AGAIN + 1
PARTS_COUNT = 1024
LAST_OF_NAME = PARTS + PARTS_COUNT - 1
NAMES = LAST_OF_NAME + 1
NAMES_COUNT = 1024
NODES = NAMES + NAMES_COUNT
NODES_COUNT = 320
NEAR_NODES = NODES + NODES_COUNT
NEAR_NODES_BACK = 16
NEAR_NODES_COUNT = 48
STEP_NODES = NEAR_NODES + NEAR_NODES_COUNT
STEP_NODES_BACK = 8
STEP_NODES_COUNT = 40
STEP_NUMBERS = STEP_NODES + STEP_NODES_COUNT
STEP_NUMBERS_BACK = 16
STEP_NUMBERS_COUNT = 64
RAW_HEX_PAIRS = STEP_NUMBERS + STEP_NUMBERS_COUNT  # two hexadecimal digits of a long run in a lexeme
GROUPS = RAW_HEX_PAIRS + 256
GROUPS_COUNT = 64
PARAMETERS = GROUPS + GROUPS_COUNT
PARAMETERS_COUNT = 24
ALLOCAS = PARAMETERS + PARAMETERS_COUNT
ALLOCAS_COUNT = 128
VALUES = ALLOCAS + ALLOCAS_COUNT
VALUES_BACK = 96
VALUES_COUNT = 112
BLOCKS = VALUES + VALUES_COUNT
BLOCKS_BACK = 32
BLOCKS_COUNT = 96
FIRST_LEXEME = BLOCKS + BLOCKS_COUNT

# Kinds of slots: what a local name of a function stands for.
PARAMETER_SLOT, ALLOCA_SLOT, VALUE_SLOT, BLOCK_SLOT = range(4)

#: Numbers from here on are spelled.
FAR_LIMIT = 1 << 23
#: Most names of a module that get a number, and most slots and edges of a function.
MODULE_NAMES = 1 << 18
SLOTS = 1 << 20
EDGES = 1 << 21
#: Entries of the memories of what stood behind a template.
MEMORY = 1 << 12
LONGEST_LEXEME = 40
#: A hash table is searched no further than this: hostile texts cannot make it slow.
PROBES = 64
#: Most bytes of a part of a name.
LONGEST_PART = 128

# Fields of the state that both directions keep alike.
NEXT_LOCAL = 0
COUNT_PARAMETERS = 1
COUNT_ALLOCAS = 2
COUNT_VALUES = 3
COUNT_BLOCKS = 4
COUNT_SLOTS = 5
COUNT_EDGES = 6
IN_FUNCTION = 7
NEXT_NODE = 8
HIGHEST_NODE = 9
HIGHEST_GROUP = 10
NEXT_STR = 11
COUNT_NAMES = 12
TEMPLATE = 13
LINE_NAME = 14
LINE_NODE = 15
FUNCTION_NUMBER = 16
IN_DEFINE = 17
LINE_VALUES = 18
LAST_NAME = 19
COUNT_FIXES = 20
COUNT_PARTS = 21
LAST_PART = 22
LINE_NUMBER = 23
TOTAL_NAMES = 24
STATE_FIELDS = 25

Bytes = npt.NDArray[np.uint8]
Units = npt.NDArray[np.uint16]
Ints = npt.NDArray[np.int64]
Slots = npt.NDArray[np.int32]


class Strings(NamedTuple):
    """Byte strings with a hash table to find them by.

    Attributes:
        data: uint8 `[byte]`, all strings end to end.
        starts: int64 `[string + 1]`.
        table: int32 `[bucket]`, open addressing, a power of two: the string's number + 1, or 0.
    """

    data: Bytes
    starts: npt.NDArray[np.int64]
    table: npt.NDArray[np.int32]


class Tables(NamedTuple):
    """What a vocabulary brings to the units.

    Attributes:
        lexemes: Their units begin at FIRST_LEXEME.
        names: Common names; their units follow those of the lexemes.
        label: The unit of the lexeme " label".
    """

    lexemes: Strings
    names: Strings
    label: int


def string_hash(data: bytes) -> int:
    """Return the hash by which a string is found; `units.hash_bytes` computes the same."""
    value = 2166136261
    for byte in data:
        value = ((value ^ byte) * 16777619) & 0xFFFFFFFF
    return value ^ (value >> 15)


def strings(values: Sequence[bytes]) -> Strings:
    """Lay strings out with a hash table at most a quarter full."""
    size = 16
    while size < 4 * len(values):
        size *= 2
    table = np.zeros(size, np.int32)
    for number, value in enumerate(values):
        place = string_hash(value) & (size - 1)
        while table[place]:
            place = (place + 1) & (size - 1)
        table[place] = number + 1
    starts = np.zeros(len(values) + 1, np.int64)
    np.cumsum([len(value) for value in values], out=starts[1:])
    return Strings(np.frombuffer(b"".join(values) + bytes(8), np.uint8).copy(), starts, table)


def tables(lexemes: Sequence[bytes], names: Sequence[bytes]) -> Tables:
    """Return the tables of a vocabulary; " label" must be one of the lexemes."""
    return Tables(strings(lexemes), strings(names), FIRST_LEXEME + list(lexemes).index(b" label"))
