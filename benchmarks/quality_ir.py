"""Tokens of LLVM IR: `llvm-ir` in both modes beside tekken and byte-pair encodings learned from the same texts.

Tokens are counted on held-out packages (`heldout_ir.tsv`), by language.  The rivals (`ir_rivals.py`) learn from what
the packaged vocabulary is learned from: every module of the training set once, as its canonical text, in the order of
their paths.

The round trip is made for every module, held out or not, in both modes: tokens → text → read and verified by LLVM →
printed again, equal to the module's canonical text.  Those that fail are named.  Where `build_ir.py --clang` has
compiled the same sources by several compilers, their modules are read, counted and compared in the same way.
"""

from __future__ import annotations

import argparse
import multiprocessing
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from benchmarks import measuring
from benchmarks.ir_rivals import LEARNED, TEKKEN, Rival, learn, rivals
from benchmarks.ir_sets import LANGUAGES, SETS, module_files
from tokenmill.errors import TokenmillError
from tokenmill.ir.canonical import Canonical
from tokenmill.ir.ir_file import IrFile
from tokenmill.ir.module import Module
from tokenmill.tokenizers.llvm_ir.tokenizer import IDS, LlvmIrDecoder, LlvmIrEncoder, LlvmIrTokenizer
from tokenmill.tokenizers.llvm_ir.vocabulary import MODES

#: The folder of what `build_ir.py --more` compiles beside the sets.
MORE = "more"
#: The most that the tokens of a mode may be, of a rival's.
TARGETS = {
    ("line", TEKKEN): 0.18,
    ("line", "gpt-regex"): 0.22,
    ("line", "superword"): 0.75,
    ("lexeme", TEKKEN): 0.50,
}


class Found(NamedTuple):
    """What was found of a module.

    Attributes:
        text_bytes: Of its canonical text.
        tokens: How many tokens it is, by mode and rival.
        failures: By mode, why the round trip failed.
    """

    text_bytes: int
    tokens: dict[str, int]
    failures: dict[str, str]


class Task(NamedTuple):
    """A module to measure, and whether rivals count it too."""

    file: Path
    with_rivals: bool


def read(file: Path) -> Module:
    """Read a module as the tokenizer does by default; raises ItemError."""
    return IrFile(file.read_bytes()).module(Canonical())


def learned_texts(files: Sequence[Path], threads: int) -> list[bytes]:
    """Return what is learned from: the canonical text of each module, once."""
    with ThreadPoolExecutor(threads) as pool:
        return list({module.sha256: module.text for module in pool.map(read, files)}.values())


def _begin(vocabulary: str | None, files: Mapping[str, Path]) -> None:
    global _coders, _rivals
    made = {mode: LlvmIrTokenizer(mode=mode, vocabulary=vocabulary) for mode in MODES}
    _coders = {mode: (tokenizer.load(), tokenizer.decoder()) for mode, tokenizer in made.items()}
    _rivals = rivals(files)


_coders: dict[str, tuple[LlvmIrEncoder, LlvmIrDecoder]]
_rivals: dict[str, Rival]


def measure(task: Task) -> Found:
    """Count a module's tokens and make its round trips."""
    module = read(task.file)
    found = Found(len(module.text), {}, {})
    read_again: dict[bytes, bytes] = {}
    for mode, (encoder, decoder) in _coders.items():
        ids = encoder.encode([module]).streams[IDS][0]
        found.tokens[mode] = len(ids)
        try:
            text = decoder.decode({IDS: ids}).encode("utf-8", errors="surrogateescape")
            if text not in read_again:  # modes mostly agree, and LLVM is what takes the time
                read_again[text] = IrFile(text).module(Canonical()).text
            if read_again[text] != module.text:
                found.failures[mode] = "LLVM prints another text of what was decoded"
        except TokenmillError as error:
            found.failures[mode] = str(error)
    if task.with_rivals:
        text_of = module.text.decode("utf-8", errors="replace")
        found.tokens.update({name: rival.count(text_of) for name, rival in _rivals.items()})
    return found


def language(folder: Path, file: Path) -> str:
    """Return the language of a module in the folder of a set."""
    return file.relative_to(folder).parts[0]


