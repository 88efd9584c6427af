"""s3fs reads all shards of a dataset one after another, as a stream: what `loader_s3` is compared with.

Needs only s3fs, in an environment of its own. Prints seconds, CPU seconds and bytes as one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import time

import s3fs

_READ_BYTES = 1 << 20


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("prefix", help="bucket/dataset/table")
    options = parser.parse_args()
    filesystem = s3fs.S3FileSystem(
        key=os.environ["AWS_ACCESS_KEY_ID"],
        secret=os.environ["AWS_SECRET_ACCESS_KEY"],
        endpoint_url=os.environ["AWS_ENDPOINT_URL"],
        client_kwargs={"region_name": os.environ["AWS_REGION"]},
    )
    began, cpu = time.perf_counter(), time.process_time()
    size = 0
    for path in sorted(filesystem.find(f"{options.prefix}/shards")):
        with filesystem.open(path, "rb") as file:
            while piece := file.read(_READ_BYTES):
                size += len(piece)
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    print(json.dumps({"seconds": seconds, "cpu_seconds": cpu, "bytes": size}))


if __name__ == "__main__":
    main()
