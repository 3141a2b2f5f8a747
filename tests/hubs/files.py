#!/usr/bin/env python3
"""Files over plain HTTP: `python files.py --root DIR --port N`. Python's standard library only.

Range, ETag and HEAD work as on an ordinary web server; a directory is 404. A file `.authorization` in a directory holds
the value of the Authorization header that its files ask for. `?redirect=URL` answers 302 with that address.

One line per request on stdout: `GET /path 200 1234` (method, path, status, bytes of the body sent). What a client does
when things go wrong is tried by POST /_test with {"breakAfter": 1000, "path": "rows.jsonl", "times": 2} (the connection
ends after so many bytes of a file), {"status": 503, "path": "…"}, {"noRange": true, "path": "…"}, {"noETag": true,
"path": "…"} or {} (all is well).
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import re
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

PIECE = 64 << 10


class Faults:
    """What goes wrong on purpose."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.planned: list[dict[str, Any]] = []

    def plan(self, fault: dict[str, Any]) -> None:
        with self._lock:
            if fault:
                self.planned.append({"times": 1} | fault)
            else:
                self.planned.clear()

    def take(self, kind: str, path: str) -> Any:
        """The value of the first planned fault of this kind for the path, which is used up by `times` requests."""
        with self._lock:
            for fault in self.planned:
                if kind in fault and path.endswith(fault.get("path", "")):
                    fault["times"] -= 1
                    if fault["times"] <= 0:
                        self.planned.remove(fault)
                    return fault[kind]
        return None


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    root: Path
    out: Any = sys.stdout
    faults: Faults

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):
            super().handle()

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        if self.path == "/_test":
            self.faults.plan(json.loads(body or b"{}"))
            self._send(200, b"{}", {"Content-Type": "application/json"})
        else:
            self._send(405, b"", {})

    def _answer(self) -> None:
        url = urlsplit(self.path)
        if elsewhere := parse_qs(url.query).get("redirect"):
            self._send(302, b"", {"Location": elsewhere[0]})
            return
        status = self.faults.take("status", url.path)
        if status is not None:
            self._send(status, b"", {})
            return
        path = self.root / unquote(url.path).lstrip("/")
        if not path.resolve().is_relative_to(self.root.resolve()) or not path.is_file() or path.name.startswith("."):
            self._send(404, b"no such file\n", {})
            return
        wanted = path.parent / ".authorization"
        if wanted.is_file() and self.headers.get("Authorization") != wanted.read_text().strip():
            self._send(401, b"", {"WWW-Authenticate": "Bearer"})
            return
        self._content(path, url.path)

    def _content(self, path: Path, name: str) -> None:
        data = path.read_bytes()
        headers = {"Content-Type": "application/octet-stream"}
        if self.faults.take("noETag", name) is None:
            headers["ETag"] = f'"{hashlib.sha256(data).hexdigest()[:32]}"'
        start, end, status = 0, len(data), 200
        if self.faults.take("noRange", name) is None:
            headers["Accept-Ranges"] = "bytes"
            if asked := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
                start = int(asked[1])
                end = min(len(data), int(asked[2]) + 1) if asked[2] else len(data)
                if start >= len(data):
                    self._send(416, b"", {"Content-Range": f"bytes */{len(data)}"})
                    return
                status = 206
                headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(data)}"
        limit = self.faults.take("breakAfter", name) if self.command == "GET" else None
        self._send(status, data[start:end], headers, limit=limit)

    def _send(self, status: int, body: bytes, headers: dict[str, str], *, limit: int | None = None) -> None:
        sent = 0
        try:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "HEAD":
                return
            whole = body if limit is None else body[:limit]
            while sent < len(whole):
                self.wfile.write(whole[sent : sent + PIECE])
                sent = min(sent + PIECE, len(whole))
            if limit is not None and limit < len(body):
                self.close_connection = True
        finally:
            with contextlib.suppress(OSError):
                self.out.write(f"{self.command} {self.path} {status} {sent}\n")
                self.out.flush()

    def log_message(self, *_: object) -> None:
        """The line per request is written by _send, with the bytes that went out."""


def serve(root: Path, port: int = 0, host: str = "127.0.0.1") -> ThreadingHTTPServer:
    """A server, not yet running; port 0 takes a free one."""
    handler = type("Handler", (Handler,), {"root": root, "faults": Faults()})
    server = ThreadingHTTPServer((host, port), handler)
    server.daemon_threads = True
    return server


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--port", type=int, default=8004)
    parser.add_argument("--host", default="0.0.0.0")  # noqa: S104
    options = parser.parse_args()
    serve(options.root, options.port, options.host).serve_forever()


if __name__ == "__main__":
    main()