def some(files: Sequence[Path], folder: Path, limit: int | None) -> list[Path]:
    """Return the files, or of each language as many as the limit says, spread over all."""
    by_language: dict[str, list[Path]] = {}
    for file in files:
        by_language.setdefault(language(folder, file), []).append(file)
    return [file for few in by_language.values() for file in (few[:: -(-len(few) // limit)] if limit else few)]


def tokens_table(by_language: Mapping[str, Sequence[Found]]) -> tuple[str, dict[str, dict[str, float]]]:
    """Return the table of tokens on held-out modules, and the same figures by what they are and language."""
    spoken = [name for name in LANGUAGES if name in by_language]
    text_bytes = {name: sum(one.text_bytes for one in by_language[name]) for name in spoken}
    counts = {
        name: {what: sum(one.tokens[what] for one in by_language[name]) for what in (*MODES, TEKKEN, *LEARNED)}
        for name in spoken
    }
    figures: dict[str, dict[str, float]] = {"bytes of text": {name: text_bytes[name] for name in spoken}}
    rows: list[list[str]] = [
        ["modules", *(f"{len(by_language[name]):,}" for name in spoken), ""],
        ["text, MB", *(f"{text_bytes[name] / measuring.MB:.1f}" for name in spoken), ""],
    ]
    for what in (*MODES, TEKKEN, *LEARNED):
        figures[f"{what}, tokens"] = {name: counts[name][what] for name in spoken}
        rows.append([f"`{what}`, tokens", *(f"{counts[name][what]:,}" for name in spoken), ""])
    for what in (*MODES, TEKKEN, *LEARNED):
        figures[f"{what}, bytes a token"] = {name: text_bytes[name] / counts[name][what] for name in spoken}
        rows.append(
            [f"`{what}`, bytes a token", *(f"{text_bytes[name] / counts[name][what]:.1f}" for name in spoken), ""]
        )
    for mode in MODES:
        for rival in (TEKKEN, *LEARNED):
            ratios = {name: counts[name][mode] / counts[name][rival] for name in spoken}
            figures[f"{mode} / {rival}"] = ratios
            target = TARGETS.get((mode, rival))
            aim = "" if target is None else f"{target:.2f}: {measuring.verdict(max(ratios.values()), target)}"
            rows.append([f"`{mode}` / `{rival}`", *(f"{ratio:.3f}" for ratio in ratios.values()), aim])
    return measuring.table(["", *(LANGUAGES[name] for name in spoken), "at most"], rows), figures


def round_trips_table(found: Mapping[str, Mapping[Path, Found]]) -> tuple[str, dict[str, str]]:
    """Return the table of round trips by set, and why those failed that did."""
    rows, failed = [], {}
    for name, modules in found.items():
        text_bytes = sum(one.text_bytes for one in modules.values())
        row = [name, f"{len(modules):,}", f"{text_bytes / measuring.MB:.1f}"]
        for mode in MODES:
            wrong = {file: one.failures[mode] for file, one in modules.items() if mode in one.failures}
            failed.update({f"{file}, {mode}": why for file, why in wrong.items()})
            row.append(f"{len(modules) - len(wrong):,}")
        rows.append(row)
    return measuring.table(["set", "modules", "text, MB", *(f"identical, `{mode}`" for mode in MODES)], rows), failed


def versions_table(found: Mapping[str, Mapping[Path, Found]]) -> str:
    """Return the table of the same sources by several compilers."""
    rows = []
    for name, modules in found.items():
        row = [name, f"{len(modules):,}", f"{sum(one.text_bytes for one in modules.values()) / measuring.MB:.2f}"]
        row += [f"{sum(one.tokens[mode] for one in modules.values()):,}" for mode in MODES]
        row += [f"{sum(mode not in one.failures for one in modules.values()):,}" for mode in MODES]
        rows.append(row)
    columns = [*(f"`{mode}`, tokens" for mode in MODES), *(f"identical, `{mode}`" for mode in MODES)]
    return measuring.table(["compiler", "modules", "text, MB", *columns], rows)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--ir", type=Path, required=True, help="folder of build_ir.py")
    parser.add_argument("--work", type=Path, required=True, help="folder for rivals that have been learned")
    parser.add_argument("--vocabulary", help="vocabulary to measure instead of the packaged one")
    parser.add_argument("--limit", type=int, help="take no more modules than this of each set and language")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--json", type=Path, help="where to write the figures")
    options = parser.parse_args()
    sets = {}
    parts_of_corpus = [part for part in (*SETS, MORE) if part in SETS or (options.ir / part).is_dir()]
    for part in parts_of_corpus:
        sets[part] = some(module_files(options.ir / part), options.ir / part, options.limit)
    versions = options.ir / "versions"
    compilers = sorted(folder.name for folder in versions.iterdir()) if versions.is_dir() else []
    sets.update({name: some(module_files(versions / name), versions / name, options.limit) for name in compilers})

    files = learn(learned_texts(sets["train"], options.processes), options.work)
    tasks = [Task(file, part == "heldout") for part, modules in sets.items() for file in modules]
    context = multiprocessing.get_context("spawn")
    with context.Pool(options.processes, _begin, (options.vocabulary, files)) as pool:
        measured = dict(zip((task.file for task in tasks), pool.map(measure, tasks, chunksize=4), strict=True))

    found = {part: {file: measured[file] for file in modules} for part, modules in sets.items()}
    by_language: dict[str, list[Found]] = {}
    for file, one in found["heldout"].items():
        by_language.setdefault(language(options.ir / "heldout", file), []).append(one)
    tokens, figures = tokens_table(by_language)
    trips, failed = round_trips_table({part: found[part] for part in parts_of_corpus})
    parts = [f"Tokens of held-out modules\n\n{tokens}", f"Round trips\n\n{trips}"]
    if compilers:
        same = {name: found[name] for name in compilers}
        failed.update(round_trips_table(same)[1])
        parts.append(f"The same sources by several compilers\n\n{versions_table(same)}")
    parts += [f"{file}: {why}" for file, why in failed.items()]
    result = {
        "machine": measuring.machine(),
        "figures": figures,
        "failed": failed,
        "modules": {str(file.relative_to(options.ir)): one._asdict() for file, one in measured.items()},
    }
    measuring.report(result, "\n\n".join(parts), options.json)


if __name__ == "__main__":
    main()
