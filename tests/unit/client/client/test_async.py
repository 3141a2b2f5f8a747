"""Awaited runs: more of them than asyncio's default executor has threads, cancelled ones, and slow readers."""

from __future__ import annotations

import asyncio
import inspect
import time

import pytest
from tests.unit.client.api_server import Server

from qwensft import Client
from qwensft.client import AsyncClient, AsyncRun, Run

RUNS = 40


def put(server: Server, name: str, phase: str) -> None:
    source = {"configMap": {"name": "rows", "key": "rows.json"}}
    datasets = [{"name": "rows", "format": "alpaca", "source": source}]
    ended = "True" if phase == "Succeeded" else "Unknown"
    condition = {"type": "Succeeded", "status": ended, "reason": "R", "message": ""}
    conditions = [condition | {"lastTransitionTime": "2026-01-01T00:00:00Z"}]
    server.put(
        "qwensftjobs",
        {
            "apiVersion": "qwensft.io/v1alpha1",
            "kind": "QwenSFTJob",
            "metadata": {"name": name, "uid": name, "generation": 1},
            "spec": {"model": {"name": "m/m"}, "datasets": datasets, "storage": {"volume": {"claimName": "c"}}},
            "status": {"observedGeneration": 1, "phase": phase, "conditions": conditions},
        },
    )


@pytest.mark.timeout(60)
async def test_many_runs_are_awaited_at_once(server: Server) -> None:
    names = [f"run-{number}" for number in range(RUNS)]
    for name in names:
        put(server, name, "Training")
    client = AsyncClient()
    waits = [asyncio.ensure_future((await client.run(name)).wait()) for name in names]
    await asyncio.sleep(0.5)
    began = time.monotonic()
    assert len(await client.list_jobs()) == RUNS  # though all of them wait
    assert await asyncio.to_thread(lambda: "the executor is free") == "the executor is free"
    assert time.monotonic() - began < 10
    for name in names:
        put(server, name, "Succeeded")
    await asyncio.gather(*waits)
    job = await client.wait_for_job_status("run-1", {"Succeeded"})
    assert job.metadata.name == "run-1"


@pytest.mark.timeout(60)
def test_the_end_of_the_loop_does_not_wait_for_what_was_cancelled(server: Server) -> None:
    put(server, "demo", "Training")

    async def wait_a_moment() -> None:
        run = await AsyncClient().run("demo")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(run.wait(), 0.3)

    began = time.monotonic()
    asyncio.run(wait_a_moment())
    assert time.monotonic() - began < 10


async def test_what_is_raised_is_raised_to_whom_awaits_it(server: Server) -> None:
    from qwensft.client.errors import NotFoundError  # noqa: PLC0415

    client = AsyncClient()
    with pytest.raises(NotFoundError):
        await client.run("nobody")
    with pytest.raises(NotFoundError):
        async for _ in client.watch_job("nobody"):
            pass


@pytest.mark.parametrize(("awaited", "blocking"), [(AsyncClient, Client), (AsyncRun, Run)])
def test_methods_and_arguments_are_the_same(awaited: type, blocking: type) -> None:
    def public(of: type) -> dict[str, list[str]]:
        methods = {name: value for name, value in vars(of).items() if not name.startswith("_") and callable(value)}
        return {name: list(inspect.signature(value).parameters)[1:] for name, value in methods.items()}

    own = public(awaited)
    for base in reversed(blocking.__mro__[:-1]):
        for name, parameters in public(base).items():
            assert own.pop(name) == parameters, name
    assert set(own) <= {"job", "status"}
