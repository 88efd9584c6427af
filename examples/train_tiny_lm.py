"""Train a tiny language model on token shards: a page to read, and to start from.

    make demo                                               # builds .out/demo
    python examples/train_tiny_lm.py                        # about two minutes on two cores
    python examples/train_tiny_lm.py --resume               # goes on where a crash, a kill or the last step left it
    python examples/train_tiny_lm.py --uri s3://corpora/books --table text
    torchrun --nproc-per-node 2 examples/train_tiny_lm.py   # several ranks, on CPU

A run that is killed and resumed prints the same losses as one that is not, digit for digit.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import torch
import torch.distributed.nn  # before there is a process group: its default arguments would hold it for good
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader

from tokenmill.errors import TokenmillError
from tokenmill.loader import Subset, TokenLoader

DEMO = ".out/demo"
#: Fixed, because another number of threads adds floats in another order. torchrun sets it to 1 a rank; on a machine
#: that is busy with other things 1 is faster, too.
THREADS = int(os.environ.get("OMP_NUM_THREADS", "2"))
#: Ids from here on are folded onto those below: a tiny model has no room for 200,000 embeddings.
LARGEST_VOCABULARY = 8192
WIDTH, HEADS, LAYERS = 128, 4, 4
LEARNING_RATE, WARMUP_STEPS = 2e-3, 50
VALIDATION_FRACTION, VALIDATION_BATCHES = 0.05, 10
#: What cross_entropy leaves out.
IGNORED = -100


def rotate(x: Tensor, angles: Tensor) -> Tensor:
    """Turn pairs of channels of `[sample, head, token, channel]` by their token's angles: rotary position embedding.

    Attention then sees the distance of two tokens only (Su et al. 2021, RoFormer), so places in the window do.
    """
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * angles.cos() - b * angles.sin(), a * angles.sin() + b * angles.cos()], dim=-1)


class Layer(nn.Module):
    """Attention and a feed-forward net, each added to what came in."""

    def __init__(self) -> None:
        super().__init__()
        self.attention_norm, self.mlp_norm = nn.RMSNorm(WIDTH), nn.RMSNorm(WIDTH)
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH, bias=False), nn.Linear(WIDTH, WIDTH, bias=False)
        self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH, bias=False), nn.Linear(4 * WIDTH, WIDTH, bias=False)

    def forward(self, x: Tensor, mask: Tensor, angles: Tensor) -> Tensor:
        """Return `[sample, token, channel]` of the same."""
        query, key, value = self.qkv(self.attention_norm(x)).unflatten(-1, (3, HEADS, -1)).transpose(1, 3).unbind(2)
        query, key = rotate(query, angles), rotate(key, angles)
        seen = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        x = x + self.out(seen.transpose(1, 2).flatten(2))
        hidden: Tensor = x + self.down(functional.gelu(self.up(self.mlp_norm(x))))
        return hidden


class TinyLM(nn.Module):
    """A decoder-only transformer that never looks from one document into another."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.vocabulary = vocabulary
        self.embedding = nn.Embedding(vocabulary, WIDTH)
        nn.init.normal_(self.embedding.weight, std=WIDTH**-0.5)
        self.layers = nn.ModuleList(Layer() for _ in range(LAYERS))
        self.norm = nn.RMSNorm(WIDTH)

    def logits(self, ids: Tensor, documents: Tensor) -> Tensor:
        """Return `[sample, token, id]`, the logits of the token after each, of int64 `[sample, token]` twice."""
        tokens = ids.shape[1]
        same = documents[:, None, :, None] == documents[:, None, None, :]
        mask = same & torch.ones(tokens, tokens, dtype=torch.bool).tril()
        channels = WIDTH // HEADS // 2
        angles = torch.arange(tokens)[:, None] * 10_000.0 ** (-torch.arange(channels) / channels)
        x = self.embedding(ids)
        for layer in self.layers:
            x = layer(x, mask, angles)
        return functional.linear(self.norm(x), self.embedding.weight)

    def forward(self, ids: Tensor, documents: Tensor) -> tuple[Tensor, Tensor]:
        """Return the loss in nats, summed over the tokens that follow one of their own document, and their number."""
        ids = ids % self.vocabulary
        logits = self.logits(ids, documents)[:, :-1].flatten(0, 1)
        known = (documents[:, 1:] == documents[:, :-1]) & (documents[:, 1:] >= 0)  # neither a new document nor padding
        targets = ids[:, 1:].masked_fill(~known, IGNORED).flatten()
        return functional.cross_entropy(logits, targets, ignore_index=IGNORED, reduction="sum"), known.sum()


def read(loader: TokenLoader, workers: int = 0) -> Iterable[dict[str, Any]]:
    """Return an epoch's batches, or what is left of it, as tensors; in worker processes if there are to be any."""
    return DataLoader(loader, batch_size=None, num_workers=workers)  # type: ignore[arg-type]


def over_ranks(number: Tensor) -> Tensor:
    """Return the sum of a number over all ranks."""
    number = number.detach().clone()
    if torch.distributed.is_initialized():
        torch.distributed.all_reduce(number)
    return number


def validate(model: TinyLM, held_out: TokenLoader, beginning: Mapping[str, Any]) -> float:
    """Return the mean loss on held-out windows, the same ones every time."""
    held_out.load_state_dict(beginning)
    total = torch.zeros(2, dtype=torch.float64)
    with torch.no_grad():
        for batch in islice(read(held_out), VALIDATION_BATCHES):
            total += torch.stack(model(batch["ids"], batch["document_ids"]))
    loss, count = over_ranks(total).tolist()
    return float(loss / count)


