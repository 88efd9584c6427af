"""The training example: it learns, and a run that was killed prints what an unbroken one prints."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.datasets import build_dataset, job_of, write_jsonl
from tokenmill.storage.outputs import Storage

torch = pytest.importorskip("torch", reason="torch is missing: pip install tokenmill[torch]")

REPOSITORY = Path(__file__).resolve().parent.parent
EXAMPLE = str(REPOSITORY / "examples" / "train_tiny_lm.py")
SMALL = ["--table", "text", "--window", "32", "--global-batch-size", "8", "--log-every", "1", "--save-every", "10"]
#: Of 256 tokens each; an epoch has about 30.
STEPS = 40


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A dataset of 40 documents of a few words, bytes as ids."""
    root = tmp_path_factory.mktemp("corpus")
    words = random.Random(0)
    texts = [" ".join(words.choices(["north", "east", "south", "west"], k=36)) for _ in range(40)]
    write_jsonl(root / "in" / "docs.jsonl", [{"id": f"doc-{i}", "text": text} for i, text in enumerate(texts)])
    build_dataset(job_of(str(root / "out"), root / "in"))
    return str(root / "out")


@pytest.fixture(scope="module")
def unbroken(corpus: str, tmp_path_factory: pytest.TempPathFactory) -> dict[int, str]:
    """The losses of a run in block order, the default of object storage."""
    checkpoint = tmp_path_factory.mktemp("unbroken") / "lm.pt"
    return run(corpus, checkpoint, "--shuffle", "blocks", "--steps", str(STEPS))


def test_the_loss_falls(unbroken: dict[int, str]) -> None:
    losses = [float(unbroken[step].split()[1]) for step in range(1, STEPS + 1)]
    assert losses[0] > 4
    assert max(losses[-5:]) < 1
    held_out = [float(found) for line in unbroken.values() for found in re.findall(r"validation loss (\S+)", line)]
    assert len(held_out) == STEPS / 10
    assert held_out[-1] < 0.5 * held_out[0]


def test_a_killed_run_goes_on_as_if_nothing_had_happened(corpus: str, tmp_path: Path) -> None:
    checkpoint = tmp_path / "lm.pt"
    kill_at = random.randrange(10, STEPS)
    # So many steps that it cannot end before it is killed; losses do not depend on how many there are to be.
    with start(corpus, checkpoint, "--steps", "1000000", "--workers", "2") as process:
        assert process.stdout is not None
        printed = []
        for line in process.stdout:  # until the workers, too, have noticed
            printed.append(line)
            if line.startswith(f"step {kill_at:5} "):
                time.sleep(random.uniform(0, 0.02))
                process.kill()
    assert process.returncode == -signal.SIGKILL
    saved = torch.load(checkpoint, weights_only=True)["step"]
    assert saved >= kill_at - kill_at % 10 - 10

    after = run(corpus, checkpoint, "--steps", str(saved + 20), "--resume")
    whole = run(corpus, tmp_path / "whole.pt", "--steps", str(saved + 20))
    assert min(after) == saved + 1, f"killed at step {kill_at}"
    assert after == {step: whole[step] for step in range(saved + 1, saved + 21)}, f"killed at step {kill_at}"
    for step, line in by_step(printed).items():
        assert step not in whole or whole[step].startswith(line), f"killed at step {kill_at}"


def test_object_storage_gives_the_same_losses(
    corpus: str, unbroken: dict[int, str], s3_root: str, tmp_path: Path
) -> None:
    storage = Storage.open(s3_root)
    for file in Path(corpus).rglob("*"):
        if file.is_file():
            storage.put(file.relative_to(corpus).as_posix(), [file.read_bytes()])
    assert run(s3_root, tmp_path / "lm.pt", "--steps", str(STEPS)) == unbroken


def test_two_ranks_see_the_batches_of_one(corpus: str, unbroken: dict[int, str], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", EXAMPLE, *SMALL]
    options = ["--uri", corpus, "--checkpoint", str(tmp_path / "lm.pt"), "--shuffle", "blocks", "--steps", "10"]
    output = subprocess.run([*command, *options], check=True, text=True, stdout=subprocess.PIPE).stdout
    found = by_step(output.splitlines())
    assert list(found) == list(range(1, 11))
    for step, line in found.items():
        # Floats are added in another order.
        assert float(line.split()[1]) == pytest.approx(float(unbroken[step].split()[1]), rel=1e-4)


def test_no_token_sees_later_ones_or_other_documents() -> None:
    from examples.train_tiny_lm import TinyLM

    model = TinyLM(50)
    documents = torch.tensor([[7] * 5 + [8] * 6 + [-1]])
    ids = torch.arange(12)[None]
    for changed, touched in [(2, range(2, 5)), (6, range(6, 11)), (10, range(10, 11)), (11, range(11, 12))]:
        other = ids.clone()
        other[0, changed] = 49
        with torch.no_grad():
            differs = (model.logits(ids, documents) != model.logits(other, documents)).any(-1)[0]
        assert differs.nonzero().flatten().tolist() == list(touched), f"token {changed} changed"


def test_it_says_what_to_do_without_the_demo(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, EXAMPLE], cwd=tmp_path, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert "`make demo`" in done.stderr


def start(uri: str, checkpoint: Path, *options: str) -> subprocess.Popen[str]:
    """Start a run; its output is to be read from its stdout."""
    command = [sys.executable, EXAMPLE, *SMALL, "--uri", uri, "--checkpoint", str(checkpoint), *options]
    # Threads that wait for each other are slow on a busy machine.
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})


def run(uri: str, checkpoint: Path, *options: str) -> dict[int, str]:
    """Run to the end; returns what it printed for each step."""
    with start(uri, checkpoint, *options) as process:
        assert process.stdout is not None
        found = by_step(process.stdout)
    assert process.returncode == 0
    return found


def by_step(lines: Iterable[str]) -> dict[int, str]:
    """Return what was printed for each step, without its speed: loss, validation loss, epoch, tokens."""
    found: dict[int, str] = {}
    for line in lines:
        if step := re.match(r"step +(\d+)  (.*?)(  \S+ tokens/s)?$", line.rstrip("\n")):
            number = int(step[1])
            found[number] = f"{found[number]}  {step[2]}" if number in found else step[2]
    return found
