"""A client of an API server on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.unit.client.api_server import Server, kubeconfig, serve

from qwensft import Client
from qwensft.client import pods, transfer


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    content = Server(root=tmp_path / "volume")
    content.root.mkdir()
    http = serve(content)
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    path = tmp_path / "kubeconfig"
    path.write_text(kubeconfig(content.url))
    monkeypatch.setenv("KUBECONFIG", str(path))
    monkeypatch.setattr(transfer, "_PAUSE", 0.01)
    assert pods.MOUNT == "/workspace"  # which the server replaces
    yield content
    http.shutdown()
    http.server_close()


@pytest.fixture
def client(server: Server) -> Client:
    return Client()
