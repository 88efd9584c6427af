"""Speed of LLVM IR: `python -m flows run` with two workers beside two plain processes, and tokenizing on one core.

Modules of the corpus lie in a folder, in tar files, and in Parquet files with the columns of ComPile, small and large.
The floor's two processes (`floor_ir.py`) read, verify and print them in themselves with llvmlite, make all that the
tokenizer makes of them (tokens, SHA-256, hashes of functions, counts), and write `.npy` files; the bare floor makes the
tokens alone.  Shows the marginal rates (text of the large corpus less that of the small one, by the time that it takes;
target 0.8x of the floor's) and start-up beside them, in one interleaved run.

Then what one core does, by CPU time, in MB of text a second, by language and mode: encoding, which includes the check
that the tokens decode to the text (target 3 MB/s), decoding, and all from bitcode to a table's streams.
"""

from __future__ import annotations

import argparse
import io
import json
import shutil
import sys
import tarfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet

import tokenmill
from benchmarks import measuring
from benchmarks.ir_modules import StoredModule, picked, stored_modules
from benchmarks.ir_sets import LANGUAGES
from benchmarks.measuring import MB, Run
from tokenmill.ir.canonical import Canonical
from tokenmill.ir.llvm_text import read_text
from tokenmill.ir.module import Module
from tokenmill.tokenizers.llvm_ir.tokenizer import LlvmIrTokenizer
from tokenmill.tokenizers.llvm_ir.vocabulary import Mode

RATE_RATIO, ENCODE_MB = 0.8, 3.0
#: Modules are not larger, and files and splits about this large: so that both cores are busy to the end.
MODULE_BYTES, SPLIT_BYTES = MB, 2 * MB
TOKENIZER = {"id": "llvm-ir"}
FORMATS, SIZES = ("folder", "tar", "parquet"), ("small", "large")
MODES: tuple[Mode, ...] = ("line", "lexeme")
WHO = ("bare floor", "floor", "tokenmill")


def grouped(modules: Sequence[StoredModule]) -> Iterator[list[StoredModule]]:
    """Yield modules in groups of about SPLIT_BYTES."""
    group: list[StoredModule] = []
    for module in modules:
        group.append(module)
        if sum(one.stored_bytes for one in group) >= SPLIT_BYTES:
            yield group
            group = []
    if group:
        yield group


def write_group(path: Path, kind: str, group: Sequence[StoredModule]) -> None:
    """Write a group of modules as files of a format; the path has no ending."""
    contents = [module.path.read_bytes() for module in group]
    if kind == "parquet":
        columns = {
            "content": pyarrow.array(contents, pyarrow.binary()),
            "license_expression": ["MIT"] * len(group),
            "language": [module.language for module in group],
        }
        pyarrow.parquet.write_table(pyarrow.table(columns), path.with_suffix(".parquet"), row_group_size=16)
        return
    names = [f"{path.name}-{number:04}.bc" for number in range(len(group))]
    if kind == "folder":
        for name, content in zip(names, contents, strict=True):
            (path.parent / name).write_bytes(content)
        return
    with tarfile.open(path.with_suffix(".tar"), "w") as archive:
        for name, content in zip(names, contents, strict=True):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def write_corpora(modules: list[StoredModule], scratch: Path, sizes: dict[str, int]) -> dict[tuple[str, str], Path]:
    """Write the corpora anew; returns their folders by format and size."""
    corpora = {(kind, size): scratch / f"{kind}-{size}" for kind in FORMATS for size in sizes}
    for (kind, size), folder in corpora.items():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for number, group in enumerate(grouped(list(picked(modules, sizes[size], MODULE_BYTES)))):
            write_group(folder / f"{number:04}", kind, group)
    return corpora


def run_floor(corpus: Path, scratch: Path, workers: int, *more: str) -> tuple[Run, dict[str, Any]]:
    """Run the floor once."""
    out = scratch / "npy"
    shutil.rmtree(out, ignore_errors=True)
    command = [sys.executable, "-m", "benchmarks.floor_ir", "--corpus", str(corpus), "--out", str(out)]
    command += ["--tokenizer", json.dumps(TOKENIZER), "--workers", str(workers), *more]
    run = measuring.run_command(command)
    return run, json.loads(run.output.splitlines()[-1])


