"""Passes over a run that fail or are refused: they are made again, and what lasts is told."""

from typing import Any

import pytest

from qwensft_operator.runtime.execute import NotYetError
from qwensft_operator.runtime.kube import (
    EVENTS,
    JOBS,
    QWENSFTJOBS,
    ConflictError,
    ForbiddenError,
    InvalidError,
    KubeError,
    Manifest,
    NamespaceTerminatingError,
    Resource,
    TransientError,
)

from .fakes import FakeKube, job_manifest
from .reconciling import KEY, World, reasons


@pytest.fixture
def world() -> World:
    world = World()
    world.kube.put(QWENSFTJOBS, "team", job_manifest())
    return world


async def test_a_refusal_is_reported_and_nothing_else_is_done(world: World) -> None:
    world.kube.refuse["create", "configmaps"] = ForbiddenError(403, "Forbidden", "exceeded quota: small")
    await world.reconciler.handle(KEY)
    assert world.kube.named(JOBS) == set()
    succeeded = next(c for c in world.run["status"]["conditions"] if c["type"] == "Succeeded")
    assert (succeeded["status"], succeeded["reason"]) == ("Unknown", "QuotaExceeded")
    assert world.run["status"].get("stages", {}).get("prepare", {}).get("jobName") is None
    assert world.timers.waits == [1]

    await world.reconciler.handle(KEY)
    assert world.queue.failures(KEY) == 2

    world.kube.refuse.clear()
    await world.reconciler.handle(KEY)
    assert world.kube.named(JOBS) == {"demo-prepare-1"}
    assert world.queue.failures(KEY) == 0


@pytest.mark.parametrize(
    "error",
    [
        TransientError(503, "ServiceUnavailable", "etcd has no leader"),
        ConflictError(409, "Conflict", "the object has been modified"),
        KubeError(418, "Teapot", "no"),
        RuntimeError("a bug"),
    ],
)
async def test_whatever_goes_wrong_the_run_is_looked_at_again(world: World, error: KubeError) -> None:
    world.kube.refuse["patch/status", "qwensftjobs"] = error
    await world.reconciler.handle(KEY)
    assert world.kube.named(EVENTS) == set(), "an event was told although the status was not written"
    assert world.timers.waits == [1]


async def test_a_quota_that_changes_while_something_is_created_is_no_refusal(world: World) -> None:
    """Quotas of a busy namespace answer so (kubernetes/kubernetes#67761): what is created next time."""
    words = 'Operation cannot be fulfilled on resourcequotas "gke-resource-quotas": the object has been modified'
    world.kube.refuse["create", "jobs"] = ConflictError(409, "Conflict", words)
    await world.reconciler.handle(KEY)
    assert (world.kube.named(JOBS), reasons(world)) == (set(), set())
    world.kube.refuse.clear()
    await world.reconciler.handle(KEY)
    assert world.kube.named(JOBS) == {"demo-prepare-1"}
    assert reasons(world) == {"PodsStarting"}


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (RuntimeError("a bug"), "RuntimeError: a bug"),
        (ForbiddenError(403, "Forbidden", "cannot list jobs"), "ForbiddenError: cannot list jobs"),
    ],
)
async def test_a_pass_that_fails_again_and_again_is_told_once(world: World, error: Exception, words: str) -> None:
    world.kube.refuse["list", "jobs"] = error
    await world.reconciler.handle(KEY)
    assert world.writes() == [], "one that has passed by the next try is not worth it"
    for _ in range(3):
        await world.reconciler.handle(KEY)
    assert reasons(world) == {"OperatorError"}
    assert words in world.run["status"]["conditions"][0]["message"]
    assert world.writes() == [("patch/status", "qwensftjobs"), ("create", "events")]
    assert world.queue.failures(KEY) == 4

    world.kube.refuse.clear()
    await world.reconciler.handle(KEY)
    assert reasons(world) == {"PodsStarting"}
    assert world.run["status"]["phase"] == "Preparing"


async def test_an_error_that_the_status_cannot_tell_is_told_by_an_event(world: World) -> None:
    world.kube.refuse["list", "jobs"] = RuntimeError("a bug")
    world.kube.refuse["patch/status", "qwensftjobs"] = ForbiddenError(403, "Forbidden", "cannot patch status")
    for _ in range(3):
        await world.reconciler.handle(KEY)
    assert world.queue.failures(KEY) == 3
    (event,) = world.kube.named(EVENTS)
    assert world.kube.objects["events", "team", event]["reason"] == "OperatorError"


WEBHOOK = TransientError(
    500,
    "InternalError",
    'Internal error occurred: failed calling webhook "check.policy.example": failed to call webhook: Post '
    '"https://policy.team.svc:443/check?timeout=10s": dial tcp 10.96.7.1:443: connect: connection refused',
)


