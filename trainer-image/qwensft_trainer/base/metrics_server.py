"""Serves a stage's progress as Prometheus text on /metrics, /healthz and what else a stage tells, from a thread.

It lives beside the process that works, not in it: one that crashed or is busy cannot take the last known numbers along.
"""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import MappingProxyType
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from qwensft_trainer.base.log import log

Numbers = Callable[[], Mapping[str, float | None]]
Answer = Callable[[str], tuple[int, Mapping[str, Any]]]  # by the query: HTTP status, and a document to send as JSON


class Figures(Collector):
    """Gauges named `prefix` and their key in `help_texts`, read anew at every scrape; a number not known has none."""

    def __init__(self, prefix: str, help_texts: Mapping[str, str], read: Numbers) -> None:
        self._prefix, self._help_texts, self._read = prefix, help_texts, read

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """One gauge for every number that is known."""
        for name, value in self._read().items():
            if value is not None:
                yield GaugeMetricFamily(f"{self._prefix}{name}", self._help_texts[name], value=float(value))


def render(figures: Figures) -> bytes:
    """The body of /metrics."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(figures)
    return generate_latest(registry)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    # A stage that is started again on the same node must not wait for old connections to time out.
    allow_reuse_address = True

    def __init__(self, port: int, figures: Figures, answers: Mapping[str, Answer]) -> None:
        self.figures = figures
        self.answers = answers
        if socket.has_dualstack_ipv6():
            self.address_family = socket.AF_INET6
        super().__init__(("", port), _Handler)

    def server_bind(self) -> None:
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:  # the name is http.server's
        route, _, query = self.path.partition("?")
        if route == "/metrics":
            self._reply(200, CONTENT_TYPE_LATEST, render(self.server.figures))
        elif route == "/healthz":
            self._reply(200, "text/plain; charset=utf-8", b"ok\n")
        elif (answer := self.server.answers.get(route)) is not None:
            status, document = answer(query)
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
