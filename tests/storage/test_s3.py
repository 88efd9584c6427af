"""What only object storage can suffer: lost answers, refusals, servers that die."""

import hashlib
import http.server
import os
import random
import threading
import time
import tracemalloc
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from infra.s3_server import S3Server
from tests.storage.chaos import Relay
from tokenmill.errors import ConfigurationError, StorageError
from tokenmill.storage import s3, s3_client
from tokenmill.storage.inputs import expand
from tokenmill.storage.outputs import Storage


@pytest.fixture
def relay(s3_root: str, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Relay]:
    with Relay(int(s3_server.endpoint.rpartition(":")[2])) as relay:
        monkeypatch.setenv("AWS_ENDPOINT_URL", relay.endpoint)
        yield relay


def test_large_objects_go_up_in_parts(s3_root: str) -> None:
    storage = Storage.open(s3_root)
    data = random.Random(3).randbytes(s3.MULTIPART_BYTES + 12_345_678)
    entry = storage.put("large", [data[:1], memoryview(data)[1:20_000_000], data[20_000_000:]])
    assert entry.version.endswith('-4"')
    assert entry == next(iter(storage.list()))
    assert storage.read("large") == data
    assert not storage.stale_uploads(timedelta(0))


def test_putting_copies_only_a_part_buffer(s3_root: str) -> None:
    storage = Storage.open(s3_root)
    data = bytes(160 << 20)
    storage.stat("warm")
    tracemalloc.start()
    try:
        storage.put("large", [data])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 64 << 20


