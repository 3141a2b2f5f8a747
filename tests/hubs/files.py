"""Files over plain HTTP: `python -m hubs.files --root DIR --port N`.

A directory is 404. A file `.authorization` in a directory holds the value of the Authorization header that its files
ask for, a file `.redirect` the address to which its files are. `?redirect=URL` answers 302 with that address.
"""

from __future__ import annotations

import hashlib
from http.server import ThreadingHTTPServer
from pathlib import Path
from urllib.parse import SplitResult, parse_qs, unquote

from . import server


class Handler(server.Handler):
    def answer(self, url: SplitResult) -> None:
        if elsewhere := parse_qs(url.query).get("redirect"):
            self.send(302, b"", {"Location": elsewhere[0]})
            return
        self.fail_as_planned(url.path)
        path = self.below(self.root, unquote(url.path))
        if (path.parent / ".redirect").is_file():
            self.send(302, b"", {"Location": (path.parent / ".redirect").read_text().strip()})
            return
        if not path.is_file() or path.name.startswith("."):
            raise server.Refused(404)
        wanted = path.parent / ".authorization"
        if wanted.is_file() and self.headers.get("Authorization") != wanted.read_text().strip():
            self.send(401, b"", {"WWW-Authenticate": "Bearer"})
            return
        data = path.read_bytes()
        headers = {"Content-Type": "application/octet-stream"}
        if self.faults.take("noETag", url.path) is None:
            headers["ETag"] = f'"{hashlib.sha256(data).hexdigest()[:32]}"'
        self.send_content(url.path, data, headers)


def serve(root: Path, port: int = 0, host: str = "127.0.0.1") -> ThreadingHTTPServer:
    """A server, not yet running; port 0 takes a free one."""
    return server.listen(Handler, root, port, host)


if __name__ == "__main__":
    server.run(__doc__, serve)
