"""The watches against an API server whose answers can be broken: whatever fails is tried again, alone, and told."""

import asyncio
import contextlib
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from kubernetes.aio.client.configuration import Configuration

from qwensft_operator.runtime.kinds import CHILDREN, KINDS, RUNS, Key
from qwensft_operator.runtime.kube import CONFIG_MAPS, JOBS, PODS, QWENSFTJOBS, SERVICES, Kube
from qwensft_operator.runtime.queue import WorkQueue
from qwensft_operator.runtime.reflector import Reflector
from qwensft_operator.runtime.store import Store
from qwensft_operator.runtime.streams import Stream
from qwensft_operator.runtime.wake import Wakes
from qwensft_operator.runtime.watch import Watcher

from .api_server import ApiServer

PATHS = {kind.resource.path("") for kind in (RUNS, *CHILDREN)}
PATIENCE = 60.0  # seconds for what comes within one or two on an idle machine
KEY = ("team", "demo")


class World:
    def __init__(self, server: ApiServer, kube: Kube) -> None:
        self.server, self.kube = server, kube
        self.queue: WorkQueue[Key] = WorkQueue()
        self.store = Store(Wakes(self.queue, asyncio.get_running_loop()))

    @contextlib.asynccontextmanager
    async def watching(self, *namespaces: str) -> AsyncIterator[Watcher]:
        watcher = Watcher(self.kube, self.store, namespaces, timeout=10)
        task = asyncio.create_task(watcher.run())
        try:
            yield watcher
            assert not task.done()
        finally:
            watcher.stop()
            await asyncio.wait_for(task, PATIENCE)

    async def looks(self) -> Key:
        """Wait until a run is to be looked at, and have looked at it."""
        key = await asyncio.wait_for(self.queue.get(), PATIENCE)
        self.queue.done(key)
        return key


@pytest.fixture
async def world() -> AsyncIterator[World]:
    behaviour = ApiServer()
    application = web.Application()
    application.router.add_get("/{path:.*}", behaviour.handle)
    async with TestServer(application) as http:
        kube = Kube(Configuration(host=str(http.make_url("")).rstrip("/")), 10)
        yield World(behaviour, kube)
        await behaviour.end_watches()
        await kube.close()


