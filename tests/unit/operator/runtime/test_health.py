"""Probes tell progress, not a listening port."""

import asyncio
import contextlib
import json
import logging
import platform
from collections.abc import AsyncIterator
from dataclasses import dataclass

import aiohttp
import pytest

from qwensft_operator import __version__
from qwensft_operator.runtime import health
from qwensft_operator.runtime.health import HealthServer
from qwensft_operator.runtime.logging import JsonFormatter, TextFormatter, about
from qwensft_operator.runtime.metrics import Metrics


@dataclass
class Operator:
    url: str = ""
    not_live: str = ""
    not_ready: str = "not all watches are open yet"


@pytest.fixture
async def operator() -> AsyncIterator[Operator]:
    operator, metrics = Operator(), Metrics()
    metrics.failed("transient")
    metrics.gauge("leader", "Leads.", lambda: 1.0)
    server = HealthServer(lambda: operator.not_live, lambda: operator.not_ready, metrics.registry)
    operator.url = f"http://127.0.0.1:{await server.start(0)}"
    yield operator
    await asyncio.wait_for(server.stop(), timeout=5)


async def ask(operator: Operator, path: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.get(operator.url + path) as response:
        return response.status, await response.text()


async def test_a_replica_is_ready_once_it_watches(operator: Operator) -> None:
    assert await ask(operator, "/readyz") == (503, "not all watches are open yet")
    operator.not_ready = ""
    assert await ask(operator, "/readyz") == (200, "ok")


async def test_a_leader_that_makes_no_progress_is_not_alive(operator: Operator) -> None:
    assert await ask(operator, "/livez") == (200, "ok")
    operator.not_live = "a run has waited 301 s for a worker"
    assert await ask(operator, "/livez") == (503, "a run has waited 301 s for a worker")


async def test_metrics_are_prometheus_text(operator: Operator) -> None:
    status, text = await ask(operator, "/metrics")
    assert status == 200
    assert 'qwensft_operator_reconcile_failures_total{kind="transient"} 1.0' in text
    assert 'qwensft_operator_reconcile_failures_total{kind="bug"} 0.0' in text, "there before the first failure"
    assert "qwensft_operator_leader 1.0" in text
    assert (
        f'qwensft_operator_build_info{{python_version="{platform.python_version()}",version="{__version__}"}}' in text
    )


async def test_who_connects_and_says_nothing_is_closed(operator: Operator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "_CONNECTION_SECONDS", 1.0)
    operator.not_ready = ""
    port = int(operator.url.rpartition(":")[2])
    silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3 * health.MOST_CLIENTS)]
    async with asyncio.timeout(60):
        for reader, writer in silent:
            with contextlib.suppress(ConnectionResetError):
                assert await reader.read(1) == b""
            writer.close()
    assert await ask(operator, "/readyz") == (200, "ok")


async def test_probes_are_answered_while_others_hold_all_connections(
    operator: Operator, caplog: pytest.LogCaptureFixture
) -> None:
    port = int(operator.url.rpartition(":")[2])
    silent = []
    for _ in range(3):
        silent += [await asyncio.open_connection("127.0.0.1", port) for _ in range(health.MOST_CLIENTS)]
        assert await ask(operator, "/livez") == (200, "ok")
    for _, writer in silent:
        writer.close()
    assert not caplog.records


async def test_a_connection_is_for_one_request(operator: Operator) -> None:
    async with aiohttp.ClientSession() as session, session.get(operator.url + "/livez") as response:
        assert response.headers["Connection"] == "close"
    assert (await ask(operator, "/nowhere"))[0] == 404


@pytest.mark.parametrize("formatter", [JsonFormatter(), TextFormatter()])
def test_what_others_say_moves_no_terminal(formatter: logging.Formatter) -> None:
    record = logging.LogRecord(
        "x", logging.ERROR, "x.py", 1, "the API server says %s", ("a\x1b[2Jb\x9bc\u202ed",), None
    )
    line = formatter.format(record)
    assert not set("\x1b\x9b\u202e") & set(line)
    assert "\\x1b[2Jb" in line


def test_a_log_line_is_one_json_object_that_names_the_run() -> None:
    record = logging.LogRecord("qwensft.x", logging.WARNING, "x.py", 1, "two\nlines %d", (1,), None)
    record.stage = "train"
    with about(("team", "demo")):
        text = JsonFormatter().format(record)
    assert "\n" not in text
    line = json.loads(text)
    assert (line["namespace"], line["name"], line["stage"], line["level"], line["message"]) == (
        "team",
        "demo",
        "train",
        "warning",
        "two\nlines 1",
    )
    assert "namespace" not in json.loads(JsonFormatter().format(record))