def test_many_objects_are_listed_and_deleted_in_pages(s3_root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    send = s3_client._send
    pages: list[str] = []

    def small_pages(operation: str, parameters: dict[str, object]) -> dict[str, object]:
        pages.append(operation)
        return send(operation, {**parameters, "MaxKeys": 10} if operation == "list_objects_v2" else parameters)

    monkeypatch.setattr(s3_client, "_send", small_pages)
    monkeypatch.setattr(s3, "_DELETIONS_PER_REQUEST", 10)
    storage = Storage.open(s3_root)
    paths = {f"many/{number:04}" for number in range(35)}
    for path in paths:
        storage.create(path, b"x")
    assert {entry.path for entry in storage.list("many")} == paths
    assert [f"many/{file.path}" for file in expand([f"{s3_root}/many"]).files] == sorted(paths)
    storage.delete(paths)
    assert (pages.count("list_objects_v2"), pages.count("delete_objects")) == (8, 4)
    assert list(storage.list()) == []


@pytest.mark.parametrize("size", [100, s3.MULTIPART_BYTES + 1])
def test_put_when_answers_are_lost(s3_root: str, relay: Relay, size: int) -> None:
    storage = Storage.open(s3_root)
    storage.stat("warm")
    data = random.Random(size).randbytes(size)
    for lost in (1, 2, 4):
        relay.lose_answers = lost
        assert storage.put(f"x{lost}", [data]).size_bytes == size
        assert storage.read(f"x{lost}") == data
    assert relay.broken >= 7


def test_create_when_the_answer_is_lost(s3_root: str, relay: Relay) -> None:
    storage = Storage.open(s3_root)
    storage.stat("warm")
    relay.lose_answers = 1
    assert storage.create("ours", b"ours")
    relay.lose_answers = 1
    assert not storage.create("ours", b"theirs")
    assert storage.read("ours") == b"ours"
    assert not storage.create("ours", b"ours")
    assert relay.broken == 2


@pytest.mark.parametrize("cut_after_bytes", [0, 1, 50_000, 99_999])
def test_a_request_cut_short_publishes_nothing(
    s3_root: str, relay: Relay, monkeypatch: pytest.MonkeyPatch, cut_after_bytes: int
) -> None:
    """As when the writer is killed between two packets."""
    storage = Storage.open(s3_root)
    monkeypatch.setattr(s3_client, "RETRY_SECONDS", 0.0)
    relay.cut_bodies_after_bytes = cut_after_bytes
    for write in (lambda: storage.put("put", [bytes(100_000)]), lambda: storage.create("created", bytes(100_000))):
        with pytest.raises(StorageError, match="did not answer"):
            write()
    relay.cut_bodies_after_bytes = None
    time.sleep(0.2)  # the server learns of it, too
    assert list(storage.list()) == []
    assert relay.broken == 2


def test_reading_over_connections_that_break(s3_root: str, relay: Relay, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = Storage.open(s3_root)
    data = random.Random(5).randbytes(40 << 20)
    storage.put("x", [data])
    relay.break_after_bytes = 30 << 20
    with storage.open_file("x") as file:
        received = b"".join(iter(lambda: file.read(1 << 20), b""))
    assert received == data
    assert relay.broken > 0


def test_wrong_credentials_fail_at_once(s3_root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = Storage.open(s3_root)
    for name in ("AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID"):
        monkeypatch.setenv(name, "wrong")
        for operation in (
            lambda: storage.put("x", [b""]),
            lambda: storage.create("x", b""),
            lambda: storage.read("x"),
            lambda: storage.stat("x"),
            lambda: list(storage.list()),
            lambda: storage.delete(["x"]),
        ):
            began = time.monotonic()
            with pytest.raises(StorageError, match="credentials"):
                operation()
            assert time.monotonic() - began < 3


def test_no_credentials(s3_root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    with pytest.raises(StorageError, match="no credentials are set"):
        Storage.open(s3_root).stat("x")


def test_missing_bucket(s3_root: str) -> None:
    storage = Storage.open("s3://no-such-bucket/dataset")
    for operation in (lambda: storage.put("x", [b""]), lambda: storage.create("x", b""), lambda: list(storage.list())):
        with pytest.raises(StorageError, match=r"s3://no-such-bucket: the bucket does not exist"):
            operation()


def test_malformed_endpoint(s3_root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "not an endpoint")
    with pytest.raises(ConfigurationError, match="AWS_ENDPOINT_URL"):
        Storage.open(s3_root).stat("x")


def test_a_server_that_stays_away(s3_root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setattr(s3_client, "RETRY_SECONDS", 1.0)
    began = time.monotonic()
    with pytest.raises(StorageError, match=r"did not answer for \d+ s.*(?s:.*)AWS_ENDPOINT_URL"):
        Storage.open(s3_root).put("x", [b""])
    assert 1 <= time.monotonic() - began < 4


def test_an_object_replaced_while_it_is_read(s3_root: str) -> None:
    storage = Storage.open(s3_root)
    storage.put("x", [bytes(3 << 20)])
    with storage.open_file("x") as file:
        file.read(10)
        storage.put("x", [b"1" * (3 << 20)])
        with pytest.raises(StorageError, match="replaced while it was read"):
            file.read()


def test_uploads_that_were_left(s3_root: str) -> None:
    storage = Storage.open(s3_root)
    bucket, _, prefix = s3_root.removeprefix("s3://").partition("/")
    s3_client.call("create_multipart_upload", where=s3_root, Bucket=bucket, Key=f"{prefix}/a/shard")
    assert not storage.stale_uploads(timedelta(hours=1))
    (upload,) = storage.stale_uploads(timedelta(0))
    assert upload.path == "a/shard"
    storage.abort_upload(upload)
    storage.abort_upload(upload)
    assert not storage.stale_uploads(timedelta(0))


def test_a_failed_upload_is_aborted(s3_root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = Storage.open(s3_root)
    send = s3_client._send

    def fail_third_part(operation: str, parameters: dict[str, object]) -> dict[str, object]:
        if parameters.get("PartNumber") == 3:
            raise KeyboardInterrupt
        return send(operation, parameters)

    monkeypatch.setattr(s3_client, "_send", fail_third_part)
    with pytest.raises(KeyboardInterrupt):
        storage.put("x", [bytes(40 << 20)])
    assert storage.stat("x") is None
    assert not storage.stale_uploads(timedelta(0))


def test_a_server_that_ignores_the_condition(s3_root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some gateways do: they answer 200 to every PUT."""

    class Careless(http.server.BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.answer(b"")

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.answer(b"<DeleteResult/>")

        def answer(self, body: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Careless) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
            assert not Storage.open(s3_root).supports_exclusive_create()
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("kills", [2, pytest.param(20, marks=pytest.mark.slow)])
def test_the_server_is_killed_while_shards_are_written(own_server: S3Server, kills: int) -> None:
    storage = Storage.open(f"s3://{own_server.bucket}/dataset")
    stopping = threading.Event()
    written: list[str] = []

    def write() -> None:
        generator = random.Random(11)
        while not stopping.is_set():
            data = os.urandom(generator.choice([1000, 1_000_000, 20_000_000]))
            name = hashlib.sha256(data).hexdigest()
            storage.put(f"shards/{name}", [data])
            assert storage.create(f"receipts/{name}", name.encode())
            written.append(name)

    failures: list[BaseException] = []

    def guarded() -> None:
        try:
            write()
        except BaseException as error:
            failures.append(error)

    writer = threading.Thread(target=guarded)
    writer.start()
    generator = random.Random(kills)
    for _ in range(kills):
        before = len(written)
        deadline = time.monotonic() + 30
        while len(written) < before + 2 and not failures and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(generator.uniform(0, 0.2))
        own_server.kill()
        time.sleep(generator.uniform(0, 0.5))
        own_server.start()
    stopping.set()
    writer.join(60)
    assert not failures
    assert len(written) >= 2 * kills
    assert {entry.path.removeprefix("shards/") for entry in storage.list("shards")} == set(written)
    assert {entry.path.removeprefix("receipts/") for entry in storage.list("receipts")} == set(written)
    for name in written:
        assert hashlib.sha256(storage.read(f"shards/{name}")).hexdigest() == name
        assert storage.read(f"receipts/{name}") == name.encode()


def test_the_server_restarts_while_an_object_is_read(own_server: S3Server) -> None:
    storage = Storage.open(f"s3://{own_server.bucket}/dataset")
    data = random.Random(17).randbytes(60 << 20)
    storage.put("x", [data])
    with storage.open_file("x") as file:
        start = file.read(1000)
        own_server.restart()
        assert start + file.read() == data