async def until(holds: Callable[[], Any]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not holds():  # noqa: ASYNC110 - what is waited for is not ours to signal
            await asyncio.sleep(0.02)


async def ready(watcher: Watcher) -> None:
    await until(lambda: watcher.streams.not_ready() == "")


async def test_a_watcher_is_ready_once_all_is_listed(world: World) -> None:
    async with world.watching() as watcher:
        for path in PATHS:
            assert path in watcher.streams.not_ready()
        await watcher.wait_listed(PATIENCE)
        assert watcher.streams.not_ready() == ""
        await until(lambda: world.server.watched() == PATHS)


async def test_what_exists_and_what_happens_is_known_and_looked_at(world: World) -> None:
    await world.server.put(QWENSFTJOBS, "demo")
    async with world.watching() as watcher:
        await ready(watcher)
        assert await world.looks() == KEY
        await world.server.put(JOBS, "demo-prepare-1", status={"active": 1})
        assert await world.looks() == KEY
        (job,) = world.store.children(JOBS, KEY)
        assert job["status"] == {"active": 1}
        await world.server.delete(JOBS, "demo-prepare-1")
        assert await world.looks() == KEY
        assert world.store.children(JOBS, KEY) == []


async def test_of_services_and_config_maps_only_the_metadata_is_asked_for(world: World) -> None:
    await world.server.put(CONFIG_MAPS, "demo-train-1", data={"train.yaml": "long"})
    async with world.watching() as watcher:
        await ready(watcher)
        assert world.store.get(CONFIG_MAPS, "team", "demo-train-1") is not None
        await until(lambda: world.server.watched() == PATHS)
        for _, path, accept in world.server.requests:
            assert ("PartialObjectMetadata" in accept) == path.endswith(("services", "configmaps")), path


async def test_a_service_that_somebody_deletes_is_noticed_at_once(world: World) -> None:
    await world.server.put(QWENSFTJOBS, "demo")
    await world.server.put(SERVICES, "demo-train")
    async with world.watching() as watcher:
        await ready(watcher)
        await world.looks()
        await world.server.delete(SERVICES, "demo-train")
        assert await asyncio.wait_for(world.looks(), 5) == KEY
        assert world.store.get(SERVICES, "team", "demo-train") is None


async def test_a_watch_that_the_server_ends_goes_on_where_it_was(world: World) -> None:
    async with world.watching() as watcher:
        await ready(watcher)
        await until(lambda: world.server.watched() == PATHS)
        await world.server.end_watches()
        await world.server.put(QWENSFTJOBS, "demo")
        assert await world.looks() == KEY
        assert watcher.streams.not_ready() == ""
        assert sum(verb == "list" for verb, _, _ in world.server.requests) == len(PATHS)


async def test_a_deletion_that_no_event_tells_of_is_found_by_the_next_list(world: World) -> None:
    await world.server.put(QWENSFTJOBS, "demo")
    await world.server.put(PODS, "demo-train-1-0")
    async with world.watching() as watcher:
        await ready(watcher)
        await world.looks()
        await world.server.delete(PODS, "demo-train-1-0")
        await world.server.forget_history()
        await until(lambda: world.store.children(PODS, KEY) == [])
        assert await world.looks() == KEY


@pytest.mark.parametrize("fault", [403, 404, 429, 500, b"{not json\n", b'{"type": "ADDED"}\n', b'["list"]\n'])
async def test_a_kind_that_fails_is_told_and_tried_again_and_stops_no_other(
    world: World, fault: int | bytes, caplog: pytest.LogCaptureFixture
) -> None:
    path = RUNS.resource.path("")
    async with world.watching() as watcher:
        await ready(watcher)
        world.server.broken[path] = fault
        await world.server.end_watches(path)
        (stream,) = watcher.streams.of(RUNS)
        await until(lambda: stream.problem)
        await world.server.put(JOBS, "demo-train-1")
        assert await world.looks() == KEY
        told = [record.getMessage() for record in caplog.records if "not watching" in record.getMessage()]
        assert told
        assert told[0].startswith(f"not watching {path}, trying again: ")

        await world.server.put(QWENSFTJOBS, "other")
        world.server.broken.clear()
        await until(lambda: world.store.get(QWENSFTJOBS, "team", "other"))
        await ready(watcher)


async def test_a_kind_that_fails_for_longer_makes_the_replica_unready_until_it_is_back(world: World) -> None:
    path = RUNS.resource.path("")
    async with world.watching() as watcher:
        await ready(watcher)
        world.server.broken[path] = 403
        await world.server.end_watches(path)
        await until(lambda: watcher.streams.not_ready() == f"{path} (403 Broken)")
        assert not watcher.streams.hears(QWENSFTJOBS, "team")
        assert watcher.streams.hears(JOBS, "team")
        assert watcher.streams.deaf_for() == 0
        world.server.broken.clear()
        await ready(watcher)


async def test_a_list_that_expires_each_time_is_told_and_decides_nothing(world: World) -> None:
    path = RUNS.resource.path("")
    async with world.watching() as watcher:
        await ready(watcher)
        world.server.broken[path] = 410
        await world.server.end_watches(path)
        await until(lambda: not watcher.streams.hears(QWENSFTJOBS, "team"))
        assert watcher.streams.hears(JOBS, "team")
        await until(lambda: watcher.streams.not_ready() == f"{path} (410 Broken)")
        world.server.broken.clear()
        await ready(watcher)
        assert watcher.streams.hears(QWENSFTJOBS, "team")


def test_a_stream_that_must_be_listed_anew_is_ready_but_decides_nothing_until_it_is() -> None:
    stream = Stream(RUNS, "", now=lambda: 0.0)
    stream.listed()
    stream.lost_track()
    assert (stream.works, stream.hears) == (True, False)
    stream.heard()
    assert not stream.hears, "a part of a list is not all"
    stream.listed()
    assert stream.hears


async def test_a_namespace_that_fails_holds_up_no_other(world: World) -> None:
    for kind in KINDS:
        world.server.broken[kind.path("lost")] = 404
    await world.server.put(QWENSFTJOBS, "demo")
    async with world.watching("lost", "team") as watcher:
        started = time.monotonic()
        await watcher.wait_listed(PATIENCE)
        assert time.monotonic() - started < PATIENCE / 2, "waited for what has failed"
        assert await world.looks() == KEY
        await ready(watcher)
        assert watcher.streams.hears(QWENSFTJOBS, "team")
        assert not watcher.streams.hears(QWENSFTJOBS, "lost")


async def test_runs_that_are_over_are_kept_as_a_key_and_their_children_not_at_all(world: World) -> None:
    over = {"completionTime": "2026-01-01T00:00:00Z", "observedGeneration": 1}
    for number in range(230):
        name = f"run-{number:03}"
        await world.server.put(QWENSFTJOBS, name, status=over)
    complete = {"conditions": [{"type": "Complete", "status": "True"}]}
    labels = {"labels": {"app.kubernetes.io/managed-by": "qwen-sft-operator", "qwensft.io/job": "run-007"}}
    await world.server.put(JOBS, "run-007-prepare-1", status=complete, metadata=labels)
    async with world.watching() as watcher:
        await ready(watcher)
        assert sum(world.store.over().values()) == 230
        assert [world.store.count(kind) for kind in KINDS] == [0] * len(KINDS)
        assert [path for verb, path, _ in world.server.requests if verb == "list"].count(RUNS.resource.path("")) == 3
        await world.server.put(JOBS, "run-007-merge-1", status={"active": 1}, metadata=labels)
        assert await world.looks() == ("team", "run-007"), "a Job that runs after the end is stopped"


async def test_a_stream_that_is_silent_for_too_long_is_listed_anew_and_decides_nothing_until_it_is(
    world: World,
) -> None:
    stream = Stream(RUNS, "")
    async with aiohttp.ClientSession() as session:
        task = asyncio.create_task(Reflector(world.kube, world.store, stream, silence=0.2).run(session))
        await until(lambda: stream.hears)
        await until(lambda: not stream.hears)
        await until(lambda: stream.hears)
        verbs = [verb for verb, _, _ in world.server.requests]
        assert verbs[:3] == ["list", "watch", "list"]
        task.cancel()


async def test_an_api_server_that_was_restored_from_a_backup_is_believed(world: World) -> None:
    """Its versions are lower than those that are known, and it tells nothing to a watch from one that is to come."""
    await world.server.put(QWENSFTJOBS, "demo", spec={"edited": False})
    world.server.back_up()
    await world.server.put(QWENSFTJOBS, "demo", spec={"edited": True})
    await world.server.put(JOBS, "demo-prepare-1")
    async with aiohttp.ClientSession() as session:
        streams = [Stream(KINDS[resource], "") for resource in (QWENSFTJOBS, JOBS)]
        reflectors = [Reflector(world.kube, world.store, stream, silence=0.5) for stream in streams]
        tasks = [asyncio.create_task(reflector.run(session)) for reflector in reflectors]
        await until(lambda: world.store.children(JOBS, KEY))
        assert await world.looks() == KEY

        await world.server.restore()
        assert await world.looks() == KEY
        await until(lambda: not world.store.children(JOBS, KEY))
        await until(lambda: (world.store.get(QWENSFTJOBS, *KEY) or {}).get("spec") == {"edited": False})
        await world.server.put(QWENSFTJOBS, "demo", spec={"edited": "again"})
        await until(lambda: (world.store.get(QWENSFTJOBS, *KEY) or {}).get("spec") == {"edited": "again"})
        for task in tasks:
            task.cancel()


async def test_a_server_that_ends_every_stream_at_once_is_not_asked_without_pause(world: World) -> None:
    async with aiohttp.ClientSession() as session:
        world.server.broken[RUNS.resource.path("")] = b"\n"
        task = asyncio.create_task(Reflector(world.kube, world.store, Stream(RUNS, "")).run(session))
        ends = time.monotonic() + 1.5
        while time.monotonic() < ends:
            await world.server.end_watches()
            await asyncio.sleep(0.01)
        task.cancel()
    assert 1 <= sum(verb == "watch" for verb, _, _ in world.server.requests) <= 5


async def test_a_graceful_end_takes_no_time(world: World) -> None:
    async with world.watching() as watcher:
        await ready(watcher)
        started = time.monotonic()
    assert time.monotonic() - started < 4, "kopf waits 5 s for tasks that are not its own"


async def test_a_definition_that_is_not_there_yet_is_waited_for(world: World) -> None:
    world.server.broken[RUNS.resource.path("")] = 404
    async with world.watching() as watcher:
        await until(lambda: "404" in watcher.streams.not_ready())
        world.server.broken.clear()
        await ready(watcher)


async def test_a_process_that_hears_nothing_any_more_is_not_alive_and_says_so(world: World, tmp_path: Path) -> None:
    kubeconfig = {
        "current-context": "test",
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        "clusters": [{"name": "test", "cluster": {"server": world.kube.configuration.host}}],
        "users": [{"name": "test", "user": {}}],
    }
    (tmp_path / "kubeconfig").write_text(json.dumps(kubeconfig))
    port = 18080 + os.getpid() % 1000
    settings = {"TRAINER_IMAGE": "t", "LEADER_ELECTION": "false", "HEALTH_PORT": str(port), "DEAF_AFTER_SECONDS": "2"}
    environment = {f"QWENSFT_{name}": value for name, value in settings.items()}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "qwensft_operator"),
        env={**os.environ, **environment, "KUBECONFIG": str(tmp_path / "kubeconfig")},
    )
    try:
        await until(lambda: world.server.watched() == PATHS)
        assert await _probe(port, "livez") == (200, "ok")
        _, metrics = await _probe(port, "metrics")
        assert 'qwensft_operator_watch_age_seconds{resource="pods",run_namespace=""}' in metrics
        assert 'qwensft_operator_api_requests_total{code="200",resource="pods",verb="watch"} 1.0' in metrics
        assert 'qwensft_operator_api_requests_total{code="200",resource="pods",verb="list"} 1.0' in metrics
        world.server.broken = dict.fromkeys(PATHS, 500)
        await world.server.end_watches()
        async with asyncio.timeout(PATIENCE):
            while (answer := await _probe(port, "livez"))[0] == 200:  # noqa: ASYNC110 - a process
                await asyncio.sleep(0.1)
        assert answer[1].startswith("not watching anything for ")
        world.server.broken = {}
        async with asyncio.timeout(PATIENCE):
            while (await _probe(port, "livez"))[0] != 200:  # noqa: ASYNC110 - a process
                await asyncio.sleep(0.1)
    finally:
        process.terminate()
        assert await asyncio.wait_for(process.wait(), PATIENCE) == 0


async def _probe(port: int, path: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}/{path}") as response:
        return response.status, await response.text()
