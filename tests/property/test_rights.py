"""The operator does with the chart's rights all that it does, and each of them is needed for some of it.

Runs are played to their ends by an operator whose requests are held against the rules, as an API server does; so are
its watches and its Lease. What a run may meet on the way decides about some rights: each such scene says which.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from kubernetes.aio.client.configuration import Configuration
from tests.faults.operator import OperatorInstance
from tests.faults.wire import Line, Wire
from tests.unit.operator.runtime.api_server import ApiServer
from tests.unit.operator.runtime.test_rights import rules

from qwensft.api.v1alpha1 import StageStatus, parse_job
from qwensft_operator import render
from qwensft_operator.render import NetworkRules
from qwensft_operator.runtime.kinds import KINDS
from qwensft_operator.runtime.kube import JOBS, QWENSFTJOBS, SERVICES, WORKLOADS, Kube, classify
from qwensft_operator.runtime.leader import Leader, LeaderLostError
from qwensft_operator.runtime.store import Store
from qwensft_operator.runtime.watch import Watcher

from .control_plane import ControlPlane
from .world import KEY, START, World

_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}


@dataclass(frozen=True)
class Right:
    """A verb on a resource of a group; `named` where it holds for one object alone."""

    group: str
    resource: str
    verb: str
    named: bool = False


def granted() -> set[Right]:
    """What the chart's templates give, all that values switch on included."""
    return {
        Right(group, resource, verb, "resourceNames" in rule)
        for rule in rules()
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


GRANTED = granted()


def asked(method: str, path: str, *, watch: bool = False) -> Right:
    """The right that a request needs, as an API server reads it."""
    parts = path.strip("/").split("/")
    group, rest = ("", parts[2:]) if parts[0] == "api" else (parts[1], parts[3:])
    rest = rest[2:] if rest[0] == "namespaces" and len(rest) > 2 else rest
    resource = f"{rest[0]}/{rest[2]}" if len(rest) > 2 else rest[0]
    reading = "watch" if watch else "get" if len(rest) > 1 else "list"
    return Right(group, resource, _VERBS.get(method, reading))


@dataclass
class Authorizer:
    """Refuses what no rule gives, and keeps which were used."""

    used: set[Right] = field(default_factory=set)
    refused: set[Right] = field(default_factory=set)

    async def __call__(self, method: str, path: str) -> None:
        self.judge(asked(method, path))

    def judge(self, right: Right) -> None:
        """Raise what an API server answers where the right is missing."""
        found = GRANTED & {right, replace(right, named=True)}
        self.used |= found
        if not found:
            self.refused.add(right)
            raise classify(403, {"reason": "Forbidden", "message": f"cannot {right.verb} {right.resource}"})


class Scene(World):
    """A run whose operator has the chart's rights and no others."""

    def __init__(self, authorizer: Authorizer, **policy: object) -> None:
        self.network = NetworkRules(egress=({"ports": [{"port": 5000}]},))
        super().__init__(Line(before=authorizer), **policy)

    def new_operator(self) -> OperatorInstance:
        operator = OperatorInstance(
            Wire(self.plane.request, self.line),
            lambda: self.plane.now,
            hears=lambda resource, namespace: True,
            nodes=True,
            network=self.network,
        )
        self.deliver(operator, KINDS)
        return operator

    async def begin(self) -> None:
        """Until prepare runs."""
        await self.look()
        self.plane.settle()

    async def train(self) -> None:
        """Until the training runs."""
        while not any("-train-" in job["metadata"]["name"] for job in self.active()):
            await self.look()
            await self.move_on()

    async def fail(self) -> None:
        """Have all pods fail, and let the wait for the next attempt pass."""
        for job in self.active():
            await self.report(job, "Failed", 1)
        for _ in range(3):
            self.plane.settle()
            await self.look()
            self.plane.now += timedelta(minutes=6)


async def to_its_end(authorizer: Authorizer) -> None:
    scene = Scene(authorizer)
    await scene.come_to_rest()
    assert scene.status.phase == "Succeeded"


async def with_many_attempts(authorizer: Authorizer) -> None:
    """Of attempts that ended long ago Jobs and ConfigMaps are removed."""
    scene = Scene(authorizer, maxRestarts=9)
    await scene.train()
    while (scene.status.stages.train or StageStatus()).attempt != 6:
        await scene.fail()
    await scene.come_to_rest()


async def whose_job_was_deleted(authorizer: Authorizer) -> None:
    """Before it counts as lost, the Job is asked for by its name."""
    scene = Scene(authorizer)
    await scene.begin()
    (job,) = scene.active()
    scene.plane.objects.pop((JOBS.plural, "team", job["metadata"]["name"]))
    await scene.look()


async def held_and_resumed_twice(authorizer: Authorizer) -> None:
    """A Job is deleted, and what is told a second time in the same words is written into the first Event."""
    scene = Scene(authorizer)
    await scene.begin()
    for _ in range(2):
        for hold in (True, False):
            await scene.edit(suspend=hold)
            for _ in range(4):
                await scene.look()
                scene.plane.settle()
                scene.plane.now += timedelta(seconds=20)
    await scene.come_to_rest()


async def without_pods(authorizer: Authorizer) -> None:
    """Why a Job has no pods stands in Events alone."""
    scene = Scene(authorizer)
    await scene.look()
    scene.plane.now += timedelta(minutes=1)
    await scene.look()
    await scene.come_to_rest()


async def waiting_in_a_queue(authorizer: Authorizer) -> None:
    """Kueue says of the held Job of the training why it waits, and where."""
    scene = Scene(authorizer, queueName="team")
    await scene.begin()
    await scene.train()
    (held,) = (job for job in scene.active() if job["spec"].get("suspend"))
    labels = {"kueue.x-k8s.io/job-uid": held["metadata"]["uid"]}
    scene.plane.put(WORKLOADS.plural, "team", {"metadata": {"name": "job-demo", "labels": labels}})
    scene.plane.now += timedelta(minutes=2)
    await scene.look()


async def begun_under_an_earlier_version(authorizer: Authorizer) -> None:
    """Its Service selects by the run's name alone."""
    scene = Scene(authorizer)
    await scene.begin()
    scene.plane.put(SERVICES.plural, "team", render.service(parse_job(scene.run), by_uid=False))
    await scene.come_to_rest()


async def while_the_installation_changes_its_network_policies(authorizer: Authorizer) -> None:
    scene = Scene(authorizer, maxRestarts=2)
    await scene.begin()
    scene.network = NetworkRules()
    scene.operator = scene.new_operator()
    await scene.fail()
    await scene.come_to_rest()


async def on_accelerators_of_unknown_memory(authorizer: Authorizer) -> None:
    """Nodes' labels tell it."""
    scene = Scene(authorizer)
    await scene.kube.merge(QWENSFTJOBS, *KEY, {"spec": {"worker": {"accelerator": {"count": 1}}}})
    await scene.begin()


async def leading(authorizer: Authorizer) -> None:
    plane = ControlPlane(START)
    kube = Wire(plane.request, Line(before=authorizer))
    leader = Leader(kube, namespace="system", name="lease", identity="me", duration=3)
    await leader.acquire()
    with contextlib.suppress(TimeoutError, LeaderLostError):
        async with asyncio.timeout(1.5):
            await leader.hold()
    await leader.release()


async def watching(authorizer: Authorizer) -> None:
    server = ApiServer()
    await server.put(QWENSFTJOBS, "demo", KEY[0])
    async with _watcher(server) as watcher:
        await watcher.wait_listed(60)
        async with asyncio.timeout(60):
            while len(server.watched()) < len(KINDS):  # noqa: ASYNC110 - what is waited for is not ours to signal
                await asyncio.sleep(0.02)
        await server.end_watches()
    for how, path, _ in server.requests:
        authorizer.judge(asked("GET", path, watch=how == "watch"))


@contextlib.asynccontextmanager
async def _watcher(server: ApiServer) -> AsyncIterator[Watcher]:
    application = web.Application()
    application.router.add_get("/{path:.*}", server.handle)
    async with TestServer(application) as http:
        kube = Kube(Configuration(host=str(http.make_url("")).rstrip("/")), 10)
        watcher = Watcher(kube, Store(_Nobody()), (), timeout=10)
        task = asyncio.create_task(watcher.run())
        try:
            yield watcher
        finally:
            watcher.stop()
            await task
            await server.end_watches()
            await kube.close()


class _Nobody:
    """Listens to no changes."""

    def changed(self, *_: object) -> None: ...

    def written(self, *_: object) -> None: ...


SCENES: tuple[Callable[[Authorizer], Awaitable[None]], ...] = (
    to_its_end,
    with_many_attempts,
    whose_job_was_deleted,
    held_and_resumed_twice,
    without_pods,
    waiting_in_a_queue,
    begun_under_an_earlier_version,
    while_the_installation_changes_its_network_policies,
    on_accelerators_of_unknown_memory,
    leading,
    watching,
)


@pytest.fixture(scope="module")
def used() -> set[Right]:
    """The rights of which something made use in any scene."""
    return set().union(*(asyncio.run(_used(scene)) for scene in SCENES))


async def _used(scene: Callable[[Authorizer], Awaitable[None]]) -> set[Right]:
    authorizer = Authorizer()
    await scene(authorizer)
    assert authorizer.refused == set(), scene.__name__
    return authorizer.used


def test_no_right_is_missing_and_each_is_used(used: set[Right]) -> None:
    assert GRANTED - used == set()


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/api/v1/nodes", Right("", "nodes", "list")),
        ("GET", "/api/v1/namespaces/team/pods", Right("", "pods", "list")),
        ("GET", "/apis/batch/v1/namespaces/team/jobs/demo", Right("batch", "jobs", "get")),
        (
            "PATCH",
            "/apis/qwensft.io/v1alpha1/namespaces/team/qwensftjobs/demo/status",
            Right("qwensft.io", "qwensftjobs/status", "patch"),
        ),
        ("POST", "/api/v1/namespaces/team/events", Right("", "events", "create")),
    ],
)
def test_a_request_needs_the_right_that_an_api_server_asks_for(method: str, path: str, expected: Right) -> None:
    assert asked(method, path) == expected


async def test_a_request_without_a_right_is_found() -> None:
    authorizer = Authorizer()
    with pytest.raises(Exception, match="cannot delete pods"):
        await authorizer("DELETE", "/api/v1/namespaces/team/pods/demo")
    assert authorizer.refused == {Right("", "pods", "delete")}
