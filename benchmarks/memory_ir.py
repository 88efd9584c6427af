"""Memory of LLVM IR: the peak of every process of `python -m flows run` on modules of 50 MB of text.

The module is made of modules of the corpus linked into one; what they define is given names of its own, so that nothing
is defined twice.  Jobs with one worker read a small module, the large one as bitcode and as text, and a folder of three
large ones: one is read while another is tokenized.  Target: 1.5 GB for the process that tokenizes and the one that
reads for it with LLVM, together: the sum of their own high-water marks (VmHWM), though they need not stand at once, and
share pages.  Linux only.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from llvmlite import binding

import tokenmill
from benchmarks import measuring
from benchmarks.ir_modules import StoredModule, stored_modules
from benchmarks.measuring import MB

TOGETHER_BYTES = 1_500 * MB
ROLES = ("driver", "reader", "launcher", "flow")
#: What is linked has at least so many bytes of bitcode.
LINKED_BYTES = 50_000
#: Bitcode has no more text than this times its bytes: less is linked without measuring.
TEXT_PER_BITCODE = 5


def linked(modules: Iterable[StoredModule], text_bytes: int) -> bytes:
    """Return bitcode of modules linked into one of at least so much text."""
    context = binding.create_context()
    whole = binding.parse_assembly("", context)
    linked_bytes = 0
    for number, stored in enumerate(modules):
        linked_bytes += stored.stored_bytes
        module = binding.parse_bitcode(stored.path.read_bytes(), context)
        for value in (*module.functions, *module.global_variables):
            if not value.is_declaration and not value.name.startswith("llvm."):
                value.name = f"{value.name}.{number}"
                value.linkage = "external"  # what is not may be left out, for want of a use
        whole.link_in(module)
        if linked_bytes * TEXT_PER_BITCODE >= text_bytes and len(str(whole)) >= text_bytes:
            whole.verify()
            return bytes(whole.as_bitcode())
    raise SystemExit("the corpus is too small")


def write_cases(modules: list[StoredModule], scratch: Path, text_bytes: int) -> dict[str, Path]:
    """Write the cases' files, and return what each job reads."""
    large = linked((one for one in modules if one.stored_bytes >= LINKED_BYTES), text_bytes)
    cases = {"small, bitcode": scratch / "small.bc", "bitcode": scratch / "large.bc", "text": scratch / "large.ll"}
    cases["small, bitcode"].write_bytes(min(modules, key=lambda one: one.stored_bytes).path.read_bytes())
    cases["bitcode"].write_bytes(large)
    with binding.parse_bitcode(large, binding.create_context()) as module:
        cases["text"].write_text(str(module))
    cases["3 x bitcode"] = scratch / "three"
    cases["3 x bitcode"].mkdir(exist_ok=True)
    for number in range(3):
        (cases["3 x bitcode"] / f"{number}.bc").write_bytes(large)
    return cases


def run_case(path: Path, mode: str, environment: dict[str, str]) -> dict[str, Any]:
    """Run a job on one file with one worker; return its figures in bytes and seconds."""
    out, job = path.parent / "dataset", path.parent / "job.yaml"
    shutil.rmtree(out, ignore_errors=True)
    content = {
        "name": "benchmark",
        "sources": [{"name": "ir", "modality": "llvm-ir", "uris": [str(path)]}],
        "tables": [{"name": "ir", "tokenizer": {"id": "llvm-ir", "mode": mode}}],
        "output": str(out),
        "runner": {"workers": 1},
    }
    job.write_text(json.dumps(content, indent=1))
    run, watch = measuring.run_watched([sys.executable, "-m", "flows", "run", str(job)], environment)
    table = tokenmill.open(str(out))["ir"]
    text_bytes = max(int(row.streams["module"][1]) for row in table)
    peaks = {role: watch.highest(role).resident for role in ROLES}
    figures = {
        "modules": len(table),
        "text_bytes": text_bytes,
        "seconds": run.seconds,
        "peaks": peaks,
        "together": peaks["driver"] + peaks["reader"],
    }
    shutil.rmtree(out)
    return figures


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--corpus", type=Path, required=True, help="folder of build_ir.py")
    parser.add_argument("--scratch", type=Path, required=True, help="folder for modules and outputs")
    parser.add_argument("--text-mb", type=float, default=50, help="text of the large module")
    parser.add_argument("--mode", choices=["line", "lexeme"], default="line")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    options = parser.parse_args()
    options.scratch.mkdir(parents=True, exist_ok=True)
    cases = write_cases(stored_modules(options.corpus), options.scratch, round(options.text_mb * MB))
    load = measuring.machine()
    rows, result = [], {"machine": load}
    with measuring.prefect_server() as environment:
        for name, path in cases.items():
            figures = result[name] = run_case(path, options.mode, environment)
            rows.append(
                [
                    name,
                    f"{figures['text_bytes'] / MB:.1f}",
                    *(f"{figures['peaks'][role] / MB:.0f}" for role in ROLES),
                    f"{figures['together'] / MB:.0f}",
                    f"≤ {TOGETHER_BYTES / MB:.0f}",
                    measuring.verdict(figures["together"], TOGETHER_BYTES),
                    f"{figures['seconds']:.0f}",
                ]
            )
    headings = ["modules", "text of one, MB", "tokenizes, MB", "reads, MB", "launcher, MB", "flow, MB"]
    markdown = measuring.table([*headings, "tokenizes + reads, MB", "target", "verdict", "seconds"], rows)
    measuring.report(result, f"llvm-ir, {options.mode}\n\n{markdown}", options.json)


if __name__ == "__main__":
    main()
