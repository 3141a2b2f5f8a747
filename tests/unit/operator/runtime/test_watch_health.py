"""The watches as kopf keeps them, against an API server whose answers can be broken: closed for long is not ready, and
closed for good is the end.
"""

import asyncio
import contextlib
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from kubernetes.aio.client.configuration import Configuration

from qwensft_operator.runtime.kube import Kube
from qwensft_operator.runtime.observe import Key
from qwensft_operator.runtime.queue import WorkQueue
from qwensft_operator.runtime.scrape import PodAddresses
from qwensft_operator.runtime.watch import Watcher
from qwensft_operator.runtime.watch_health import StreamLostError, Streams

RUNS = "/apis/qwensft.io/v1alpha1/qwensftjobs"
PATHS = {RUNS, "/apis/batch/v1/jobs", "/api/v1/pods"}


def served(**kinds: str) -> dict[str, Any]:
    verbs = ["get", "list", "watch", "patch"]
    return {
        "resources": [
            {"name": name, "kind": kind, "singularName": kind.lower(), "namespaced": True, "verbs": verbs}
            for name, kind in kinds.items()
        ]
    }


def group(name: str, version: str) -> dict[str, Any]:
    return {"name": name, "versions": [{"version": version}], "preferredVersion": {"version": version}}


# kopf asks at its start what there is, and for these kinds in any case.
DISCOVERY = {
    "/api": {"versions": ["v1"]},
    "/api/v1": served(pods="Pod", namespaces="Namespace"),
    "/apis": {"groups": [group("batch", "v1"), group("qwensft.io", "v1alpha1"), group("apiextensions.k8s.io", "v1")]},
    "/apis/batch/v1": served(jobs="Job"),
    "/apis/qwensft.io/v1alpha1": served(qwensftjobs="QwenSFTJob"),
    "/apis/apiextensions.k8s.io/v1": served(customresourcedefinitions="CustomResourceDefinition"),
}
PATIENCE = 60.0  # seconds for what comes within one or two on an idle machine


class ApiServer:
    """Lists of `runs` runs and of nothing else, and watches that stay open until `end_watches`."""

    def __init__(self, runs: int = 0) -> None:
        self.runs = runs
        self.broken: dict[str, int] = {}
        self.lists: list[str] = []
        self.ends: dict[str, asyncio.Event] = {}

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if status := self.broken.get(request.path):
            body = {"kind": "Status", "code": status, "message": "broken by the test"}
            return web.json_response(body, status=status)
        if request.path in DISCOVERY:
            return web.json_response(DISCOVERY[request.path])
        if request.query.get("watch") == "true":
            return await self._watch(request)
        self.lists.append(request.path)
        first, limit = int(request.query.get("continue") or 0), int(request.query.get("limit") or 10**9)
        count = self.runs if request.path == RUNS else 0
        items = [self.run(number) for number in range(first, min(first + limit, count))]
        more = str(first + limit) if first + limit < count else ""
        return web.json_response({"metadata": {"resourceVersion": "1", "continue": more}, "items": items})

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        end = self.ends[request.path] = asyncio.Event()
        await response.prepare(request)
        bookmark = {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "2"}}}
        await response.write(json.dumps(bookmark).encode() + b"\n")
        await end.wait()
        return response

    def end_watches(self, *paths: str) -> None:
        for path in paths or tuple(self.ends):
            self.ends.pop(path).set()

    @staticmethod
    def run(number: int) -> dict[str, Any]:
        name = f"run-{number}"
        return {"metadata": {"name": name, "namespace": "team", "uid": name, "resourceVersion": "1"}}


class World:
    def __init__(self, server: ApiServer, kube: Kube) -> None:
        self.server, self.kube = server, kube
        self.queue: WorkQueue[Key] = WorkQueue()

    @contextlib.asynccontextmanager
    async def watching(self, patience: float = 60.0) -> AsyncIterator[tuple[Watcher, asyncio.Task[None]]]:
        watcher = Watcher(self.kube, self.queue, PodAddresses(), (), timeout=10, patience=patience)
        task = asyncio.create_task(watcher.run())
        try:
            yield watcher, task
        finally:
            watcher.stop()
            await asyncio.wait_for(asyncio.gather(task, return_exceptions=True), PATIENCE)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    behaviour = ApiServer()
    application = web.Application()
    application.router.add_get("/{path:.*}", behaviour.handle)
    async with TestServer(application) as http:
        kube = Kube(Configuration(host=str(http.make_url("")).rstrip("/")), 10)
        yield World(behaviour, kube)
        behaviour.end_watches()
        await kube.close()


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not holds():  # noqa: ASYNC110 - what is waited for is not ours to signal
            await asyncio.sleep(0.02)


