"""fastokens' thread pool does not survive a fork; an encoder does."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tokenmill.tokenizers.rank_files import well_known_file

_FORK = """
import json, os, sys
from tokenmill.registry import parse_tokenizer
from tokenmill.tokenizers.probe import PROBE_TEXTS
texts = [*PROBE_TEXTS, "word " * 40_000, "ж" * 50_000]
def encode():
    return encoder.encode(texts).streams["ids"].values.tobytes()
def threads():
    return len(os.listdir("/proc/self/task"))
at_first = threads()
encoder = parse_tokenizer(json.loads(sys.argv[1])).load()
before = encode() if sys.argv[2] == "used" else None
added = threads() - at_first
pids = []
for _ in range(2):
    pid = os.fork()
    if pid == 0:
        same = encode() == (before or encode())
        os._exit(0 if same else 1)
    pids.append(pid)
assert [os.waitpid(pid, 0)[1] for pid in pids] == [0, 0]
assert before is None or encode() == before
print(added)
"""

# One pattern that fastokens has a scanner for, and one that it has none for.
CONFIGS = {
    "scanned": {"id": "tiktoken", "vocabulary": "cl100k_base"},
    "generic": {
        "id": "tiktoken",
        "ranks": str(well_known_file("cl100k_base")),
        "pattern": r"\p{N}{1,2}+|\p{L}++|\s+(?!\S)|[^\p{L}\p{N}]",
    },
}


@pytest.mark.parametrize("used", ["used", "fresh"])
@pytest.mark.parametrize("kind", CONFIGS)
def test_an_encoder_loaded_before_a_fork_works_on_both_sides(kind: str, used: str) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("RAYON", "FASTOKENS"))}
    done = subprocess.run(
        [sys.executable, "-c", _FORK, json.dumps(CONFIGS[kind]), used],
        capture_output=True,
        text=True,
        timeout=200,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    if kind == "scanned":
        assert int(done.stdout) <= 0, "the engine started threads of its own"
