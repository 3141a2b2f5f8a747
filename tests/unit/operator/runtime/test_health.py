"""Probes tell progress, not a listening port."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass

import aiohttp
import pytest

from qwensft_operator.runtime.health import HealthServer
from qwensft_operator.runtime.logging import JsonFormatter, about
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
    metrics.gauge("qwensft_leading", "Leads.", lambda: 1.0)
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
    assert 'qwensft_reconcile_failures_total{kind="transient"} 1.0' in text
    assert "qwensft_leading 1.0" in text


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
