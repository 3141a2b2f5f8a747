"""One pass over a run: what is written, in which order, and when the run is looked at again."""

import itertools
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from qwensft.api.v1alpha1 import parse_job
from qwensft_operator.plan.types import EnsureService
from qwensft_operator.render import Defaults
from qwensft_operator.runtime.execute import Executor, NotYetError
from qwensft_operator.runtime.kinds import Key
from qwensft_operator.runtime.kube import (
    CONFIG_MAPS,
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
from qwensft_operator.runtime.metrics import Metrics
from qwensft_operator.runtime.queue import Backoff, WorkQueue
from qwensft_operator.runtime.reconcile import Reconciler
from qwensft_operator.runtime.status import Reporter

from .fakes import FakeKube, job_manifest, make_observer, make_store

KEY = ("team", "demo")


class StillTimers:
    """A clock that stands still, and remembers what was to be called when."""

    def __init__(self) -> None:
        self.waits: list[float] = []

    def time(self) -> float:
        return 0.0

    def call_at(self, when: float, _: Callable[[], None], /) -> Any:
        self.waits.append(when)
        return self

    def cancel(self) -> None:
        self.waits.pop()


class World:
    def __init__(self, kube: FakeKube | None = None, *, watching: bool = False) -> None:
        self.kube, self.timers = kube or FakeKube(), StillTimers()
        self.clock, self.seconds_per_look = 0.0, 0.0
        self.store = make_store(self.kube)
        self.kube.put(CONFIG_MAPS, "team", {"metadata": {"name": "facts"}, "data": {"f.json": "[]"}})
        self.queue: WorkQueue[Key] = WorkQueue(self.timers, Backoff(base=1, jitter=lambda: 0))
        moments = (datetime(2026, 1, 1, 0, 0, second, tzinfo=UTC) for second in itertools.count())
        self.executor = Executor(self.kube, Defaults("trainer:1"), "system/one")
        self.reconciler = Reconciler(
            self.queue,
            self.store,
            make_observer(self.kube, self.store, watching=watching),
            self.executor,
            Reporter(self.kube, "me"),
            metrics=Metrics(),
            scrape_interval=10,
            installation="system/one",
            now=lambda: next(moments),
            monotonic=self._look_at_the_clock,
        )

    def _look_at_the_clock(self) -> float:
        self.clock += self.seconds_per_look
        return self.clock

    @property
    def run(self) -> Manifest:
        return self.kube.objects["qwensftjobs", "team", "demo"]

    def writes(self) -> list[tuple[str, str]]:
        return [(verb, plural) for verb, plural, _ in self.kube.calls if verb not in ("get", "list")]


@pytest.fixture
def world() -> World:
    world = World()
    world.kube.put(QWENSFTJOBS, "team", job_manifest())
    return world


async def test_a_new_run_gets_its_objects_then_its_status_then_an_event(world: World) -> None:
    await world.reconciler.handle(KEY)
    assert world.writes() == [
        ("create", "persistentvolumeclaims"),
        ("create", "configmaps"),
        ("create", "jobs"),
        ("patch/status", "qwensftjobs"),
        ("create", "events"),
    ]
    assert world.run["status"]["phase"] == "Preparing"
    assert world.run["status"]["stages"]["prepare"]["jobName"] == "demo-prepare-1"
    assert world.queue.failures(KEY) == 0


def watched_world() -> World:
    world = World(watching=True)
    world.kube.put(QWENSFTJOBS, "team", job_manifest())
    return world


async def test_a_new_run_that_is_watched_costs_four_reads_and_five_writes_until_it_is_told() -> None:
    world = watched_world()
    await world.reconciler.handle(KEY)
    reads = [(verb, plural) for verb, plural, _ in world.kube.calls if verb in ("get", "list")]
    assert sorted(reads) == [
        ("get", "configmaps"),
        ("get", "qwensftjobs"),
        ("list", "nodes"),  # every five minutes, for all runs
        ("list", "pods"),
        ("list", "pods"),
    ]
    assert len(world.writes()) == 5
    world.kube.calls.clear()
    for _ in range(3):
        await world.reconciler.handle(KEY)
    assert world.kube.calls == [], "what was written is known, and nothing else has to be said"


async def test_a_run_that_was_edited_since_it_was_looked_at_starts_nothing_and_is_looked_at_anew() -> None:
    world = watched_world()
    world.kube.store = None  # the watch is late
    edited = world.run | {"spec": world.run["spec"] | {"runPolicy": {"suspend": True}}}
    world.kube.put(QWENSFTJOBS, "team", edited)
    await world.reconciler.handle(KEY)
    assert world.writes() == []
    await world.reconciler.handle(KEY)
    assert world.writes() == [("patch/status", "qwensftjobs"), ("create", "events")]
    assert world.run["status"]["phase"] == "Suspended"


async def test_a_run_that_ends_is_forgotten_but_for_its_key_when_nothing_is_left_to_do() -> None:
    world = watched_world()
    await world.reconciler.handle(KEY)
    failed = world.kube.objects["jobs", "team", "demo-prepare-1"]
    failed["status"] = {"conditions": [{"type": "Failed", "status": "True", "reason": "PodFailurePolicy"}]}
    world.run["spec"]["prepare"] = {"retries": 0}
    world.run["spec"]["runPolicy"] = {"ttlSecondsAfterFinished": 3600}
    world.kube.put(QWENSFTJOBS, "team", world.run)
    world.kube.put(JOBS, "team", failed)
    await world.reconciler.handle(KEY)
    assert world.run["status"]["phase"] == "Failed"
    assert not world.store.is_over(KEY), "its Jobs are to be deleted in an hour"
    await world.reconciler.handle(KEY)
    assert world.kube.named(JOBS) == {"demo-prepare-1"}

    world.run["spec"]["runPolicy"] = {"ttlSecondsAfterFinished": 0}
    world.kube.put(QWENSFTJOBS, "team", world.run)
    for _ in range(2):
        await world.reconciler.handle(KEY)
    assert world.kube.named(JOBS) == set()
    assert world.store.is_over(KEY)
    world.kube.calls.clear()
    await world.reconciler.handle(KEY)
    assert world.kube.calls == []


async def test_a_config_map_that_is_brought_back_is_not_kept_in_memory(world: World) -> None:
    await world.reconciler.handle(KEY)
    world.kube.objects["jobs", "team", "demo-prepare-1"]["status"] = {"active": 1, "ready": 1}
    world.kube.remove(CONFIG_MAPS, "team", "demo-prepare-1")
    await world.reconciler.handle(KEY)
    assert "demo-prepare-1" in world.kube.named(CONFIG_MAPS)
    assert await world.executor.execute(parse_job(world.run), EnsureService()) is None, "a later pass knows it still"


async def test_a_run_waits_for_the_config_map_of_its_rows(world: World) -> None:
    del world.kube.objects["configmaps", "team", "facts"]
    await world.reconciler.handle(KEY)
    assert world.writes() == [("patch/status", "qwensftjobs"), ("create", "events")]
    assert world.run["status"]["phase"] == "Pending"
    world.kube.put(CONFIG_MAPS, "team", {"metadata": {"name": "facts"}, "data": {"f.json": "[]"}})
    await world.reconciler.handle(KEY)
    assert world.kube.named(JOBS) == {"demo-prepare-1"}


async def test_a_pass_that_finds_nothing_new_writes_nothing(world: World) -> None:
    await world.reconciler.handle(KEY)
    await world.reconciler.handle(KEY)
    world.kube.calls.clear()
    await world.reconciler.handle(KEY)
    assert world.writes() == []


@pytest.mark.parametrize("crash_at", range(5))
async def test_a_crash_between_any_two_writes_is_made_good(world: World, crash_at: int) -> None:
    whole = World()
    whole.kube.put(QWENSFTJOBS, "team", job_manifest())
    await whole.reconciler.handle(KEY)
    verb, plural = whole.writes()[crash_at]

    world.kube.refuse[verb, plural] = TransientError(0, "ServerDisconnectedError", "the process died here")
    await world.reconciler.handle(KEY)
    world.kube.refuse.clear()
    await world.reconciler.handle(KEY)
    await world.reconciler.handle(KEY)
    assert world.kube.named(JOBS) == {"demo-prepare-1"}
    assert world.run["status"]["phase"] == "Preparing"
    assert world.run["status"]["stages"]["prepare"] | {"startTime": ""} == {
        "jobName": "demo-prepare-1",
        "attempt": 1,
        "startTime": "",
    }


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


async def test_a_deleted_run_is_forgotten(world: World) -> None:
    world.queue.add_rate_limited(KEY)
    del world.kube.objects["qwensftjobs", "team", "demo"]
    await world.reconciler.handle(KEY)
    assert world.queue.failures(KEY) == 0
    assert world.writes() == []


async def test_a_spec_of_another_version_stalls_the_run_once(world: World) -> None:
    world.run["spec"]["colour"] = "red"
    await world.reconciler.handle(KEY)
    stalled = next(c for c in world.run["status"]["conditions"] if c["type"] == "Stalled")
    assert (stalled["status"], stalled["reason"]) == ("True", "InvalidSpec")
    world.kube.calls.clear()
    await world.reconciler.handle(KEY)
    assert world.writes() == []


async def test_a_rule_that_is_newer_than_a_run_stalls_it_only_before_it_has_begun(world: World) -> None:
    unbegun = World()
    unbegun.kube.put(QWENSFTJOBS, "team", job_manifest())
    await world.reconciler.handle(KEY)
    for one in (world, unbegun):
        one.run["spec"]["extraArguments"] = {"load_best_model_at_end": "true"}
        await one.reconciler.handle(KEY)
    assert (reasons(unbegun), unbegun.run["status"]["phase"]) == ({"InvalidSpec"}, "Pending")
    assert unbegun.kube.named(JOBS) == set()
    assert (reasons(world), world.run["status"]["phase"]) == ({"PodsStarting"}, "Preparing")

    world.run["spec"]["colour"] = "red"
    await world.reconciler.handle(KEY)
    assert (reasons(world), world.run["status"]["phase"]) == ({"InvalidSpec"}, "Preparing")
    del world.run["spec"]["colour"]
    await world.reconciler.handle(KEY)
    assert reasons(world) == {"PodsStarting"}


def reasons(world: World) -> set[str]:
    """Reasons of the conditions that sum up how the run does."""
    conditions = world.run.get("status", {}).get("conditions", ())
    return {c["reason"] for c in conditions if c["type"] in ("Succeeded", "Reconciling", "Stalled")}


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
    assert "connection refused" in told
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


async def test_a_job_that_another_installation_has_made_is_told_and_its_own_is_signed(world: World) -> None:
    await world.reconciler.handle(KEY)
    job = world.kube.objects["jobs", "team", "demo-prepare-1"]
    assert job["metadata"]["annotations"]["qwensft.io/installation"] == "system/one"
    job["metadata"]["annotations"]["qwensft.io/installation"] = "other/two"
    job["metadata"]["creationTimestamp"] = "2999-01-01T00:00:00Z"
    for _ in range(2):
        await world.reconciler.handle(KEY)
    told = [o["reason"] for (plural, _, _), o in world.kube.objects.items() if plural == "events"]
    assert told.count("OperatorsOverlap") == 1
    assert ("patch", "events") not in world.writes()


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


async def test_a_spec_of_another_version_leaves_a_finished_run_as_it_ended(world: World) -> None:
    world.run["spec"]["colour"] = "red"
    world.run["status"] = {"phase": "Succeeded", "completionTime": "2026-01-01T00:00:00Z"}
    await world.reconciler.handle(KEY)
    assert world.writes() == []


async def test_what_a_newer_version_or_somebody_else_wrote_into_the_status_is_kept(world: World) -> None:
    said = {"status": "True", "reason": "Fine", "message": "", "lastTransitionTime": "2026-01-02T03:04:05Z"}
    approved = {"type": "Approved", "by": "me"} | said
    world.run["status"] = {
        "phase": "Evaluating",
        "quality": {"bleu": 0.4},
        "conditions": [approved, {"type": "Succeeded"} | said],
        "stages": {"evaluate": {"attempt": 2}, "prepare": {"node": "n1"}},
    }
    await world.reconciler.handle(KEY)
    status = world.run["status"]
    assert (status["phase"], status["quality"]) == ("Preparing", {"bleu": 0.4})
    assert [c["type"] for c in status["conditions"][:2]] == ["Approved", "Succeeded"]
    assert (status["conditions"][0], status["conditions"][1]["reason"]) == (approved, "PodsStarting")
    assert status["stages"]["evaluate"] == {"attempt": 2}
    assert status["stages"]["prepare"] | {"startTime": ""} == {
        "node": "n1",
        "jobName": "demo-prepare-1",
        "attempt": 1,
        "startTime": "",
    }


async def test_a_training_that_will_not_fit_is_warned_of_once(world: World) -> None:
    world.run["spec"]["worker"] = {"accelerator": {"memory": "4Gi"}}
    for _ in range(3):
        await world.reconciler.handle(KEY)
    warnings = [
        manifest["message"]
        for (plural, _, _), manifest in world.kube.objects.items()
        if plural == "events" and manifest["reason"] == "EstimatedOutOfMemory"
    ]
    assert warnings == [world.run["status"]["estimate"]["message"]]
    assert [verb for verb, plural in world.writes() if (verb, plural) == ("patch", "events")] == []
    assert world.run["status"]["estimate"]["fits"] is False
