"""Rivals: tokenmill beside datatrove's stock pipeline and beside litdata given tokenmill's encoder, in one run.

Same input, same vocabulary (o200k_base), two workers each. datatrove takes a tokenizer.json, which is made here from
the rank file; that both make the same number of tokens shows that the vocabulary is the same. Targets: 10x datatrove
on one copy of the corpus, 1.3x litdata on four. Times are whole commands, start-up included.
"""

from __future__ import annotations

import argparse
import base64
import itertools
import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import measuring
from benchmarks.measuring import MB

DATATROVE_RATIO, LITDATA_RATIO = 10.0, 1.3


def byte_letters() -> dict[int, str]:
    """Return GPT-2's letter for each byte, in which a tokenizer.json spells byte-level tokens."""
    plain = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    letters = {byte: chr(byte) for byte in plain}
    letters |= {byte: chr(256 + n) for n, byte in enumerate(byte for byte in range(256) if byte not in letters)}
    return letters


def last_merge(token: bytes, ranks: dict[bytes, int]) -> tuple[bytes, bytes] | None:
    """Return the two parts that the merges below a token's own rank leave of it; None where they are not two."""
    parts = [bytes((byte,)) for byte in token]
    own = ranks[token]
    while len(parts) > 2:
        pairs = [(ranks.get(left + right, own), place) for place, (left, right) in enumerate(itertools.pairwise(parts))]
        rank, place = min(pairs)
        if rank >= own:
            return None
        parts[place : place + 2] = [parts[place] + parts[place + 1]]
    return parts[0], parts[1]


def write_tokenizer_json(vocabulary: str, path: Path) -> None:
    """Write a well-known rank file as a tokenizer.json of the `tokenizers` library."""
    from tokenmill.tokenizers.rank_files import PATTERNS

    with tempfile.TemporaryDirectory() as folder:
        lines = measuring.rank_file(vocabulary, Path(folder)).read_bytes().splitlines()
    ranks = {base64.b64decode(token): int(rank) for token, rank in (line.split() for line in lines if line)}
    letters = byte_letters()
    spelled = {token: "".join(letters[byte] for byte in token) for token in ranks}
    merges = []
    for token in sorted(ranks, key=ranks.__getitem__):
        if len(token) > 1 and (pair := last_merge(token, ranks)) is not None:
            merges.append([spelled[pair[0]], spelled[pair[1]]])
    split = {"type": "Split", "pattern": {"Regex": PATTERNS[vocabulary]}, "behavior": "Isolated", "invert": False}
    level = {"add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    content = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [],
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, {"type": "ByteLevel", **level}]},
        "post_processor": None,
        "decoder": {"type": "ByteLevel", **level},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": True,  # as tiktoken: a piece that is a token is that token
            "vocab": {spelled[token]: rank for token, rank in ranks.items()},
            "merges": merges,
        },
    }
    path.write_text(json.dumps(content, ensure_ascii=False))


def run_rival(python: str, name: str, corpus: Path, out: Path, workers: int, *more: str) -> tuple[float, int]:
    """Run a rival once; return seconds of wall time and tokens."""
    shutil.rmtree(out, ignore_errors=True)
    command = [python, "-m", f"benchmarks.rival_{name}", "--corpus", str(corpus), "--out", str(out)]
    run = measuring.run_command([*command, "--workers", str(workers), *more], {"RAYON_NUM_THREADS": "1"})
    shutil.rmtree(out, ignore_errors=True)
    return run.seconds, int(json.loads(run.output.strip().splitlines()[-1])["tokens"])


def run_tokenmill(corpus: Path, out: Path, workers: int, environment: dict[str, str]) -> tuple[float, int]:
    """Run tokenmill once; return seconds of wall time and tokens."""
    shutil.rmtree(out, ignore_errors=True)
    job = out.parent / f"{out.name}.yaml"
    tokenizer = {"id": "tiktoken", "vocabulary": "o200k_base"}
    measuring.write_job(job, [f"{corpus}/*.jsonl.zst"], out, tokenizer=tokenizer, workers=workers)
    run = measuring.run_job(job, environment)
    tokens = measuring.dataset_tokens(out)
    shutil.rmtree(out)
    return run.seconds, tokens


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--small", type=Path, required=True, help="folder of build_corpus.py, one copy: for datatrove")
    parser.add_argument("--large", type=Path, required=True, help="folder of build_corpus.py, four copies: for litdata")
    parser.add_argument("--scratch", type=Path, required=True, help="folder for outputs")
    parser.add_argument("--rivals-python", default=sys.executable, help="interpreter with datatrove and litdata")
    parser.add_argument("--only", choices=["datatrove", "litdata"], help="leave the other rival out")
    parser.add_argument("--rivals-only", action="store_true", help="do not run tokenmill")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path, help="where to write the figures")
    options = parser.parse_args()
    options.scratch.mkdir(parents=True, exist_ok=True)
    vocabulary = options.scratch / "o200k_base.json"
    wanted: list[tuple[str, Path, float, list[str]]] = []
    if options.only != "litdata":
        write_tokenizer_json("o200k_base", vocabulary)
        wanted.append(("datatrove", options.small, DATATROVE_RATIO, ["--tokenizer", str(vocabulary)]))
    if options.only != "datatrove":
        wanted.append(("litdata", options.large, LITDATA_RATIO, []))

    seconds: dict[str, dict[str, list[float]]] = {}
    loads: list[dict[str, Any]] = []
    with measuring.prefect_server() as environment:
        for _ in range(options.repeats):
            loads.append(measuring.machine())
            for name, corpus, _, more in wanted:
                taken = seconds.setdefault(name, {"rival": [], "tokenmill": []})
                rival, tokens = run_rival(
                    options.rivals_python, name, corpus, options.scratch / name, options.workers, *more
                )
                taken["rival"].append(rival)
                if options.rivals_only:
                    print(f"{name}: {rival:.1f} s, {tokens} tokens", flush=True)
                    continue
                ours, our_tokens = run_tokenmill(corpus, options.scratch / "dataset", options.workers, environment)
                taken["tokenmill"].append(ours)
                if our_tokens != tokens:
                    raise SystemExit(f"tokenmill made {our_tokens} tokens, {name} {tokens}")

    rows, checks = [], {}
    for name, corpus, target, _ in wanted:
        size = measuring.text_bytes(corpus) / MB
        rival = measuring.median(seconds[name]["rival"])
        row = [name, f"{size:.0f} MB", f"{rival:.1f} s ({size / rival:.1f} MB/s)"]
        if not options.rivals_only:
            ours = measuring.median(seconds[name]["tokenmill"])
            ratio = rival / ours
            checks[name] = {"measured": ratio, "target": target}
            row += [f"{ours:.1f} s ({size / ours:.1f} MB/s)", f"{ratio:.2f}x", f"≥ {target}x"]
            row.append(measuring.verdict(ratio, target, at_least=True))
        rows.append(row)
    headings = ["rival", "text", "rival's time", "tokenmill's time", "ratio", "target", "verdict"]
    markdown = measuring.table(headings[: len(rows[0])], rows)
    measuring.report({"machine": loads, "seconds": seconds, "checks": checks}, markdown, options.json)


if __name__ == "__main__":
    main()
