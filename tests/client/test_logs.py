"""Logs of a real run, followed over a line that is cut again and again."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from quickstart import inputs

from qwensft import Client

ROWS = json.loads((inputs.EXAMPLES / "data" / "handbook.json").read_text())
BETWEEN_CUTS = 3.0  # seconds


class Line:
    """Forwards connections to a server, until they are cut."""

    def __init__(self, host: str, port: int) -> None:
        self._there = host, port
        self._open: list[socket.socket] = []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self.cuts = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """End all connections that there are."""
        cut, self._open = self._open, []
        self.cuts += bool(cut)
        for end in cut:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            here, _ = self._listening.accept()
            there = socket.create_connection(self._there)
            self._open += [here, there]
            for ends in ((here, there), (there, here)):
                threading.Thread(target=self._copy, args=ends, daemon=True).start()

    @staticmethod
    def _copy(source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while block := source.recv(2**16):
                target.sendall(block)
        with suppress(OSError):
            target.shutdown(socket.SHUT_RDWR)


@contextmanager
def cut_again_and_again(line: Line) -> Iterator[None]:
    over = threading.Event()

    def cut() -> None:
        while not over.wait(BETWEEN_CUTS):
            line.cut()

    threading.Thread(target=cut, daemon=True).start()
    yield
    over.set()


@pytest.mark.timeout(1500)
def test_no_line_is_missing_or_told_twice(
    client: Client, kubeconfig: Path, spec: dict[str, Any], tmp_path: Path
) -> None:
    document = yaml.safe_load(kubeconfig.read_text())
    cluster = document["clusters"][0]["cluster"]
    server = urlsplit(cluster["server"])
    assert server.hostname
    line = Line(server.hostname, server.port or 443)
    cluster |= {"server": f"https://127.0.0.1:{line.port}", "tls-server-name": server.hostname}
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump(document))

    run = client.train("cut", rows=ROWS, **spec)
    followed = Client(namespace=client.namespace, kubeconfig=path).get_job_logs("cut", follow=True)
    with cut_again_and_again(line):
        lines = list(followed)
    assert line.cuts > 3
    assert run.status.phase == "Succeeded"
    for stage in ("prepare", "train", "merge"):
        assert [one for one in lines if one.stage == stage] == list(run.logs(stage=stage))
    run.delete()
