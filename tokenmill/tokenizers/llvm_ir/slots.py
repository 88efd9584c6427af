"""The slots of a function: its parameters, definitions and blocks, found by name or number. Compiled."""

from __future__ import annotations

from tokenmill.ir.compiled import compiled, whole
from tokenmill.tokenizers.llvm_ir.layout import BLOCK_SLOT, COUNT_SLOTS, FUNCTION_NUMBER, PROBES, Bytes
from tokenmill.tokenizers.llvm_ir.scanning import hash_bytes, number, same
from tokenmill.tokenizers.llvm_ir.units import Work


@compiled
def number_slot(value: int, slot: int, work: Work) -> None:
    """Let a number stand for a slot."""
    if value < len(work.number_slots):
        work.number_slots[value] = slot
        work.number_stamps[value] = work.state[FUNCTION_NUMBER]


@compiled
def add_slot(text: Bytes, at: int, stop: int, kind: int, ordinal: int, work: Work) -> None:
    """Give a parameter, definition or block its slot."""
    state = work.state
    slot = state[COUNT_SLOTS]
    state[COUNT_SLOTS] = slot + 1
    work.slot_kinds[slot] = kind
    work.slot_ordinals[slot] = ordinal
    work.slot_starts[slot] = at
    work.slot_lengths[slot] = stop - at
    if kind == BLOCK_SLOT:
        work.block_slots[ordinal] = slot
        work.edge_heads[ordinal] = -1
    value = number(text, at, stop)
    if value >= 0:
        number_slot(value, slot, work)
        return
    mask = len(work.slot_table) - 1
    place = hash_bytes(text, at, stop) & mask
    for _ in range(PROBES):
        if work.slot_stamps[place] != state[FUNCTION_NUMBER]:
            work.slot_stamps[place] = state[FUNCTION_NUMBER]
            work.slot_table[place] = slot
            break
        place = (place + 1) & mask


@compiled
def find_slot(text: Bytes, at: int, stop: int, work: Work) -> int:
    """Return the slot of a local name, or -1."""
    stamp = work.state[FUNCTION_NUMBER]
    value = number(text, at, stop)
    if value >= 0:
        if value < len(work.number_slots) and work.number_stamps[value] == stamp:
            return whole(work.number_slots[value])
        return whole(-1)
    mask = len(work.slot_table) - 1
    place = hash_bytes(text, at, stop) & mask
    for _ in range(PROBES):
        if work.slot_stamps[place] != stamp:
            break
        slot = work.slot_table[place]
        if work.slot_lengths[slot] == stop - at and same(text, at, text, work.slot_starts[slot], stop - at):
            return whole(slot)
        place = (place + 1) & mask
    return whole(-1)
