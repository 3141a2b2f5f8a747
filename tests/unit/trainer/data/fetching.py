"""Fetches what a dataset's URL names, as the stage does, and a store to fetch it from."""

from __future__ import annotations

import json
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from qwensft_trainer.contract.config import DatasetDownload
from qwensft_trainer.contract.errors import EXIT_PERMANENT, StageError
from qwensft_trainer.data.url import Address

ROWS = b"".join(b'{"instruction": "Say %d", "output": "%d"}\n' % (number, number) for number in range(5000))
FIELD = "spec.datasets[tickets].source.url"


def secret(tmp_path: Path, **keys: str) -> Path:
    directory = tmp_path / "secret"
    directory.mkdir()
    for name, value in keys.items():
        (directory / name).write_text(value + "\n")
    return directory


def fetched(tmp_path: Path, url: str, *, sha256: str | None = None, **more: Any) -> bytes:
    target = tmp_path / "down" / "rows.jsonl"
    Address(DatasetDownload(hub="url", url=url, **more), FIELD).fetch(url, target, sha256=sha256)
    assert [path.name for path in target.parent.iterdir()] == ["rows.jsonl"]
    return target.read_bytes()


def failure(tmp_path: Path, url: str, **more: Any) -> StageError:
    with pytest.raises(StageError) as caught:
        fetched(tmp_path, url, **more)
    return caught.value


def refusal(tmp_path: Path, url: str, **more: Any) -> str:
    error = failure(tmp_path, url, **more)
    assert (error.reason, error.exit_code) == ("InvalidDataset", EXIT_PERMANENT)
    return error.message


class CloudStorage(BaseHTTPRequestHandler):
    """The two requests of Google Cloud Storage's JSON API that reading a file takes."""

    granted: str | None = None

    def do_GET(self) -> None:
        if self.granted is not None and self.headers.get("Authorization") != f"Bearer {self.granted}":
            self._send(403, b'{"error": {"code": 403, "message": "no access"}}', {})
        elif "lost" in self.path:
            self._send(404, b'{"error": {"code": 404, "message": "Not Found"}}', {})
        elif "alt=media" in self.path:
            start, end = (int(part) for part in self.headers["Range"].removeprefix("bytes=").split("-"))
            piece = ROWS[start : end + 1]
            self._send(206, piece, {"Content-Range": f"bytes {start}-{start + len(piece) - 1}/{len(ROWS)}"})
        else:
            described = {"bucket": "team", "name": "sft/rows.jsonl", "size": str(len(ROWS)), "generation": "1"}
            self._send(200, json.dumps(described).encode(), {"Content-Type": "application/json"})

    def do_POST(self) -> None:
        self._send(200, json.dumps({"access_token": "pass", "expires_in": 3600}).encode(), {})

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body)), "Content-Type": "application/json"} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None: ...
