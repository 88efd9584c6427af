"""datatrove's own tokenization pipeline on a folder of zst JSONL: JsonlReader → DocumentTokenizer, stock settings.

Run by rivals_text.py with the interpreter of an environment that has datatrove.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--corpus", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--tokenizer", required=True, help="path of a tokenizer.json")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    start = time.perf_counter()
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.readers import JsonlReader
    from datatrove.pipeline.tokens import DocumentTokenizer

    files = len(list(Path(options.corpus).glob("*.jsonl.zst")))
    LocalPipelineExecutor(
        pipeline=[
            JsonlReader(options.corpus, glob_pattern="*.jsonl.zst", text_key="text", id_key="id"),
            # Shuffling is its default; ours does not shuffle, so neither does it here.
            DocumentTokenizer(str(options.out / "tokens"), options.tokenizer, shuffle_documents=False),
        ],
        tasks=files,  # a task a file: with fewer, its static dealing loses the tail
        workers=options.workers,
        logging_dir=str(options.out / "logs"),
    ).run()
    seconds = time.perf_counter() - start
    # u32 ids: the vocabularies used here have more than 65,536 entries.
    tokens = sum(path.stat().st_size for path in (options.out / "tokens").rglob("*.ds")) // 4
    print(json.dumps({"seconds": round(seconds, 2), "tokens": tokens}))


if __name__ == "__main__":
    main()