async def test_a_watcher_is_ready_while_all_its_watches_are_open(world: World) -> None:
    async with world.watching() as (watcher, _):
        for path in PATHS:
            assert path in watcher.not_ready()
        await until(lambda: watcher.not_ready() == "")


async def test_a_watch_that_the_server_ends_and_grants_again_is_no_matter(world: World) -> None:
    async with world.watching() as (watcher, task):
        await until(lambda: watcher.not_ready() == "")
        opened = set(world.server.ends.values())
        world.server.end_watches()
        while not (len(world.server.ends) == 3 and opened.isdisjoint(world.server.ends.values())):
            assert watcher.not_ready() == ""
            await asyncio.sleep(0.02)
        assert not task.done()


async def test_a_watch_that_is_refused_for_a_while_makes_the_replica_unready_until_it_is_back(world: World) -> None:
    async with world.watching() as (watcher, _):
        await until(lambda: watcher.not_ready() == "")
        world.server.broken[RUNS] = 403
        world.server.end_watches(RUNS)
        await until(lambda: watcher.not_ready() != "")
        assert watcher.not_ready() == f"{RUNS} (403 Forbidden)"
        world.server.broken.clear()
        await until(lambda: watcher.not_ready() == "")


@pytest.mark.parametrize("status", [403, 404, 500])
async def test_a_watch_that_stays_closed_ends_the_watcher(world: World, status: int) -> None:
    world.server.runs = 3  # kopf has workers of its own for them
    async with world.watching(patience=4) as (watcher, task):
        await until(lambda: watcher.not_ready() == "")
        world.server.broken[RUNS] = status
        world.server.end_watches(RUNS)
        with pytest.raises(StreamLostError, match=f"{RUNS} \\({status} "):
            await asyncio.wait_for(task, PATIENCE)


async def test_watches_that_never_open_end_the_watcher(world: World) -> None:
    world.server.broken = dict.fromkeys(PATHS, 403)
    async with world.watching(patience=2) as (_, task):
        with pytest.raises(StreamLostError):
            await asyncio.wait_for(task, PATIENCE)


async def test_a_long_list_is_read_in_parts_and_every_run_is_looked_at(world: World) -> None:
    world.server.runs = 130
    async with world.watching():
        await until(lambda: world.queue.depth == 130)
    assert world.server.lists.count(RUNS) == 3


async def test_a_graceful_end_takes_no_time(world: World) -> None:
    async with world.watching() as (watcher, task):
        await until(lambda: watcher.not_ready() == "")
        started = time.monotonic()
        watcher.stop()
        await asyncio.wait_for(task, PATIENCE)
    assert time.monotonic() - started < 4, "kopf waits 5 s for tasks that are not its own"


async def test_the_process_of_a_watcher_that_has_ended_ends_too(world: World, tmp_path: Path) -> None:
    kubeconfig = {
        "current-context": "test",
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        "clusters": [{"name": "test", "cluster": {"server": world.kube.configuration.host}}],
        "users": [{"name": "test", "user": {}}],
    }
    (tmp_path / "kubeconfig").write_text(json.dumps(kubeconfig))
    settings = {"TRAINER_IMAGE": "t", "LEADER_ELECTION": "false", "HEALTH_PORT": "0", "DEAF_AFTER_SECONDS": "3"}
    environment = {f"QWENSFT_{name}": value for name, value in settings.items()}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "qwensft_operator"),
        env={**os.environ, **environment, "KUBECONFIG": str(tmp_path / "kubeconfig")},
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        await until(lambda: set(world.server.ends) == PATHS)
        world.server.broken[RUNS] = 404
        world.server.end_watches(RUNS)
        _, log = await asyncio.wait_for(process.communicate(), PATIENCE)
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode == 1
    assert f"closed for more than 3 s: {RUNS} (404 Not Found)" in log.decode()


async def test_an_api_server_that_is_down_at_the_start_is_waited_for(world: World) -> None:
    world.server.broken["/apis/qwensft.io/v1alpha1"] = 503
    async with world.watching() as (watcher, task):
        await asyncio.sleep(0.2)
        assert not task.done()
        world.server.broken.clear()
        await until(lambda: watcher.not_ready() == "")


async def test_the_wait_before_watching_began_is_no_time_in_which_a_watch_was_closed() -> None:
    clock = iter([0.0, *[1000.0] * 50])
    health = Streams("https://cluster", ["/api/v1/pods"], now=lambda: next(clock))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1.5):  # it looks once a second
            await health.supervise(patience=60)
