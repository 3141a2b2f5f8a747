"""A run that was deleted and does not go: what holds it is named, with the way out, and nothing is started for it."""

from typing import Any

import pytest

from qwensft_operator.plan import Dependent, Plan, deletion, dependent
from qwensft_operator.plan.types import PodView

from .builders import NOW, later, pod

FOREGROUND = ("foregroundDeletion",)
PATCH = "kubectl patch {} -n team --type merge -p '{}'"
TRACKED = ("batch.kubernetes.io/job-tracking",)
JOB = Dependent("job", "support-train-1", FOREGROUND, deleting=True)


def deleted(finalizers: tuple[str, ...] = FOREGROUND, *, ago: float = 60, **status: Any) -> dict[str, Any]:
    meta = {"name": "support", "namespace": "team", "uid": "u", "generation": 1, "resourceVersion": "7"}
    meta["deletionTimestamp"] = later(seconds=-ago).isoformat()
    return {"metadata": meta | {"finalizers": list(finalizers)}, "spec": {}, "status": status}


def seen(run: dict[str, Any], *dependents: Dependent, pods: tuple[PodView, ...] = ()) -> Plan:
    plan = deletion(run, dependents, pods, NOW)
    assert plan.actions == (), "something is done for a run that goes"
    return plan


def told(plan: Plan) -> str:
    """What is said, in event and condition alike."""
    (event,) = plan.events
    assert (event.type, event.reason) == ("Warning", "DeletionHeld")
    assert plan.status is not None
    conditions = {c["type"]: c for c in plan.status["conditions"]}
    assert conditions["Reconciling"]["message"] == conditions["Succeeded"]["message"] == event.message
    assert (conditions["Reconciling"]["status"], conditions["Stalled"]["status"]) == ("True", "False")
    return event.message


def test_a_deletion_is_given_half_a_minute() -> None:
    young = seen(deleted(("x/y",), ago=12))
    assert (young.status, young.events, young.requeue_after) == (None, (), 18)
    assert "x/y" in told(seen(deleted(("x/y",), ago=30)))


@pytest.mark.parametrize(
    ("finalizers", "patch"),
    [
        (("x/y",), '{"metadata":{"finalizers":null}}'),
        (("x/y", "foregroundDeletion"), '{"metadata":{"finalizers":["foregroundDeletion"]}}'),
        (("orphan", "x/y"), '{"metadata":{"finalizers":["orphan"]}}'),
    ],
)
def test_finalizers_of_the_run_itself_are_named_with_the_command_that_takes_them_off(
    finalizers: tuple[str, ...], patch: str
) -> None:
    words = told(seen(deleted(finalizers), JOB))
    assert "finalizers of the job itself (x/y)" in words
    assert PATCH.format("qwensftjobs support", patch) in words


@pytest.mark.parametrize("kind", ["job", "service", "configmap", "persistentvolumeclaim"])
def test_finalizers_of_what_belongs_to_it_are_named(kind: str) -> None:
    held = Dependent(kind, "support-1", ("foregroundDeletion", "kueue.x-k8s.io/managed"), deleting=True)
    words = told(seen(deleted(), JOB, held))
    assert f"finalizers of {kind} support-1 (kueue.x-k8s.io/managed)" in words
    assert PATCH.format(f"{kind} support-1", '{"metadata":{"finalizers":["foregroundDeletion"]}}') in words


def test_a_finalizer_of_what_is_not_being_deleted_holds_nothing_yet() -> None:
    words = told(seen(deleted(), Dependent("job", "support-train-1", ("x/y",))))
    assert "has not removed what belongs to it (job support-train-1)" in words


def test_finalizers_of_pods_are_named() -> None:
    held = pod(1, finalizers=(*TRACKED, "x/y"), deleted_at=later(seconds=-5))
    assert "finalizers of pod pod-1 (x/y)" in told(seen(deleted(), JOB, pods=(held,)))


def test_pods_that_stop_in_the_time_that_they_were_given_are_waited_for() -> None:
    waits = seen(deleted(), JOB, pods=(pod(0, finalizers=TRACKED, deleted_at=later(minutes=9)),))
    assert (waits.status, waits.events, waits.requeue_after) == (None, (), 60)


@pytest.mark.parametrize("phase", ["Running", "Succeeded", "Failed"])
@pytest.mark.parametrize("ago", [1, 30])
def test_a_pod_whose_grace_period_has_just_ended_says_nothing_yet(phase: str, ago: int) -> None:
    waits = seen(deleted(), JOB, pods=(pod(0, phase=phase, finalizers=TRACKED, deleted_at=later(seconds=-ago)),))
    assert (waits.status, waits.events, waits.requeue_after) == (None, (), 60)


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_a_pod_that_has_ended_and_whose_node_does_not_confirm_its_deletion_is_told(phase: str) -> None:
    pods = (pod(0, deleted_at=later(minutes=9)), pod(1, phase=phase, deleted_at=later(seconds=-31)))
    words = told(seen(deleted(), JOB, pods=pods))
    assert "node node-1 does not confirm that pod pod-1, which has ended, is gone" in words
    assert "kubectl delete pod pod-1 -n team --grace-period=0 --force is safe" in words
    assert "foregroundDeletion" not in words, "its other pods may still write"


def test_a_pod_on_a_lost_node_is_told_also_while_others_stop() -> None:
    pods = (pod(0, deleted_at=later(minutes=9)), pod(1, unreachable=True, deleted_at=later(seconds=-5)))
    words = told(seen(deleted(), JOB, pods=pods))
    assert "kubectl delete node node-1" in words


def test_a_pod_that_does_not_stop_is_told() -> None:
    assert "kubectl get node node-0" in told(seen(deleted(), JOB, pods=(pod(0, deleted_at=later(seconds=-31)),)))


def test_a_pod_that_nobody_counts_is_told() -> None:
    ended = pod(0, phase="Succeeded", finalizers=TRACKED, deleted_at=later(seconds=-31))
    words = told(seen(deleted(), JOB, pods=(ended,)))
    assert "finalizer batch.kubernetes.io/job-tracking of pod pod-0" in words
    assert "kube-controller-manager" in words


def test_a_garbage_collector_that_does_nothing_is_told_with_what_is_left() -> None:
    left = [Dependent("configmap", f"support-train-{n}") for n in range(5)]
    words = told(seen(deleted(), *left))
    assert "(configmap support-train-0, configmap support-train-1, configmap support-train-2 and 2 more)" in words
    assert PATCH.format("qwensftjobs support", '{"metadata":{"finalizers":null}}') in words
    assert "an object of somebody else names this job as its owner" in told(seen(deleted()))
    assert "garbage collector" in told(seen(deleted(("orphan",))))


def test_the_same_words_are_no_news_for_the_status() -> None:
    first = seen(deleted(("x/y",)))
    again = seen(deleted(("x/y",), **(first.status or {})))
    assert (again.status, again.events) == (None, first.events)


def test_a_run_that_has_ended_keeps_its_last_words() -> None:
    plan = seen(deleted(("x/y",), completionTime="2026-01-01T00:00:00Z", phase="Succeeded"))
    assert plan.status is None
    assert [event.reason for event in plan.events] == ["DeletionHeld"]


def test_an_object_is_reduced_to_what_may_hold_it() -> None:
    meta = {"name": "support-train-1", "finalizers": ["x/y"], "deletionTimestamp": "2026-01-01T00:00:00Z"}
    assert dependent("job", {"metadata": meta}) == Dependent("job", "support-train-1", ("x/y",), deleting=True)
    assert dependent("job", {"metadata": {"name": "a"}}) == Dependent("job", "a")