def save(path: Path, checkpoint: Mapping[str, Any]) -> None:
    """Write aside and rename: whenever the run is killed, the file is a whole checkpoint, the last or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f"{path.name}.aside")
    with open(aside, "wb") as file:
        torch.save(checkpoint, file)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)


def train(options: argparse.Namespace) -> None:
    """Train, say how it goes, and save a checkpoint every so many steps."""
    rank, world_size = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    if world_size > 1:
        torch.distributed.init_process_group("gloo")
    torch.set_num_threads(THREADS)
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(options.seed)

    reading: dict[str, Any] = {
        "table": options.table,
        "window": options.window,
        "global_batch_size": options.global_batch_size,
        "seed": options.seed,
        "rank": rank,
        "world_size": world_size,
        "shuffle": options.shuffle or ("blocks" if options.uri.startswith("s3://") else "global"),
        "fields": ("ids", "document_ids"),
    }
    loader = TokenLoader(options.uri, subset=Subset("train", VALIDATION_FRACTION), **reading)
    # Padded, so that a subset smaller than a batch gives one, too.
    held_out = TokenLoader(options.uri, subset=Subset("validation", VALIDATION_FRACTION), tail="pad", **reading)
    beginning = held_out.state_dict()

    corpus = loader.sources[0].corpus
    vocabulary = corpus.table.streams[corpus.stream].vocabulary_size or LARGEST_VOCABULARY
    model = TinyLM(min(vocabulary, LARGEST_VOCABULARY))
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE)
    # It rises and stays: a rate that depended on --steps could not be resumed with more of them.
    rate = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / WARMUP_STEPS))
    parts: dict[str, Any] = {"model": model, "optimizer": optimizer, "rate": rate}
    step = 0
    if options.resume and options.checkpoint.exists():
        checkpoint = torch.load(options.checkpoint, weights_only=True)
        for name, part in parts.items():
            part.load_state_dict(checkpoint[name])
        loader.load_state_dict(checkpoint["loader"])
        step = checkpoint["step"]
        report(rank, f"resumed after step {step}, {loader.tokens:,} tokens")
    elif options.resume:
        report(rank, f"no checkpoint at {options.checkpoint}: starting at the beginning")
    trained = nn.parallel.DistributedDataParallel(model) if world_size > 1 else model

    began, tokens = time.perf_counter(), 0
    while step < options.steps:
        for batch in read(loader, options.workers):
            loss, count = trained(batch["ids"], batch["document_ids"])
            whole_count = over_ranks(count)
            optimizer.zero_grad()
            # Ranks' gradients are averaged; what is wanted is their sum, by the tokens of the whole batch.
            (loss * world_size / whole_count).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            rate.step()
            step, tokens = step + 1, tokens + options.window * options.global_batch_size

            last = step == options.steps
            if step % options.log_every == 0 or last:
                mean, speed = float(over_ranks(loss) / whole_count), tokens / (time.perf_counter() - began)
                report(rank, f"step {step:5}  loss {mean:.6f}  {speed:,.0f} tokens/s")
                began, tokens = time.perf_counter(), 0
            if step % options.save_every == 0 or last:
                state = loader.state_dict(batch)  # workers read ahead; the batch says how far training has come
                mean, epoch = validate(model, held_out, beginning), state["sources"][0]["next"][0]
                report(rank, f"step {step:5}  validation loss {mean:.6f}  epoch {epoch}  {state['tokens']:,} tokens")
                if rank == 0:
                    states = {name: part.state_dict() for name, part in parts.items()}
                    save(options.checkpoint, {"step": step, "loader": state, **states})
                began, tokens = time.perf_counter(), 0
            if last:
                break


def report(rank: int, line: str) -> None:
    """Print a line, once for all ranks."""
    if rank == 0:
        print(line, flush=True)


def main() -> None:
    """Read the options and train."""
    parser = argparse.ArgumentParser(description="Train a tiny language model on token shards.")
    parser.add_argument("--uri", default=DEMO, help="dataset: a directory or s3://bucket/prefix (default %(default)s)")
    parser.add_argument("--table", default="bytes", help="table of the dataset (default %(default)s)")
    parser.add_argument("--steps", type=int, default=300, help="steps in all (default %(default)s)")
    parser.add_argument("--window", type=int, default=256, help="tokens of a sample (default %(default)s)")
    parser.add_argument("--global-batch-size", type=int, default=16, help="samples of a step (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the model and of the order (default %(default)s)")
    parser.add_argument("--shuffle", choices=["global", "blocks", "none"], help="default global; blocks from s3://")
    parser.add_argument("--workers", type=int, default=0, help="DataLoader workers (default %(default)s)")
    parser.add_argument("--checkpoint", type=Path, default=Path(".out/tiny_lm.pt"), help="default %(default)s")
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint, if there is one")
    parser.add_argument("--save-every", type=int, default=50, help="steps between checkpoints (default %(default)s)")
    parser.add_argument("--log-every", type=int, default=10, help="steps between lines (default %(default)s)")
    options = parser.parse_args()
    try:
        train(options)
    except TokenmillError as error:
        demo = "\n  → `make demo` builds the demo" if options.uri == DEMO and not Path(DEMO).exists() else ""
        sys.exit(f"error: {error}{demo}")
    finally:
        if torch.distributed.is_initialized():
            # Joins its threads. One that outlives the interpreter and then lets go of a tensor aborts the process.
            torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
