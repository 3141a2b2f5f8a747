#!/usr/bin/env python3
"""A Hugging Face hub over a directory: `python huggingface.py --root DIR --port N`. Python's standard library only.

DIR/models/<owner>/<name>/ and DIR/datasets/<owner>/<name>/ are repositories. Files of at least 4 KiB count as LFS files
(a SHA-256), smaller ones as git blobs (a SHA-1). A repository's one commit is a digest of its files; revisions that
exist are `main`, that commit and the lines of a file `.revisions`. A file `.gated` or `.private` (its first line: the
token that opens it) restricts a repository.

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
from urllib.parse import parse_qs, quote, unquote, urlsplit

LFS_FROM = 4096
PAGE = 50
PIECE = 64 << 10
API = re.compile(r"/api/(models|datasets)/([^/]+/[^/]+)(?:/(revision|tree)/([^/]+)(?:/(.*))?)?")
FILE = re.compile(r"/(datasets/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)")
STORE = re.compile(r"/_lfs/(models|datasets)/([^/]+/[^/]+)/(.+)")


class Refused(Exception):  # noqa: N818
    """An answer other than 200: status, the hub's error code and its message."""

    def __init__(self, status: int, code: str = "", message: str = "") -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


class Repository:
    """A directory as the hub shows it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.files = {
            path.relative_to(directory).as_posix(): path
            for path in sorted(directory.rglob("*"))
            if path.is_file() and path.name not in {".gated", ".private", ".revisions"}
        }

    @property
    def commit(self) -> str:
        lines = "".join(f"{name} {self.digest(name)}\n" for name in self.files)
        return hashlib.sha1(lines.encode(), usedforsecurity=False).hexdigest()

    def is_lfs(self, name: str) -> bool:
        return self.files[name].stat().st_size >= LFS_FROM

    def digest(self, name: str) -> str:
        return _digest(self.files[name], self.files[name].stat().st_mtime_ns, lfs=self.is_lfs(name))

    def entry(self, name: str) -> dict[str, Any]:
        size, digest = self.files[name].stat().st_size, self.digest(name)
        entry = {"type": "file", "oid": digest if not self.is_lfs(name) else digest[:40], "size": size, "path": name}
        if self.is_lfs(name):
            entry["lfs"] = {"oid": digest, "size": size, "pointerSize": 134}
        return entry

    def require(self, token: str | None, *, for_files: bool) -> None:
        """Restricted repositories: a private one is hidden, a gated one shows everything but its files."""
        private, gated = self.directory / ".private", self.directory / ".gated"
        if private.is_file() and token != private.read_text().split("\n")[0]:
            raise Refused(401, "RepoNotFound", "Repository not found")
        if gated.is_file() and for_files and token != gated.read_text().split("\n")[0]:
            raise Refused(401 if token is None else 403, "GatedRepo", "Access to this repository is restricted")

    def require_revision(self, revision: str) -> None:
        listed = self.directory / ".revisions"
        known = {"main", self.commit, *(listed.read_text().split() if listed.is_file() else ())}
        if unquote(revision) not in known:
            raise Refused(404, "RevisionNotFound", f"Invalid rev id: {revision}")


_digests: dict[tuple[Path, int, bool], str] = {}


def _digest(path: Path, changed: int, *, lfs: bool) -> str:
    key = (path, changed, lfs)
    if key not in _digests:
        if lfs:
            with path.open("rb") as stream:
                _digests[key] = hashlib.file_digest(stream, "sha256").hexdigest()
        else:
            data = path.read_bytes()
            _digests[key] = hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
    return _digests[key]


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
            self._send(200, b"{}", {"Content-Type": "application/json"})
        else:
            self._send(404, b"", {})

    def _answer(self) -> None:
        url = urlsplit(self.path)
        try:
            status = self.faults.take("status", url.path)
            if status is not None:
                raise Refused(status)
            if match := API.fullmatch(url.path):
                self._api(match, parse_qs(url.query))
            elif match := STORE.fullmatch(url.path):
                self._content(self._repository(match[1], match[2]), unquote(match[3]), {})
            elif match := FILE.fullmatch(url.path):
                self._file(match)
            else:
                raise Refused(404)
        except Refused as refused:
            headers = {"X-Error-Code": refused.code} if refused.code else {}
            headers["X-Error-Message"] = refused.message or "refused"
            self._send(refused.status, b"", headers)

    def _repository(self, kind: str, name: str) -> Repository:
        directory = self.root / kind / unquote(name)
        if not directory.resolve().is_relative_to(self.root.resolve()) or not directory.is_dir():
            raise Refused(404, "RepoNotFound", "Repository not found")
        return Repository(directory)

    def _credentials(self) -> str | None:
        return self.headers.get("Authorization", "").removeprefix("Bearer ") or None

    def _api(self, match: re.Match[str], query: dict[str, list[str]]) -> None:
        kind, name, what, revision, path = match.groups()
        repository = self._repository(kind, name)
        repository.require(self._credentials(), for_files=False)
        if revision is not None:
            repository.require_revision(revision)
        if what == "tree":
            self._tree(repository, unquote(path or ""), query)
            return
        siblings = [{"rfilename": name} for name in repository.files]
        self._json({"id": unquote(name), "sha": repository.commit, "siblings": siblings, "private": False, "tags": []})

    def _tree(self, repository: Repository, folder: str, query: dict[str, list[str]]) -> None:
        prefix = f"{folder}/" if folder else ""
        names = [name for name in repository.files if name.startswith(prefix)]
        start = int(query.get("cursor", ["0"])[0])
        headers = {}
        if start + PAGE < len(names):
            address = f"http://{self.headers['Host']}{urlsplit(self.path).path}?recursive=true&cursor={start + PAGE}"
            headers["Link"] = f'<{address}>; rel="next"'
        entries: list[dict[str, Any]] = []
        if start == 0:
            folders = {str(Path(name).parent) for name in names if "/" in name}
            entries += [{"type": "directory", "oid": "0" * 40, "size": 0, "path": name} for name in sorted(folders)]
        entries += [repository.entry(name) for name in names[start : start + PAGE]]
        self._json(entries, headers)

    def _file(self, match: re.Match[str]) -> None:
        kind = "datasets" if match[1] else "models"
        repository = self._repository(kind, match[2])
        repository.require(self._credentials(), for_files=True)
        repository.require_revision(match[3])
        name = unquote(match[4])
        if name not in repository.files:
            raise Refused(404, "EntryNotFound", "Entry not found")
        headers = {"X-Repo-Commit": repository.commit, "ETag": f'"{repository.digest(name)}"'}
        if store := self.faults.take("store", name):
            self._send(302, b"", headers | {"Location": store})
            return
        if not repository.is_lfs(name):
            self._content(repository, name, headers)
            return
        size = repository.files[name].stat().st_size
        headers |= {
            "X-Linked-Size": str(size),
            "X-Linked-ETag": f'"{repository.digest(name)}"',
            "ETag": f'"{repository.digest(name)[:40]}"',
            "Location": f"http://{self.headers['Host']}/_lfs/{kind}/{quote(match[2])}/{quote(name)}",
        }
        self._send(302, b"", headers)

    def _content(self, repository: Repository, name: str, headers: dict[str, str]) -> None:
        data = repository.files[name].read_bytes()
        if self.faults.take("corrupt", name) is not None:
            data = bytes(len(data))
        start, end = 0, len(data)
        status = 200
        if asked := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            start = int(asked[1])
            end = min(len(data), int(asked[2]) + 1) if asked[2] else len(data)
            if start >= len(data):
                self._send(416, b"", {"Content-Range": f"bytes */{len(data)}"})
                return
            status = 206
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(data)}"
        limit = self.faults.take("breakAfter", name) if self.command == "GET" else None
        self._send(status, data[start:end], headers | {"Accept-Ranges": "bytes"}, limit=limit)

    def _json(self, value: Any, headers: dict[str, str] | None = None) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"} | (headers or {}))

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
    parser.add_argument("--port", type=int, default=8001)
    parser.add_argument("--host", default="0.0.0.0")  # noqa: S104
    options = parser.parse_args()
    serve(options.root, options.port, options.host).serve_forever()


if __name__ == "__main__":
    main()
