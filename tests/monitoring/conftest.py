"""A real Prometheus that has scraped what a real operator and a real training have told, one scrape after the other."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.monitoring.recordings import TARGETS, read

ALERTS = Path(__file__).parents[2] / "charts" / "qwen-sft-operator" / "files" / "alerts.yaml"
# The training once more, as it looks through a PodMonitor that copies labels of the pod.
RELABELLED = {"instance": "relabelled:1", "namespace": "team", "pod": "run-train-1-0", "run": "run", "attempt": "1"}
_PATIENCE = 120.0


class Replay(ThreadingHTTPServer):
    """Serves the recordings: with each scrape of /TARGET the next one, and the last one for ever."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.scrapes = {target: read(target) for target in TARGETS}
        self.taken = dict.fromkeys(TARGETS, 0)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"

    def is_over(self) -> bool:
        """Whether everything was scraped, and the last scrape once more."""
        return all(self.taken[target] > len(scrapes) for target, scrapes in self.scrapes.items())


class _Handler(BaseHTTPRequestHandler):
    server: Replay

    def do_GET(self) -> None:
        target = self.path.strip("/")
        scrapes, taken = self.server.scrapes[target], self.server.taken[target]
        self.server.taken[target] += 1
        body = scrapes[min(taken, len(scrapes) - 1)].encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Nothing: a line for each scrape tells nobody anything."""


@dataclass(frozen=True)
class Prometheus:
    """Its HTTP API."""

    url: str

    def ask(self, path: str, **parameters: str) -> Any:
        """The data of an answer; an error of Prometheus is one of the test."""
        query = urllib.parse.urlencode(parameters)
        try:
            with urllib.request.urlopen(f"{self.url}/api/v1/{path}?{query}", timeout=30) as answer:  # noqa: S310
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{parameters}: {error.read().decode()}") from None


def tool(name: str) -> str:
    """Path of prometheus or promtool."""
    found = shutil.which(name)
    assert found, f"{name} is missing: run `make test-monitoring`, which fetches it"
    return found


@pytest.fixture(scope="session")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    directory, replay = tmp_path_factory.mktemp("prometheus"), Replay()
    threading.Thread(target=replay.serve_forever, daemon=True).start()
    configuration = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "2s"},
        "rule_files": [str(ALERTS)],
        "scrape_configs": [
            {
                "job_name": f"{target}{len(labels)}",
                "metrics_path": f"/{target}",
                # One address serves all; in a cluster each pod has its own.
                "static_configs": [{"targets": [replay.address], "labels": {"instance": f"{target}:1"} | labels}],
            }
            for target, labels in (*((target, {}) for target in TARGETS), ("training", RELABELLED))
        ],
    }
    (directory / "prometheus.yaml").write_text(yaml.safe_dump(configuration))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    command = [
        tool("prometheus"), f"--config.file={directory / 'prometheus.yaml'}", f"--web.listen-address={address}",
        f"--storage.tsdb.path={directory / 'data'}",
    ]  # fmt: skip
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + _PATIENCE
        while not replay.is_over():
            failed = process.poll() is not None or time.monotonic() > deadline
            assert not failed, (directory / "log").read_text()[-4000:]
            time.sleep(0.2)
        time.sleep(1)  # what was scraped last is stored by then
        yield Prometheus(f"http://{address}")
    finally:
        process.terminate()
        process.wait(30)
        replay.shutdown()
