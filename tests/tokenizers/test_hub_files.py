from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from huggingface_hub import constants

from tokenmill.errors import AssetError
from tokenmill.tokenizers.hub_files import hub_file

REVISION = "0123456789abcdef0123456789abcdef01234567"
CONTENT = b'{"weight_map": {}}'


class Hub(BaseHTTPRequestHandler):
    """A hub with one repository that has one file."""

    def do_HEAD(self) -> None:
        found = self.path == f"/org/model/resolve/{REVISION}/model.safetensors.index.json"
        self.send_response(200 if found else 404)
        self.send_header("X-Repo-Commit", REVISION)
        if found:
            self.send_header("ETag", '"0123"')
            self.send_header("Content-Length", str(len(CONTENT)))
        else:
            self.send_header("X-Error-Code", "EntryNotFound")
            self.send_header("Content-Length", "0")
        self.end_headers()

    def do_GET(self) -> None:
        self.do_HEAD()
        self.wfile.write(CONTENT)

    def log_message(self, *arguments: object) -> None:
        """Print nothing."""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache, and a hub."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    endpoint = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", endpoint + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    yield tmp_path
    server.shutdown()
    server.server_close()


def test_the_first_file_that_there_is_is_fetched_once(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("model.safetensors", "model.safetensors.index.json")
    path = hub_file("org/model", REVISION, names, "vq")
    assert path.name == "model.safetensors.index.json"
    assert path.read_bytes() == CONTENT
    assert path.is_relative_to(cache)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert hub_file("org/model", REVISION, names, "vq") == path


def test_a_revision_without_the_file_is_refused(cache: Path) -> None:
    with pytest.raises(AssetError, match=f"org/model@{REVISION}: this revision has no a and no b"):
        hub_file("org/model", REVISION, ("a", "b"), "vq")


def test_a_file_that_cannot_be_fetched_is_refused(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(AssetError, match=r"model\.safetensors: cannot fetch[\s\S]*local path"):
        hub_file("org/model", REVISION, ("model.safetensors",), "vq")
    with pytest.raises(AssetError, match="cannot fetch"):
        hub_file("not a name", REVISION, ("model.safetensors",), "vq")
