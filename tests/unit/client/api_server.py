"""An API server on this machine, as far as the client asks one: objects, watches, logs, and commands that really run.

It answers as a real one does: bodies of refusals are those of answers.json, logs have the times of their lines and come
from a second on, and a command's bytes travel in messages of its channels, with a Status as the last.
"""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import yaml

from .exec_server import Exec

Document = dict[str, Any]

ANSWERS: dict[str, Document] = json.loads((Path(__file__).parent / "client" / "answers.json").read_text())
_PATH = re.compile(
    r"/(?:api/v1|apis/[^/]+/[^/]+)(?:/namespaces/[^/]+)?/(?P<kind>[a-z]+)(?:/(?P<name>[^/]+))?(?:/(?P<sub>\w+))?"
)
_OK = 200


@dataclass(frozen=True)
class Request:
    """What was asked."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: list[tuple[str, str]]
    body: Any

    def first(self, name: str, default: str = "") -> str:
        return self.query.get(name, [default])[0]

    def header(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key.lower() == name.lower()]


@dataclass(frozen=True)
class Answer:
    status: int
    body: Any
    headers: tuple[tuple[str, str], ...] = ()


def recorded(name: str) -> Answer:
    """What a real API server has answered."""
    return Answer(ANSWERS[name]["status"], ANSWERS[name]["body"].encode())


class BrokenOffError(Exception):
    """The connection goes, in the middle of what was said."""


@dataclass
class PodLog:
    """What a container has logged, and who listens."""

    lines: list[tuple[str, str]] = field(default_factory=list)
    ended: bool = False
    cut: str = ""
    """How the streams that are open end next: "clean", or "broken"."""
    asked: list[Request] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)

    def write(self, *texts: str, stamp: str = "") -> None:
        with self.changed:
            for text in texts:
                at = datetime(2026, 11, 30, 3, tzinfo=UTC) + timedelta(milliseconds=300 * len(self.lines))
                self.lines.append((stamp or at.strftime("%Y-%m-%dT%H:%M:%S.%f000Z"), text))
            self.changed.notify_all()

    def end(self) -> None:
        with self.changed:
            self.ended = True
            self.changed.notify_all()

    def break_off(self, how: str) -> None:
        with self.changed:
            self.cut = how
            self.changed.notify_all()
            assert self.changed.wait_for(lambda: not self.cut, 10), "nobody listens"

    def stream(self, request: Request) -> Iterator[bytes]:
        self.asked.append(request)
        stamps, follows = request.first("timestamps") == "true", request.first("follow") == "true"
        at = self._begin(request)
        while True:
            new, cut = self._after(at, wait=follows)
            for stamp, text in new:
                yield f"{f'{stamp} ' if stamps else ''}{text}\n".encode()
            at += len(new)
            if not new and cut == "broken":
                raise BrokenOffError
            if not new:
                return

    def _begin(self, request: Request) -> int:
        since, at = request.first("sinceTime"), 0
        if since:
            at = next((n for n, (stamp, _) in enumerate(self.lines) if stamp[:19] >= since[:19]), len(self.lines))
        if "tailLines" in request.query:
            at = max(at, len(self.lines) - int(request.first("tailLines")))
        return at

    def _after(self, at: int, *, wait: bool) -> tuple[list[tuple[str, str]], str]:
        """The lines from one on, or none and how the stream ends."""
        with self.changed:
            if wait:
                self.changed.wait_for(lambda: len(self.lines) > at or self.ended or self.cut, 60)
            new, cut = self.lines[at:], self.cut
            if not new:
                self.cut = ""
                self.changed.notify_all()
        return new, cut


@dataclass
class Server:
    """Objects by kind and name, rules that come before them, and what was asked."""

    url: str = ""
    objects: dict[str, dict[str, Document]] = field(default_factory=dict)
    rules: list[Callable[[Request], Answer | None]] = field(default_factory=list)
    asked: list[Request] = field(default_factory=list)
    logs: dict[str, PodLog] = field(default_factory=dict)
    root: Path = Path()
    """Where the containers' files are."""
    commands: list[list[str]] = field(default_factory=list)
    breaks_after: int | None = None
    """Bytes of a command's input or output after which its connection goes, once."""
    ahead: timedelta = timedelta()
    """Of its clock before ours."""
    version: int = 100
    changed: threading.Condition = field(default_factory=threading.Condition)

    def put(self, kind: str, document: Document) -> Document:
        """Store an object as new, or as changed."""
        with self.changed:
            self.version += 1
            metadata = {"uid": f"uid-{self.version}", **document["metadata"], "resourceVersion": str(self.version)}
            stored = {**document, "metadata": metadata}
            self.objects.setdefault(kind, {})[metadata["name"]] = stored
            self.changed.notify_all()
        return stored

    def answer(self, request: Request) -> Answer:
        found = _PATH.fullmatch(request.path)
        assert found, request.path
        kind, name = found["kind"], unquote(found["name"] or "")
        self.objects.setdefault(kind, {})
        ruled = (rule(request) for rule in self.rules)
        if (answer := next((one for one in ruled if one is not None), None)) is not None:
            return answer
        if found["sub"] == "log":
            return Answer(_OK, self.logs[name].stream(request))
        if request.method == "GET" and not name:
            return self._listed(kind, request)
        if request.method == "POST" or "apply" in "".join(request.header("Content-Type")):
            return self._written(kind, request)
        return self._of_object(kind, name, request)

    def _written(self, kind: str, request: Request) -> Answer:
        if request.method == "POST" and request.body["metadata"]["name"] in self.objects[kind]:
            return recorded("name taken")
        return Answer(_OK, self._made(kind, request))

    def _of_object(self, kind: str, name: str, request: Request) -> Answer:
        there = self.objects[kind]
        if name not in there:
            return recorded("no such run")
        if request.method == "DELETE":
            return self._deleted(kind, name, request)
        if request.method == "PATCH":
            return Answer(_OK, self.put(kind, _merged(there[name], request.body)))
        return Answer(_OK, there[name])

    def _made(self, kind: str, request: Request) -> Document:
        name = request.body["metadata"]["name"]
        before: Document = self.objects[kind].get(name, {"metadata": {}})
        same = before.get("spec") == request.body.get("spec")
        generation = before["metadata"].get("generation", 0) + (0 if same else 1)
        metadata = {**before["metadata"], **request.body["metadata"], "generation": generation}
        document = {**request.body, "metadata": metadata}
        if request.first("dryRun"):
            return document
        stored = self.put(kind, document)
        if kind == "pods":
            stored["status"] = {"phase": "Running"}
        return stored

    def _listed(self, kind: str, request: Request) -> Answer:
        wanted = re.fullmatch(r"metadata\.name=(.+)", request.first("fieldSelector"))
        items = [one for one in self.objects[kind].values() if not wanted or one["metadata"]["name"] == wanted[1]]
        if request.first("watch") == "true":
            return Answer(_OK, self._watched(kind, request, wanted[1] if wanted else None))
        return Answer(_OK, {"metadata": {"resourceVersion": str(self.version)}, "items": items})

    def _watched(self, kind: str, request: Request, name: str | None) -> Iterator[bytes]:
        seen, until = (
            int(request.first("resourceVersion", "0")),
            time.monotonic() + float(request.first("timeoutSeconds")),
        )
        while (left := until - time.monotonic()) > 0:
            with self.changed:
                new = [
                    one
                    for one in self.objects[kind].values()
                    if int(one["metadata"]["resourceVersion"]) > seen and name in (None, one["metadata"]["name"])
                ]
                seen = self.version
                if not new:
                    self.changed.wait(min(left, 0.2))
            for one in new:
                yield json.dumps({"type": "MODIFIED", "object": one}).encode() + b"\n"

    def _deleted(self, kind: str, name: str, request: Request) -> Answer:
        metadata = self.objects[kind][name]["metadata"]
        for key, value in ((request.body or {}).get("preconditions") or {}).items():
            if metadata[key] != value:
                return recorded("a precondition that fails")
        del self.objects[kind][name]
        return Answer(_OK, {"kind": "Status", "status": "Success"})


