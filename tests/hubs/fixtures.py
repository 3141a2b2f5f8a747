"""For pytest: a server of this folder in a thread of this process, what it was asked, and a switch for faults."""

from __future__ import annotations

import json
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.hubs import huggingface, modelscope


class RunningHub:
    """The server, as the tests see it."""

    def __init__(self, server: ThreadingHTTPServer, root: Path) -> None:
        self.root = root
        self.url = f"http://127.0.0.1:{server.server_address[1]}"
        self._answered: list[str] = []
        self._open = 0
        self._quiet = threading.Condition()

    @property
    def requests(self) -> list[str]:
        """A line for every request so far: METHOD path status bytes.

        A client has the last byte of an answer a moment before the server has written its line: that is waited for.
        """
        with self._quiet:
            self._quiet.wait_for(lambda: self._open == 0, timeout=30)
        return self._answered

    @contextmanager
    def answering(self) -> Iterator[None]:
        """While the server answers a request."""
        with self._quiet:
            self._open += 1
        try:
            yield
        finally:
            with self._quiet:
                self._open -= 1
                self._quiet.notify_all()

    def log(self, line: str) -> None:
        """Keep the line of a request."""
        if "_test" not in line:
            self._answered.append(line.strip())

    def fault(self, **fault: Any) -> None:
        """Plan a fault: breakAfter and path, corrupt, status, delay; none: all is well again."""
        request = urllib.request.Request(f"{self.url}/_test", json.dumps(fault).encode(), method="POST")  # noqa: S310
        urllib.request.urlopen(request, timeout=10).close()  # noqa: S310

    def asked_for(self, name: str) -> list[str]:
        """The requests for a file's content that were answered with some."""
        return [line for line in self.requests if line.startswith("GET") and name in line and line.split()[-1] != "0"]

    def sent(self, name: str) -> int:
        """How many bytes of a file went out."""
        return sum(int(line.split()[-1]) for line in self.asked_for(name))


@contextmanager
def running(module: Any, root: Path, **options: Any) -> Iterator[RunningHub]:
    """A server over `root`: `module` is tests.hubs.huggingface, modelscope, files or s3."""
    server = module.serve(root, **options)
    hub = RunningHub(server, root)

    class Out:
        @staticmethod
        def write(line: str) -> None:
            hub.log(line)

        @staticmethod
        def flush() -> None: ...

    handler: Any = server.RequestHandlerClass
    answer = handler.do_GET

    def counted(request: Any) -> None:
        with hub.answering():
            answer(request)

    handler.out, handler.do_GET = Out, counted
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


HUBS = {"huggingFace": huggingface, "modelScope": modelscope}