def run_tokenmill(
    corpus: Path, kind: str, out: Path, workers: int, environment: dict[str, str]
) -> tuple[Run, float, int]:
    """Run tokenmill once; return the run, the seconds until the first part began, and the tokens."""
    shutil.rmtree(out, ignore_errors=True)
    source: dict[str, Any] = {"name": "ir", "modality": "llvm-ir", "uris": [f"{corpus}/"]}
    if kind == "parquet":
        source |= {"where": {"language": list(LANGUAGES)}, "metadata": ["language", "license_expression"]}
    content = {
        "name": "benchmark",
        "sources": [source],
        "tables": [{"name": "ir", "tokenizer": TOKENIZER}],
        "output": str(out),
        "runner": {"workers": workers},
        "splitting": {"split_bytes": SPLIT_BYTES},
    }
    job = out.parent / f"{out.name}.yaml"
    job.write_text(json.dumps(content, indent=1))
    run = measuring.run_job(job, environment)
    start_seconds = measuring.first_part_began(out) - run.began
    tokens = tokenmill.open(str(out)).manifest.tables["ir"].tokens["ids"]
    shutil.rmtree(out)
    return run, start_seconds, int(tokens)


def job_speed(options: argparse.Namespace, modules: list[StoredModule]) -> tuple[str, dict[str, Any]]:
    """Measure jobs beside the floors; return tables and figures."""
    sizes = {"small": int(options.small_mb * MB), "large": int(options.large_mb * MB)}
    LlvmIrTokenizer().load()  # compiled, and kept on disk, before anything is timed
    corpora = write_corpora(modules, options.scratch, sizes)
    seconds: dict[str, list[float]] = {
        f"{who}, {kind}, {size}": [] for kind in options.formats for who in WHO for size in SIZES
    }
    cpu: dict[str, list[float]] = {name: [] for name in seconds}
    text_bytes: dict[str, int] = {}
    starts: list[float] = []
    with measuring.prefect_server() as environment:
        for _ in range(options.repeats):
            for kind in options.formats:
                for size in SIZES:
                    corpus = corpora[kind, size]
                    bare, _ = run_floor(corpus, options.scratch, options.workers, "--bare")
                    floor, figures = run_floor(corpus, options.scratch, options.workers)
                    out = options.scratch / "dataset"
                    ours, start, tokens = run_tokenmill(corpus, kind, out, options.workers, environment)
                    if tokens != figures["tokens"]:
                        raise SystemExit(f"tokenmill made {tokens} tokens, the floor {figures['tokens']}")
                    for who, run in zip(WHO, (bare, floor, ours), strict=True):
                        seconds[f"{who}, {kind}, {size}"].append(run.seconds)
                        cpu[f"{who}, {kind}, {size}"].append(run.cpu_seconds)
                    text_bytes[size] = figures["text_bytes"]
                    starts.append(start)
    more_mb = (text_bytes["large"] - text_bytes["small"]) / MB
    rows, checks, ratios = [], [], {}
    for kind in options.formats:
        took, busy = {}, {}
        for who in WHO:
            middle = {size: measuring.median(seconds[f"{who}, {kind}, {size}"]) for size in SIZES}
            worked = {size: measuring.median(cpu[f"{who}, {kind}, {size}"]) for size in SIZES}
            for size in SIZES:
                found = seconds[f"{who}, {kind}, {size}"]
                rate = text_bytes[size] / MB / middle[size]
                spread = f"{min(found):.2f}–{max(found):.2f}"
                rows.append([f"{who}, {kind}, {size}", f"{middle[size]:.2f}", spread, f"{rate:.2f}", worked[size]])
            took[who], busy[who] = middle["large"] - middle["small"], worked["large"] - worked["small"]
            rows.append([f"{who}, {kind}, marginal", f"{took[who]:.2f}", "", f"{more_mb / took[who]:.2f}", busy[who]])
        for who, target in (("floor", RATE_RATIO), ("bare floor", None)):
            ratio = ratios[f"{who}, {kind}"] = took[who] / took["tokenmill"]
            verdict = ["", ""] if target is None else [f"≥ {target}", measuring.verdict(ratio, target, at_least=True)]
            checks.append([f"marginal speed, tokenmill / {who}, {kind}", f"{ratio:.2f}", *verdict])
            checks.append([f"the same by CPU time, {kind}", f"{busy[who] / busy['tokenmill']:.2f}", "", ""])
    checks.append(["seconds until the first part begins", f"{measuring.median(starts):.2f}", "", ""])
    rows = [[*row[:4], f"{row[4]:.1f}"] for row in rows]
    what = " and ".join(f"{sizes[size] / MB:g} MB ({text_bytes[size] / MB:.0f} MB of text)" for size in SIZES)
    text = "\n\n".join(
        (
            f"{what} of bitcode, modules of up to {MODULE_BYTES / MB:g} MB; {options.workers} workers; {TOKENIZER}",
            measuring.table(["run", "seconds (median)", "range", "MB of text a second", "CPU seconds"], rows),
            measuring.table(["what", "measured", "target", "verdict"], checks),
        )
    )
    figures = {"seconds": seconds, "cpu_seconds": cpu, "text_bytes": text_bytes, "start_seconds": starts}
    return text, {**figures, "marginal_ratio": ratios}