def _merged(base: Document, patch: Document) -> Document:
    result = dict(base)
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = _merged(result.get(key) or {}, value) if isinstance(value, dict) else value
    return result


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _HTTPServer

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def date_time_string(self, timestamp: float | None = None) -> str:
        """By the clock of this server."""
        return super().date_time_string(time.time() + self.server.content.ahead.total_seconds())

    def _answer(self) -> None:
        target = urlsplit(self.path)
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else None
        query = parse_qs(target.query, keep_blank_values=True)
        request = Request(self.command, target.path, query, list(self.headers.items()), body)
        content = self.server.content
        content.asked.append(request)
        if self.headers.get("Upgrade") == "websocket" and not any(rule(request) for rule in content.rules):
            Exec(self, content, request.query["command"]).serve()
            return
        answer = content.answer(request)
        self.send_response(answer.status)
        for name, value in answer.headers:
            self.send_header(name, value)
        if isinstance(answer.body, dict | bytes):
            text = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)
            return
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        try:
            for chunk in answer.body:
                self.wfile.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
            self.wfile.write(b"0\r\n\r\n")
        except (BrokenOffError, OSError):
            self.close_connection = True
            with suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR)

    do_GET = do_POST = do_PATCH = do_DELETE = _answer  # noqa: N815


class _HTTPServer(ThreadingHTTPServer):
    daemon_threads = True
    content: Server

    def handle_error(self, *_: object) -> None:
        """Say nothing: clients hang up."""


def serve(content: Server) -> _HTTPServer:
    """Start it; its URL is then in the content."""
    server = _HTTPServer(("127.0.0.1", 0), _Handler)
    server.content = content
    content.url = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    return server


def kubeconfig(url: str, *, user: dict[str, object] | None = None, cluster: dict[str, object] | None = None) -> str:
    """A kubeconfig with one context, for namespace team."""
    return yaml.safe_dump(
        {
            "clusters": [{"name": "c", "cluster": {"server": url, **(cluster or {})}}],
            "users": [{"name": "ana", "user": user or {"token": "a-token"}}],
            "contexts": [{"name": "here", "context": {"cluster": "c", "user": "ana", "namespace": "team"}}],
            "current-context": "here",
        }
    )
