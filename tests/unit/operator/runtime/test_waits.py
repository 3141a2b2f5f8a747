"""A run that waits costs no requests but those that alone can tell that its wait is over."""

from collections import Counter
from typing import Any

import pytest

from qwensft_operator.runtime.kube import (
    CLAIMS,
    CONFIG_MAPS,
    JOBS,
    PODS,
    QWENSFTJOBS,
    ForbiddenError,
    Manifest,
    NotFoundError,
    Resource,
)

from .fakes import job_manifest
from .reconciling import KEY, World, reasons
from .test_leftovers import JOB_NAME, a_pod

OLD = {"qwensft.io/job-uid": "99999999-old"}
MODELS = {"name": "Qwen/Qwen3-8B", "source": {"volume": {"claimName": "models"}}}
OF_RUN = {"name": "Qwen/Qwen3-8B", "source": {"run": {"name": "first"}}}
QUEUE = {"runPolicy": {"queueName": "gpus"}}
PATIENT = {"prepare": {"retries": 1}}


class Wait:
    """A watched run, and what it costs from when it has said that it waits."""

    def __init__(self, **spec: Any) -> None:
        self.world = World(watching=True)
        self.put(QWENSFTJOBS, job_manifest(**spec))

    def put(self, resource: Resource, manifest: Manifest) -> None:
        self.world.kube.put(resource, "team", manifest)

    async def looks(self, times: int = 3) -> Counter[tuple[str, str]]:
        """Look so often; return the requests by verb and resource."""
        self.world.kube.calls.clear()
        for _ in range(times):
            await self.world.reconciler.handle(KEY)
        return Counter((verb, plural) for verb, plural, _ in self.world.kube.calls)

    async def costs(self) -> Counter[tuple[str, str]]:
        """Return the requests of one look, once all is said."""
        await self.looks()
        costs = await self.looks()
        assert all(count % 3 == 0 for count in costs.values()), costs
        return Counter({request: count // 3 for request, count in costs.items()})

    async def starts(self) -> bool:
        """Whether the run has a Job after another look."""
        await self.looks(1)
        return bool(self.world.kube.named(JOBS))


async def test_for_a_claim_of_somebody_else_of_which_no_watch_tells() -> None:
    wait = Wait(model=MODELS)
    assert await wait.costs() == {("get", "persistentvolumeclaims"): 1}
    assert reasons(wait.world) == {"StorageUnavailable"}
    wait.put(CLAIMS, {"metadata": {"name": "models"}, "status": {"phase": "Bound"}})
    assert await wait.starts()


async def test_for_a_config_map_of_somebody_else_of_which_no_watch_tells() -> None:
    wait = Wait()
    wait.world.kube.remove(CONFIG_MAPS, "team", "facts")
    assert await wait.costs() == {("get", "configmaps"): 1}
    assert reasons(wait.world) == {"ConfigMapUnavailable"}
    wait.put(CONFIG_MAPS, {"metadata": {"name": "facts"}, "data": {"f.json": "[]"}})
    assert await wait.starts()


async def test_for_a_run_with_whose_model_it_begins() -> None:
    wait = Wait(model=OF_RUN)
    assert await wait.costs() == {}
    assert reasons(wait.world) == {"WaitingForSourceRun"}


async def test_for_its_user() -> None:
    wait = Wait(model=MODELS, runPolicy={"suspend": True})
    assert await wait.costs() == {}
    assert reasons(wait.world) == {"Suspended"}


async def test_for_the_next_attempt() -> None:
    wait = Wait(**PATIENT)
    await wait.looks()
    failed = wait.world.kube.objects["jobs", "team", "demo-prepare-1"]
    wait.put(JOBS, failed | {"status": {"conditions": [{"type": "Failed", "status": "True"}]}})
    await wait.looks(2)
    assert wait.world.run["status"]["stages"]["prepare"]["attempt"] == 2
    assert await wait.looks() == {}


@pytest.mark.parametrize("owner", ["an-old-job", None], ids=["that go", "that nobody looks after"])
async def test_for_pods_of_an_earlier_run(owner: str | None) -> None:
    wait = Wait()
    wait.put(PODS, a_pod(owner=owner, **OLD))
    # Of the pod's owner, which has no label that is watched or is gone, only a read can tell.
    assert await wait.costs() == ({("get", "jobs"): 1} if owner else {})
    assert reasons(wait.world) == {"WaitingForPreviousRun" if owner else "NameConflict"}
    wait.world.kube.remove(PODS, "team", "demo-train-1-0-abcde")
    assert await wait.starts()


@pytest.mark.parametrize("taken_off", ["qwensft.io/job", JOB_NAME])
async def test_for_pods_of_which_somebody_has_taken_off_a_label(taken_off: str) -> None:
    wait = Wait()
    wait.put(PODS, a_pod(owner=None, **OLD, **{taken_off: ""}))
    hidden = taken_off == "qwensft.io/job"
    costs = await wait.costs()
    assert costs["list", "pods"] == (3 if hidden else 0), "no watch tells of what lacks our label: two lists and a pod"
    assert reasons(wait.world) == {"NameConflict"}
    wait.put(PODS, a_pod(owner=None, phase="Succeeded", **OLD, **{taken_off: ""}))
    assert await wait.starts()


async def test_pods_that_no_watch_has_told_of_yet_are_found_before_the_start() -> None:
    wait = Wait()
    wait.world.kube.store = None  # the watches are late
    wait.put(PODS, a_pod(owner=None, **OLD))
    assert not await wait.starts()
    assert reasons(wait.world) == {"NameConflict"}


async def test_in_a_queue() -> None:
    wait = Wait(model=MODELS, **QUEUE)
    wait.put(CLAIMS, {"metadata": {"name": "models"}, "status": {"phase": "Bound"}})
    await wait.looks()
    made = wait.world.kube.objects["jobs", "team", "demo-prepare-1"]
    wait.put(JOBS, made | {"spec": made["spec"] | {"suspend": True}, "status": {}})
    wait.world.kube.refuse["list", "workloads"] = NotFoundError(404, "NotFound", "no Kueue")
    assert await wait.costs() == {}, "of Kueue it is asked every half minute, for all runs of a namespace"
    assert reasons(wait.world) == {"Queued"}


async def test_for_what_the_api_server_refuses() -> None:
    """To try again is to ask; what was read of the run, its children and its claim is as true as before."""
    wait = Wait(model=MODELS)
    wait.put(CLAIMS, {"metadata": {"name": "models"}, "status": {"phase": "Bound"}})
    wait.world.kube.refuse["create", "jobs"] = ForbiddenError(403, "Forbidden", "exceeded quota: small")
    assert await wait.costs() == {
        ("get", "persistentvolumeclaims"): 1,
        ("get", "configmaps"): 2,  # its rows', and the attempt's own, which exists
        ("list", "pods"): 2,
        ("get", "qwensftjobs"): 1,
        ("create", "configmaps"): 1,
        ("create", "jobs"): 1,
    }
    assert reasons(wait.world) == {"QuotaExceeded"}
    wait.world.kube.refuse.clear()
    assert await wait.starts()
