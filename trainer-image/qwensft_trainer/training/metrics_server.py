"""Serves training progress as Prometheus text on /metrics, and /healthz, from a thread of the entrypoint.

It lives beside the worker, not in it: a crashed or busy worker cannot take the last known numbers along.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from dataclasses import fields
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from qwensft_trainer.base.log import log
from qwensft_trainer.training import progress

_HELP = {
    "step": "Optimizer steps done.",
    "total_steps": "Optimizer steps of the whole run.",
    "epoch": "Passes over the data done.",
    "loss": "Last finite training loss.",
    "initial_loss": "First training loss of the run.",
    "eval_loss": "Last evaluation loss.",
    "best_eval_loss": "Lowest evaluation loss so far.",
    "best_step": "Step of the lowest evaluation loss.",
    "learning_rate": "Current learning rate.",
    "tokens_per_second": "Tokens trained per second over all processes, in the last steps.",
    "estimated_remaining_seconds": "Seconds until the last step at the current speed.",
    "last_update_timestamp_seconds": "Unix time of the last step.",
    "non_finite_loss": "1 while the last logged loss is NaN or infinite.",
}


class ProgressCollector(Collector):
    """Reads the progress file at every scrape. A number that is not known yet has no series."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """One gauge for every number that is known."""
        current = progress.read(self._path)
        if current is None:
            return
        for field in fields(current):
            value = getattr(current, field.name)
            if value is not None:
                yield GaugeMetricFamily(f"qwensft_train_{field.name}", _HELP[field.name], value=float(value))


def render(path: Path) -> bytes:
    """The body of /metrics for the progress file at `path`."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(ProgressCollector(path))
    return generate_latest(registry)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    # A stage that is started again on the same node must not wait for old connections to time out.
    allow_reuse_address = True

    def __init__(self, port: int, path: Path) -> None:
        self.progress_file = path
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
        route = self.path.partition("?")[0]
        if route == "/metrics":
            self._reply(200, CONTENT_TYPE_LATEST, render(self.server.progress_file))
        elif route == "/healthz":
            self._reply(200, "text/plain; charset=utf-8", b"ok\n")
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


def start(port: int, progress_file: Path) -> int | None:
    """Serve in a daemon thread; returns the port. A taken port is logged and None returned: training matters more."""
    try:
        server = _Server(port, progress_file)
    except OSError as error:
        log(f"metrics are not served: port {port} is taken ({error.strerror})")
        return None
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
    return int(server.server_address[1])
