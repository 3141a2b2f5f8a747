"""Servers whose files a dataset's URL names."""

from __future__ import annotations

from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from tests.hubs import files as web
from tests.hubs.fixtures import RunningHub, running

from qwensft_trainer.data import url as dataset_url

from .fetching import ROWS, CloudStorage


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(dataset_url, "_PIECE", 50_000)
    monkeypatch.setattr("qwensft_trainer.data.url.time.sleep", lambda _: None)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "GOOGLE_APPLICATION_CREDENTIALS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[RunningHub]:
    (tmp_path / "served" / "sft").mkdir(parents=True)
    (tmp_path / "served" / "sft" / "rows.jsonl").write_bytes(ROWS)
    with running(web, tmp_path / "served") as server:
        yield server


@pytest.fixture
def bucket(tmp_path: Path) -> Path:
    (tmp_path / "s3" / "team" / "sft").mkdir(parents=True)
    (tmp_path / "s3" / "team" / "sft" / "rows.jsonl").write_bytes(ROWS)
    return tmp_path / "s3"


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[type[CloudStorage], str]]:
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    handler: type[CloudStorage] = type("Handler", (CloudStorage,), {})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield handler, f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
