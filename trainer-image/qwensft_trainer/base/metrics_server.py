"""Serves a stage's progress as Prometheus text on /metrics, /healthz and what else a stage tells, from a thread.

It lives beside the process that works, not in it: one that crashed or is busy cannot take the last known numbers along.
Anybody who reaches the port may connect: few connections are answered at a time, each of them is short, and the others
wait with the kernel, a whole gang's, too. Who connects and says nothing makes room for them.
ADR 0139 says why.
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import MappingProxyType
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from qwensft_trainer.base.log import log

MOST_CONNECTIONS = 16
_SILENT_SECONDS = 5.0  # between two packets of a request
_CONNECTION_SECONDS = 10.0  # of a whole connection, however slowly its bytes come
_UNDISTURBED_SECONDS = 0.5  # of a connection for which others wait: a request comes with it and takes milliseconds

Numbers = Callable[[], Mapping[str, float | None]]
Answer = Callable[[str, str], tuple[int, Mapping[str, Any]]]
"""By the query and the client's address: HTTP status, and a document to send as JSON."""


class Figures(Collector):
    """Gauges named `prefix` and their key in `help_texts`, read anew at every scrape; a number not known has none.

    `about` tells which run these are of, as labels of a gauge `prefix` + "info" that is always 1: whoever scrapes the
    port knows a pod alone (ADR 0157). `labelled` gives figures with labels of their own.
    """

    def __init__(
        self,
        prefix: str,
        help_texts: Mapping[str, str],
        read: Numbers,
        about: Mapping[str, str] = MappingProxyType({}),
        *,
        labelled: Callable[[], Iterable[GaugeMetricFamily]] = tuple,
    ) -> None:
        self._prefix, self._help_texts, self._read, self._about = prefix, help_texts, read, about
        self._labelled = labelled

    def collect(self) -> Iterator[GaugeMetricFamily | InfoMetricFamily]:
        """What the figures are about, and one gauge for every number that is known."""
        if self._about:
            yield InfoMetricFamily(
                self._prefix.rstrip("_"), "Which run and attempt the figures are of.", dict(self._about)
            )
        for name, value in self._read().items():
            if value is not None:
                yield GaugeMetricFamily(f"{self._prefix}{name}", self._help_texts[name], value=float(value))
        yield from self._labelled()


def render(figures: Figures) -> bytes:
    """The body of /metrics."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(figures)
    return generate_latest(registry)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    # A stage that is started again on the same node must not wait for old connections to time out.
    allow_reuse_address = True
    request_queue_size = 256

    def __init__(self, port: int, figures: Figures, answers: Mapping[str, Answer]) -> None:
        self.figures = figures
        self.answers = answers
        if socket.has_dualstack_ipv6():
            self.address_family = socket.AF_INET6
        self._began: dict[Any, float] = {}  # the connections that are answered, the oldest first
        self._ended = threading.Condition()
        super().__init__(("", port), _Handler)

    def server_bind(self) -> None:
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a thread of its own, once there is a place for it."""
        self._make_room()
        self._began[request] = time.monotonic()
        try:
            super().process_request(request, client_address)
        except RuntimeError:  # no thread to be had: the pod has as many as it may
            self._forget(request)
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Close the connection in the end, and before that when its time is over."""
        limit = threading.Timer(_CONNECTION_SECONDS, _end, (request,))
        limit.daemon = True
        try:
            limit.start()
            super().process_request_thread(request, client_address)
        finally:
            limit.cancel()
            self._forget(request)

    def _make_room(self) -> None:
        """Wait until a connection is over, or the oldest has had its time: that one is idle, and is closed."""
        with self._ended:
            while len(self._began) >= MOST_CONNECTIONS:
                oldest, began = next(iter(self._began.items()))
                left = began + _UNDISTURBED_SECONDS - time.monotonic()
                if left > 0:
                    self._ended.wait(left)
                else:
                    del self._began[oldest]
                    _end(oldest)

    def _forget(self, request: Any) -> None:
        with self._ended:
            self._began.pop(request, None)
            self._ended.notify()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Whoever closes or delays a connection is not worth a traceback in the pod's log."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = _SILENT_SECONDS

    def do_GET(self) -> None:  # the name is http.server's
        route, _, query = self.path.partition("?")
        if route == "/metrics":
            self._reply(200, CONTENT_TYPE_LATEST, render(self.server.figures))
        elif route == "/healthz":
            self._reply(200, "text/plain; charset=utf-8", b"ok\n")
        elif (answer := self.server.answers.get(route)) is not None:
            status, document = answer(query, str(self.client_address[0]))
            self._reply(status, "application/json", json.dumps(document).encode())
        else:
            self._reply(404, "text/plain; charset=utf-8", b"see /metrics and /healthz\n")

    def _reply(self, status: int, content_type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Scrapes every few seconds are not worth a line each in the pod's log."""


def _end(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):  # it is closed already
        connection.shutdown(socket.SHUT_RDWR)


def start(port: int, figures: Figures, answers: Mapping[str, Answer] = MappingProxyType({})) -> int | None:
    """Serve in a daemon thread, at the routes of `answers`, too; returns the port.

    A taken port is logged and None returned: the stage matters more than its figures.
    """
    try:
        server = _Server(port, figures, answers)
    except OSError as error:
        log(f"metrics are not served: port {port} is taken ({error.strerror})")
        return None
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
    return int(server.server_address[1])
