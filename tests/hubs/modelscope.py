#!/usr/bin/env python3
"""A ModelScope hub over a directory: `python modelscope.py --root DIR --port N`. Python's standard library only.

DIR/models/<owner>/<name>/ and DIR/datasets/<owner>/<name>/ are repositories, all at the one revision `master` (and the
lines of a file `.revisions`). A file `.private` (its first line: the token that opens it) restricts a repository. Like
the real hub it gives a SHA-256 for every file, no commit, and an empty list for a revision it does not know.

One line per request on stdout: `GET /path 200 1234` (method, path, status, bytes of the body sent). What a client does
when things go wrong is tried by POST /_test with {"breakAfter": 100000, "path": "model.safetensors", "times": 2} (the
connection ends after so many bytes of a file), {"corrupt": "name"} (zeros instead of the content), {"status": 503,
"path": "…"}, {"store": "http://…", "path": "…"} (a redirect to that address), {"delay": 0.05} (seconds per 64 KiB) or
{} (all is well again).
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import re
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

PIECE = 64 << 10
API = re.compile(r"/api/v1/(models|datasets)/([^/]+/[^/]+)(?:/(repo|repo/files|repo/tree|revisions))?")
HIDDEN = {".private", ".revisions"}


class Refused(Exception):  # noqa: N818
    """An answer other than 200."""

    def __init__(self, status: int, message: str = "refused") -> None:
        super().__init__(message)
        self.status, self.message = status, message


class Faults:
    """What goes wrong on purpose."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.planned: list[dict[str, Any]] = []
        self.delay = 0.0

    def plan(self, fault: dict[str, Any]) -> None:
        with self._lock:
            self.delay = float(fault.get("delay", self.delay))
            if set(fault) & {"breakAfter", "corrupt", "status", "store"}:
                self.planned.append({"times": 1} | fault)
            if not fault:
                self.planned.clear()
                self.delay = 0.0

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
        if self.path == "/_test":
            self.faults.plan(json.loads(self.rfile.read(int(self.headers["Content-Length"])) or b"{}"))
            self._data({})
        else:
            self._send(404, b"", {})

    def _answer(self) -> None:
        url = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(url.query).items()}
        try:
            status = self.faults.take("status", query.get("FilePath", url.path))
            if status is not None:
                raise Refused(status)
            if url.path == "/api/v1/repos/internalAccelerationInfo":
                self._data({"InternalRegionQueryAddress": ""})
            elif match := API.fullmatch(url.path):
                self._api(match[1], match[2], match[3], query)
            else:
                raise Refused(404)
        except Refused as refused:
            body = {"Code": refused.status, "Message": refused.message, "Success": False, "RequestId": "test"}
            self._send(refused.status, json.dumps(body).encode(), {"Content-Type": "application/json"})

    def _api(self, kind: str, name: str, what: str | None, query: dict[str, str]) -> None:
        directory = self._repository(kind, name)
        listed = directory / ".revisions"
        revisions = ["master", *(listed.read_text().split() if listed.is_file() else ())]
        if what is None:
            owner, _, short = unquote(name).partition("/")
            self._data({"Id": 1, "Path": owner, "Name": short, "Visibility": 5})
        elif what == "revisions":
            branches = [{"Revision": revision, "CreatedAt": 0} for revision in revisions]
            self._data({"RevisionMap": {"Branches": branches, "Tags": []}})
        elif what == "repo":
            self._file(directory, query.get("FilePath", ""), known=query.get("Revision", "master") in revisions)
        else:
            known = query.get("Revision", "master") in revisions
            self._list(directory, query, known=known)

    def _repository(self, kind: str, name: str) -> Path:
        directory = self.root / kind / unquote(name)
        if not directory.resolve().is_relative_to(self.root.resolve()) or not directory.is_dir():
            raise Refused(404, "the repository does not exist")
        private = directory / ".private"
        if private.is_file():
            token = self.headers.get("Authorization", "").removeprefix("Bearer ")
            if not token:
                raise Refused(404, "the repository does not exist")
            if token != private.read_text().split("\n")[0]:
                raise Refused(403, "access denied")
        return directory

    def _list(self, directory: Path, query: dict[str, str], *, known: bool) -> None:
        if not known:
            self._data({"Files": None, "IsVisual": 0, "LatestCommitter": None})
            return
        base = directory / query.get("Root", "").strip("/")
        found = base.rglob("*") if query.get("Recursive", "").lower() == "true" else base.glob("*")
        entries = [self._entry(directory, path) for path in sorted(found) if path.name not in HIDDEN]
        if "PageNumber" in query:
            size = int(query.get("PageSize", "100"))
            start = (int(query["PageNumber"]) - 1) * size
            entries = entries[start : start + size]
        self._data({"Files": entries, "IsVisual": 0, "LatestCommitter": {"Id": "", "ShortId": "0123abcd"}})

    def _entry(self, directory: Path, path: Path) -> dict[str, Any]:
        name = path.relative_to(directory).as_posix()
        if path.is_dir():
            return {"Path": name, "Name": path.name, "Type": "tree", "Size": 0, "Sha256": "", "Revision": "master"}
        size = path.stat().st_size
        digest = _digest(path, path.stat().st_mtime_ns)
        entry = {"Path": name, "Name": path.name, "Type": "blob", "Size": size, "Sha256": digest}
        return entry | {"IsLFS": size >= 4096, "Revision": "master", "Mode": "33188"}

    def _file(self, directory: Path, name: str, *, known: bool) -> None:
        path = directory / name
        inside = path.resolve().is_relative_to(directory.resolve())
        if not known or not inside or path.name in HIDDEN or not path.is_file():
            raise Refused(404, f"the file {name} does not exist")
        if store := self.faults.take("store", name):
            self._send(302, b"", {"Location": store})
            return
        data = path.read_bytes()
        if self.faults.take("corrupt", name) is not None:
            data = bytes(len(data))
        headers = {"X-Linked-ETag": f'"{_digest(path, path.stat().st_mtime_ns)}"', "Accept-Ranges": "bytes"}
        start, end, status = 0, len(data), 200
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

    def _data(self, value: Any) -> None:
        body = {"Code": 200, "Data": value, "Message": "success", "RequestId": "test", "Success": True}
        self._send(200, json.dumps(body).encode(), {"Content-Type": "application/json"})

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
                if self.faults.delay:
                    time.sleep(self.faults.delay)
            if limit is not None and limit < len(body):
                self.close_connection = True
        finally:
            with contextlib.suppress(OSError):
                self.out.write(f"{self.command} {unquote(self.path)} {status} {sent}\n")
                self.out.flush()

    def log_message(self, *_: object) -> None:
        """The line per request is written by _send, with the bytes that went out."""


_digests: dict[tuple[Path, int], str] = {}


def _digest(path: Path, changed: int) -> str:
    if (path, changed) not in _digests:
        with path.open("rb") as stream:
            _digests[path, changed] = hashlib.file_digest(stream, "sha256").hexdigest()
    return _digests[path, changed]


def serve(root: Path, port: int = 0, host: str = "127.0.0.1") -> ThreadingHTTPServer:
    """A server, not yet running; port 0 takes a free one."""
    handler = type("Handler", (Handler,), {"root": root, "faults": Faults()})
    server = ThreadingHTTPServer((host, port), handler)
    server.daemon_threads = True
    return server


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--port", type=int, default=8002)
    parser.add_argument("--host", default="0.0.0.0")  # noqa: S104
    options = parser.parse_args()
    serve(options.root, options.port, options.host).serve_forever()


if __name__ == "__main__":
    main()