def core_speed(options: argparse.Namespace, modules: list[StoredModule]) -> tuple[str, dict[str, Any]]:
    """Measure what one core does by language and mode; return a table and figures."""
    choices = Canonical().choices()
    encoders = {mode: LlvmIrTokenizer(mode=mode).load() for mode in MODES}
    decoders = {mode: LlvmIrTokenizer(mode=mode).decoder() for mode in MODES}
    rows, result = [], {}
    clock = time.process_time
    for language, title in LANGUAGES.items():
        own = [module for module in modules if module.language == language]
        spent = {(mode, what): 0.0 for mode in MODES for what in ("encode", "decode")}
        tokens = dict.fromkeys(MODES, 0)
        text_bytes, read_seconds = 0, 0.0
        for number, stored in enumerate(picked(own, int(options.core_mb * MB), MODULE_BYTES)):
            data = stored.path.read_bytes()
            start = clock()
            module = Module(read_text(data, bitcode=True, options=choices), len(data))
            _ = module.sha256, module.function_hashes, module.census
            took = clock() - start
            for mode in MODES:
                start = clock()
                streams = {name: one[0] for name, one in encoders[mode].encode([module]).streams.items()}
                between = clock()
                if decoders[mode].decode(streams) != module.text.decode():
                    raise SystemExit(f"{stored.path} is another one when decoded")
                if number:  # the first one has functions compiled or loaded
                    spent[mode, "encode"] += between - start
                    spent[mode, "decode"] += clock() - between
                    tokens[mode] += len(streams["ids"])
            if number:
                text_bytes += len(module.text)
                read_seconds += took
        for mode in MODES:
            encode, decode = (text_bytes / MB / spent[mode, what] for what in ("encode", "decode"))
            whole = text_bytes / MB / (read_seconds + spent[mode, "encode"])
            verdict = measuring.verdict(encode, ENCODE_MB, at_least=True)
            result[f"{language}, {mode}"] = {"encode": encode, "decode": decode, "whole": whole}
            size = f"{text_bytes / MB:.1f}"
            figures = [f"{encode:.1f}", f"≥ {ENCODE_MB:g}", verdict, f"{decode:.1f}", f"{whole:.1f}"]
            rows.append([title, mode, size, f"{text_bytes / tokens[mode]:.1f}", *figures])
    headings = ["language", "mode", "MB of text", "bytes a token", "encode, MB/s", "target", "verdict", "decode, MB/s"]
    text = "One core, MB of text a second by CPU time\n\n"
    return text + measuring.table([*headings, "bitcode to streams, MB/s"], rows), {"core": result}


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--corpus", type=Path, required=True, help="folder of build_ir.py")
    parser.add_argument("--scratch", type=Path, required=True, help="folder for corpora and outputs")
    parser.add_argument("--small-mb", type=float, default=8, help="bitcode of the small corpus")
    parser.add_argument("--large-mb", type=float, default=48, help="bitcode of the large corpus")
    parser.add_argument("--core-mb", type=float, default=6, help="bitcode of each language for one core")
    parser.add_argument("--formats", nargs="+", choices=FORMATS, default=FORMATS)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", choices=["jobs", "core"], help="measure this alone")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    options = parser.parse_args()
    load = measuring.machine()
    measuring.adopt_orphans()  # readers of modules outlive the workers that they read for
    modules = stored_modules(options.corpus)
    texts, result = [], {"machine": load}
    for name, measure in (("jobs", job_speed), ("core", core_speed)):
        if options.only in (None, name):
            text, figures = measure(options, modules)
            texts.append(text)
            result |= figures
    measuring.report(result, "\n\n".join(texts), options.json)


if __name__ == "__main__":
    main()