async def test_a_webhook_that_does_not_answer_is_named_at_once_and_the_run_goes_on_within_half_a_minute_after_it_does(
    world: World,
) -> None:
    world.kube.refuse["create", "jobs"] = WEBHOOK
    for _ in range(12):
        await world.reconciler.handle(KEY)
        assert reasons(world) == {"WebhookUnavailable"}
    told = world.run["status"]["conditions"][0]["message"]
    assert "admission webhook check.policy.example" in told
    assert "connection refused. Mend service policy in namespace team, or" in told
    assert "10.96.7.1" not in told, "addresses and ports differ from try to try, and each would be a write"
    assert world.writes().count(("patch/status", "qwensftjobs")) == 1
    assert max(world.timers.waits) <= 30

    world.kube.refuse.clear()
    await world.reconciler.handle(KEY)
    assert reasons(world) == {"PodsStarting"}


@pytest.mark.parametrize(
    ("verb", "plural", "error", "reason"),
    [
        ("create", "jobs", TransientError(429, "TooManyRequests", "try later"), "ApiServerError"),
        ("list", "jobs", TransientError(504, "Timeout", "etcd is slow"), "ApiServerError"),
        ("list", "jobs", ConflictError(409, "Conflict", "it has been modified"), "ApiServerError"),
        ("create", "jobs", NotYetError("Job demo-prepare-1 is being deleted"), "WaitingForDeletion"),
    ],
)
async def test_what_mostly_passes_by_itself_is_told_once_it_lasts(
    world: World, verb: str, plural: str, error: Exception, reason: str
) -> None:
    world.seconds_per_look = 4
    world.kube.refuse[verb, plural] = error
    await world.reconciler.handle(KEY)
    assert reasons(world) == set(), "a hitch is no news"
    for _ in range(4):
        await world.reconciler.handle(KEY)
    assert reasons(world) == {reason}
    assert str(error) in world.run["status"]["conditions"][0]["message"]
    assert world.writes().count(("patch/status", "qwensftjobs")) == 1

    world.kube.refuse.clear()
    await world.reconciler.handle(KEY)
    assert reasons(world) == {"PodsStarting"}
    world.kube.refuse["list", "jobs"] = error
    await world.reconciler.handle(KEY)
    assert reasons(world) == {"PodsStarting"}, "the next failure has all the patience again"


async def test_nothing_is_told_in_a_namespace_that_goes_away(world: World) -> None:
    world.seconds_per_look = 60
    world.kube.refuse["create", "jobs"] = NamespaceTerminatingError(403, "Forbidden", "it is being terminated")
    for _ in range(3):
        await world.reconciler.handle(KEY)
    assert reasons(world) == set()


class StrictKube(FakeKube):
    """Refuses a status with figures, as an API server does whose schema they break."""

    async def merge(
        self, resource: Resource, namespace: str, name: str, patch: Manifest, *, subresource: str = ""
    ) -> Manifest:
        if "stages" in patch.get("status", {}):
            raise InvalidError(422, "Invalid", "status.stages: Invalid value")
        return await super().merge(resource, namespace, name, patch, subresource=subresource)


async def test_a_status_that_is_refused_is_told_by_conditions_alone() -> None:
    world = World(StrictKube())
    world.kube.put(QWENSFTJOBS, "team", job_manifest())
    for _ in range(3):
        await world.reconciler.handle(KEY)
    assert reasons(world) == {"OperatorError"}
    assert "status.stages: Invalid value" in world.run["status"]["conditions"][0]["message"]
    assert [write for write in world.writes() if write[0] == "patch/status"] == [("patch/status", "qwensftjobs")]


class SlowKube(FakeKube):
    """The list of Jobs takes so long that somebody suspends the run meanwhile."""

    async def _request(self, *args: Any, **named: Any) -> Manifest:
        answer = await super()._request(*args, **named)
        run = self.objects["qwensftjobs", "team", "demo"]
        if args[1].endswith("/jobs") and "runPolicy" not in run["spec"]:
            self.put(QWENSFTJOBS, "team", run | {"spec": run["spec"] | {"runPolicy": {"suspend": True}}})
        return answer


async def test_after_a_failed_pass_too_a_run_that_was_edited_since_it_was_read_starts_nothing() -> None:
    world = World(SlowKube())
    world.kube.put(QWENSFTJOBS, "team", job_manifest())
    world.queue.add_rate_limited(KEY)
    await world.reconciler.handle(KEY)
    assert world.writes() == []
    await world.reconciler.handle(KEY)
    assert world.run["status"]["phase"] == "Suspended"
    assert world.kube.named(JOBS) == set()
