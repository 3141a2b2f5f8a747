"""A second host, to which a server sends its clients on: it keeps what they tell it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread


@dataclass
class Elsewhere:
    """`headers` holds those of every request, as text."""

    url: str = ""
    port: int = 0
    headers: list[str] = field(default_factory=list)


@contextmanager
def elsewhere(content: bytes, *, host: str = "localhost") -> Iterator[Elsewhere]:  # cookies do not tell ports apart
    """Answers every request with the whole `content`."""
    there = Elsewhere()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            there.headers.append(str(self.headers))
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content)

        def do_HEAD(self) -> None:
            self.do_GET()

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1" if host == "localhost" else host, 0), Handler)
    there.port = server.server_address[1]
    there.url = f"http://{host}:{there.port}"
    Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        yield there
    finally:
        server.shutdown()
        server.server_close()
