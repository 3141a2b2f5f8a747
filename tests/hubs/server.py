"""What the servers of this folder share: a directory behind HTTP, one line per request, and faults on purpose.

Ranges and HEAD work as on an ordinary web server. One line per request on stdout: `GET /path 200 1234` (method, path,
status, bytes of the body sent). What a client does when things go wrong is tried by POST /_test with one of

    {"breakAfter": 1000, "path": "rows.jsonl", "times": 2}    the connection ends after so many bytes of the file
    {"corrupt": "model.safetensors"}                          zeros instead of the content
    {"status": 503, "path": "…"}                              this answer
    {"store": "http://…", "path": "…"}                        the content is at that address, as hubs have it
    {"noRange": true, "path": "…"}, {"noETag": true, "path": "…"}    a server that cannot do that
    {"delay": 0.05}                                           seconds per 64 KiB
    {}                                                        all is well again

`path` is the end of the file's path, and `times` how often it happens, once if left out. The servers need Python's
standard library only.
"""

from __future__ import annotations

import abc
import argparse
import contextlib
import json
import re
import sys
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

PIECE = 64 << 10


class Refused(Exception):  # noqa: N818
    """An answer other than 200: its status, the protocol's code for it, and a message."""

    def __init__(self, status: int, code: str = "", message: str = "refused") -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


class Faults:
    """What goes wrong on purpose."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.planned: list[dict[str, Any]] = []
        self.delay = 0.0

    def plan(self, fault: dict[str, Any]) -> None:
        with self._lock:
            if not fault:
                self.planned.clear()
                self.delay = 0.0
            elif "delay" in fault:
                self.delay = float(fault["delay"])
            else:
                self.planned.append({"times": 1} | fault)

    def take(self, kind: str, path: str) -> Any:
        """The value of the first planned fault of this kind for the path, which is used up by `times` requests."""
        with self._lock:
            for fault in self.planned:
                if kind in fault and path.endswith(fault["corrupt"] if kind == "corrupt" else fault.get("path", "")):
                    fault["times"] -= 1
                    if fault["times"] <= 0:
                        self.planned.remove(fault)
                    return fault[kind]
        return None


class Handler(BaseHTTPRequestHandler, abc.ABC):
    """Answers GET and HEAD by `answer`, and what that refuses by `refuse`."""

    protocol_version = "HTTP/1.1"
    root: Path
    out: Any = sys.stdout
    faults: Faults

    @abc.abstractmethod
    def answer(self, url: SplitResult) -> None:
        """Send what the address stands for. Raises Refused."""

    def refuse(self, refused: Refused) -> None:
        """Say no in the protocol's way."""
        self.send(refused.status, b"", {})

    def logged(self) -> str:
        """The request's path as its line has it."""
        return self.path

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):
            super().handle()

    def do_GET(self) -> None:
        try:
            self.answer(urlsplit(self.path))
        except Refused as refused:
            self.refuse(refused)

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        if self.path == "/_test":
            self.faults.plan(json.loads(body or b"{}"))
            self.send_json({})
        else:
            self.send(405, b"", {})

    def fail_as_planned(self, path: str) -> None:
        """Raise Refused where the tests want that status."""
        status = self.faults.take("status", path)
        if status is not None:
            raise Refused(status)

    def below(self, directory: Path, name: str) -> Path:
        """Return the path of a name in a directory, which it does not lead out of. Raises Refused."""
        path = directory / name.lstrip("/")
        if not path.resolve().is_relative_to(directory.resolve()):
            raise Refused(404)
        return path

    def send_content(self, name: str, data: bytes, headers: dict[str, str]) -> None:
        """Send a file's content, or the range of it that was asked for."""
        if self.faults.take("corrupt", name) is not None:
            data = bytes(len(data))
        start, end, status = 0, len(data), 200
        if self.faults.take("noRange", name) is None:
            headers = headers | {"Accept-Ranges": "bytes"}
            if asked := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
                start = int(asked[1])
                end = min(len(data), int(asked[2]) + 1) if asked[2] else len(data)
                if start >= len(data):
                    self.send(416, b"", {"Content-Range": f"bytes */{len(data)}"})
                    return
                status = 206
                headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(data)}"
        limit = self.faults.take("breakAfter", name) if self.command == "GET" else None
        self.send(status, data[start:end], headers, limit=limit)

    def send_json(self, value: Any, headers: dict[str, str] | None = None, *, status: int = 200) -> None:
        self.send(status, json.dumps(value).encode(), {"Content-Type": "application/json"} | (headers or {}))

    def send(self, status: int, body: bytes, headers: dict[str, str], *, limit: int | None = None) -> None:
        """Send an answer and write its line. With a limit the connection ends after so many bytes of the body."""
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
                if self.faults.delay:
                    time.sleep(self.faults.delay)
            if limit is not None and limit < len(body):
                self.close_connection = True
        finally:
            with contextlib.suppress(OSError):
                self.out.write(f"{self.command} {self.logged()} {status} {sent}\n")
                self.out.flush()

    def log_message(self, *_: object) -> None:
        """The line per request is written by `send`, with the bytes that went out."""


def listen(handler: type[Handler], root: Path, port: int, host: str, **attributes: Any) -> ThreadingHTTPServer:
    """A server, not yet running, whose handlers have these attributes; port 0 takes a free one."""
    attributes |= {"root": root, "faults": Faults()}
    server = ThreadingHTTPServer((host, port), type("Handler", (handler,), attributes))
    server.daemon_threads = True
    return server


def run(description: str | None, serve: Callable[[Path, int, str], ThreadingHTTPServer]) -> None:
    """Serve as the command line says, for ever."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--host", default="0.0.0.0")  # noqa: S104
    options = parser.parse_args()
    serve(options.root, options.port, options.host).serve_forever()
