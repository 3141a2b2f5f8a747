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
    headers: list[str] = field(default_factory=list)


@contextmanager
def elsewhere(content: bytes) -> Iterator[Elsewhere]:
    """Answers every request with the whole `content`."""
    host = Elsewhere()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            host.headers.append(str(self.headers))
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content)

        def do_HEAD(self) -> None:
            self.do_GET()

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    host.url = f"http://localhost:{server.server_address[1]}"  # cookies do not tell ports apart
    Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        yield host
    finally:
        server.shutdown()
        server.server_close()
