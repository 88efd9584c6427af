"""Units as people read them, for reports."""

from __future__ import annotations

from tokenmill.tokenizers.llvm_ir import layout
from tokenmill.tokenizers.llvm_ir.vocabulary import Vocabulary

_FIXED = {
    layout.NEWLINE: "\n",
    layout.INDENT_2: "\n  ",
    layout.INDENT_4: "\n    ",
    layout.INDENT_10: "\n          ",
    layout.DEFINE: "\ndefine",
    layout.END_OF_FUNCTION: "\n}",
    layout.NUMBERED: "\n  %{next} =",
    layout.NUMBERED_ALLOCA: "\n  %{next} = alloca",
    layout.NAMED: "\n  %{named} = ",
    layout.NAMED_ALLOCA: "\n  %{named} = alloca ",
    layout.LABEL: "\n{block}:",
    layout.LABEL_RAW: "\n{block, other comment}:",
    layout.NAMED_LABEL: "\n{named block}:",
    layout.NAMED_LABEL_RAW: "\n{named block, other comment}:",
    layout.NODE: "\n!{next} =",
    layout.PARAMETER: " %{next}",
    layout.NAMED_PARAMETER: " %{named}",
    layout.AT: "@",
    layout.SPACE_AT: " @",
    layout.PERCENT: "%",
    layout.SPACE_PERCENT: " %",
    layout.DOLLAR: "$",
    layout.SPACE_DOLLAR: " $",
    layout.STRING_NAME: '"name"',
    layout.SPACE_STRING_NAME: ' "name"',
    layout.BANG: "!",
    layout.SPACE_BANG: " !",
    layout.HASH: "#",
    layout.SPACE_HASH: " #",
    layout.NUMBER: " ",
    layout.NUMBER_AGAIN: " {same number}",
    layout.PART_AGAIN: "{same part}",
    layout.NEW_NAME: "{new name}",
    layout.NEXT_STRING: "{next .str}",
    layout.FAR_NAME: "{far name}",
    layout.NODE_AGAIN: "{same node}",
    layout.FAR_NODE: "{far node}",
    layout.GROUP_AGAIN: "{same group}",
    layout.NEW_GROUP: "{new group}",
    layout.FAR_GROUP: "{far group}",
    layout.FAR_SLOT: "{far parameter}",
    layout.FAR_SLOT + 1: "{far alloca}",
    layout.FAR_SLOT + 2: "{far value}",
    layout.FAR_SLOT + 3: "{far block}",
}

#: First unit, kind, and what is taken off for the number shown.
_RANGES = (
    (layout.BLOCKS, "block", layout.BLOCKS_BACK),
    (layout.VALUES, "value", layout.VALUES_BACK),
    (layout.ALLOCAS, "alloca", 0),
    (layout.PARAMETERS, "parameter", 0),
    (layout.GROUPS, "group", 0),
    (layout.STEP_NUMBERS, "number", layout.STEP_NUMBERS_BACK),
    (layout.STEP_NODES, "node behind the last", layout.STEP_NODES_BACK),
    (layout.NEAR_NODES, "node", layout.NEAR_NODES_BACK),
    (layout.NODES, "node", 0),
    (layout.NAMES, "name", 0),
    (layout.PARTS, "part", 0),
)
_RELATIVE = frozenset((layout.BLOCKS, layout.VALUES, layout.STEP_NUMBERS, layout.STEP_NODES, layout.NEAR_NODES))


def unit_text(unit: int, vocabulary: Vocabulary) -> str:
    """Return a unit as people read it: text as it is, what stands for other things in braces."""
    first_name = layout.FIRST_LEXEME + len(vocabulary.lexemes)
    if unit >= first_name:
        return vocabulary.names[unit - first_name].decode("utf-8", errors="replace")
    if unit >= layout.FIRST_LEXEME:
        return vocabulary.lexemes[unit - layout.FIRST_LEXEME].decode("utf-8", errors="replace")
    if unit in _FIXED:
        return _FIXED[unit]
    for first in (layout.HEX_PAIRS, layout.RAW_HEX_PAIRS):
        if first <= unit < first + 256:
            return f"{unit - first:02x}"
    for first, kind, back in _RANGES:
        if unit >= first:
            number = unit - first - back
            return f" {{{kind} {number:+}}}" if first in _RELATIVE else f" {{{kind} {number}}}"
    byte = unit - layout.NAME_BYTES if unit >= layout.NAME_BYTES else unit
    return chr(byte) if 0x20 <= byte < 0x7F else f"<0x{byte:02X}>"
