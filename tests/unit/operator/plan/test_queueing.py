"""A child Job that a queue holds: told, waited for, and neither a failure nor time that counts."""

from dataclasses import replace
from typing import Any

import pytest

from qwensft.api.v1alpha1 import Stage
from qwensft_operator.plan import needs_of
from qwensft_operator.plan.run import Run
from qwensft_operator.plan.types import PodView, QueuePlace

from .builders import FAILED, FAILING, PREPARE, TRAIN, Seen, child, failed, interrupted, later, look, pod, scene

HELD: dict[str, Any] = {"suspended": True, "ready": 0, "active": 0}
SHORT: dict[str, Any] = {"runPolicy": {"activeDeadlineSeconds": 7200}}  # scenes began an hour ago


def held(stage: Stage = TRAIN, **fields: Any) -> Seen:
    return look(scene(stage, child_fields=HELD, **fields))


@pytest.mark.parametrize("stage", list(Stage))
def test_a_held_child_is_told_with_who_may_hold_it_and_how_it_goes_on(stage: Stage) -> None:
    seen = held(stage)
    assert (seen.headline, seen.actions) == (("Suspended", "Queued"), [])
    assert (seen.condition("Suspended").status, seen.events) == ("True", [("Normal", "Queued")])
    for words in (f"Job support-{stage}-1 is held", "Kueue", "policy", "person", "kubectl get workloads -n team"):
        assert words in seen.message
    assert seen.plan.requeue_after == 60, "no watch tells of the place that it has in a queue"


@pytest.mark.parametrize(
    ("place", "words"),
    [
        (
            QueuePlace("job-support-1", "insufficient unused quota for nvidia.com/gpu, 8 more needed.", 3),
            "Job support-train-1 waits in the queue gpus, position 3: insufficient unused quota for nvidia.com/gpu, 8 "
            "more needed. The same attempt goes on, uncounted, when it is admitted (kubectl describe workload "
            "job-support-1 -n team)",
        ),
        (
            QueuePlace("job-support-1", "8 more needed", evicted="Preempted for a workload"),
            "waits in the queue gpus: 8 more needed. It had been admitted: Preempted for a workload. The same attempt",
        ),
        (QueuePlace("job-support-1"), "waits in the queue gpus. The same attempt"),
        (
            QueuePlace("job-support-1", admitted=True),
            "Job support-train-1 is admitted to the queue gpus, which is about to release it. If that lasts, something "
            "refuses Kueue the change of the Job",
        ),
        (None, "is there a LocalQueue gpus (kubectl get localqueues -n team)"),
    ],
    ids=["told", "evicted", "not told", "admitted", "not taken up"],
)
def test_a_queue_is_told_with_the_place_in_it_and_what_it_waits_for(place: QueuePlace | None, words: str) -> None:
    seen = look(scene(TRAIN, child_fields=HELD | {"queue": "gpus"}, observed={"queue_place": place}))
    assert seen.headline == ("Suspended", "Queued")
    assert words in seen.message
    assert "patch" not in seen.message, "the queue would hold it again"


@pytest.mark.parametrize(
    ("fields", "place", "words"),
    [
        (
            {},
            QueuePlace("job-support-1", "LocalQueue gpus doesn't exist", inadmissible=True),
            "Job support-train-1 waits in the queue gpus, which admits nothing: LocalQueue gpus doesn't exist. It is "
            "admitted, uncounted, when that is mended. Or name another queue in spec.runPolicy.queueName (kubectl get "
            "localqueues -n team)",
        ),
        (
            {},
            QueuePlace("job-support-1", "The workload is deactivated", inactive=True),
            "Job support-train-1 is taken out of its queue: The workload is deactivated. It waits there again, "
            "uncounted, after kubectl patch workload job-support-1 -n team --type merge -p "
            """'{"spec":{"active":true}}'""",
        ),
        (
            {},
            QueuePlace(
                "job-support-1", "invalid podset infos: conflict for nodeSelector", admitted=True, given_up=True
            ),
            "Job support-train-1 was admitted to the queue gpus, and Kueue has given up releasing it: invalid podset "
            "infos: conflict for nodeSelector. Once that is mended, set spec.runPolicy.suspend to true and then to "
            "false: the Job is made anew, uncounted, and waits again. Or name another queue",
        ),
        (
            {"managed_by": "kueue.x-k8s.io/multikueue"},
            QueuePlace("job-support-1", "The workload has not all checks ready"),
            "handed to MultiKueue (its spec.managedBy): the training would run in another cluster, where this run's "
            "volume is not. To train here, name another queue in spec.runPolicy.queueName",
        ),
        ({"managed_by": "kueue.x-k8s.io/multikueue", "suspended": False}, None, "handed to MultiKueue"),
    ],
    ids=["no such queue", "deactivated", "given up", "other cluster", "sent to another cluster"],
)
def test_what_no_quota_helps_is_told_as_a_warning_with_the_way_out(
    fields: dict[str, Any], place: QueuePlace | None, words: str
) -> None:
    held_in = HELD | {"queue": "gpus"} | fields
    seen = look(scene(TRAIN, child_fields=held_in, observed={"queue_place": place}))
    assert (seen.headline, seen.events) == (("Suspended", "QueueUnavailable"), [("Warning", "QueueUnavailable")])
    assert words in seen.message
    assert seen.stage(TRAIN).restarts is None


def test_a_job_that_kueue_has_given_up_is_made_anew_uncounted_when_its_user_holds_and_resumes_the_run() -> None:
    place = QueuePlace("job-support-1", "conflict for nodeSelector", given_up=True)
    seen = look(scene(TRAIN, child_fields=HELD | {"queue": "gpus"}, observed={"queue_place": place}))
    held_by_user = scene(TRAIN, child_fields=HELD, runPolicy={"suspend": True}, observed={"queue_place": place})
    suspended = look(held_by_user)
    assert (suspended.stage(TRAIN).attempt, suspended.stage(TRAIN).restarts) == (2, None)
    assert "DeleteJob support-train-1" in look(suspended.then()).actions
    assert seen.stage(TRAIN).attempt == 1


def test_a_class_is_asked_after_where_kueue_has_not_taken_the_job_up() -> None:
    fields = HELD | {"queue": "gpus", "queue_class": "night"}
    seen = look(scene(TRAIN, child_fields=fields))
    assert ", a WorkloadPriorityClass night (kubectl get workloadpriorityclasses), and does" in seen.message
    assert seen.plan.requeue_after == 15, "Kueue takes a moment"


def test_only_a_held_job_is_looked_for_in_queues() -> None:
    assert needs_of(Run(scene(TRAIN))).queue is None
    queued = needs_of(Run(scene(TRAIN, child_fields=HELD))).queue
    assert queued is not None
    assert queued.name == "support-train-1"


def test_a_job_that_is_created_held_is_adopted_as_its_attempt() -> None:
    seen = held(recorded=False)
    assert (seen.stage(TRAIN).attempt, seen.stage(TRAIN).job_name) == (1, "support-train-1")


def test_the_same_attempt_goes_on_after_the_release() -> None:
    released = look(held().then(children=(child(TRAIN),)), later(hours=1))
    assert (released.headline, released.actions) == (("Training", "Running"), [])
    assert (released.stage(TRAIN).attempt, released.stage(TRAIN).restarts) == (1, None)


def test_the_time_in_the_queue_uses_up_no_deadline() -> None:
    waiting = look(held(**SHORT).then(), later(hours=9))
    assert waiting.headline == ("Suspended", "Queued")
    released = look(waiting.then(children=(child(TRAIN),)), later(hours=10))
    assert (released.headline, released.status.suspended_seconds) == (("Training", "Running"), 36_000)
    assert look(released.then(), later(hours=11)).headline == ("Failed", "DeadlineExceeded")


def test_pods_that_are_told_to_stop_by_a_queue_are_no_failure() -> None:
    stopping = (pod(0), failed(1, 143))
    seen = held(pods=stopping)
    assert seen.headline == ("Suspended", "Queued")
    assert seen.message.startswith("its pods stop; ")
    assert seen.plan.requeue_after == 15


@pytest.mark.parametrize(
    "stopping",
    [
        pod(1, deleted_at=later(minutes=1), scheduled_at=later(minutes=-30)),
        pod(1, deleted_at=later(), phase="Pending", node="", created_at=later(minutes=-30)),
        interrupted(1, deleted_at=later(), scheduled_at=later(minutes=-30)),
    ],
    ids=["running", "without a node", "ended"],
)
def test_pods_that_still_stop_after_a_quick_release_are_no_failure(stopping: PodView) -> None:
    released: dict[str, Any] = {"ready": 0, "started_at": later(seconds=-5)}
    seen = look(scene(TRAIN, pods=(stopping,), child_fields=released))
    assert seen.headline == ("Training", "PodsStarting")
    assert seen.stage(TRAIN).failed_attempt is None
    failed_later = look(seen.then(children=(child(TRAIN, FAILED, started_at=later(seconds=-5)),), pods=(stopping,)))
    assert failed_later.headline[1] == "TrainingFailed", "its cause is not in pods of before"


def test_a_pod_that_is_deleted_after_the_release_is_told() -> None:
    deleted = pod(1, deleted_at=later(minutes=1), scheduled_at=later(seconds=-2))
    seen = look(scene(TRAIN, pods=(pod(0), deleted), child_fields={"ready": 1, "started_at": later(seconds=-5)}))
    assert seen.headline[1] == "Interrupted"


def test_what_was_taken_for_a_failure_before_the_hold_was_known_is_forgotten() -> None:
    early = look(scene(TRAIN, pods=(pod(0, deleted_at=later(minutes=1)), pod(1)), child_fields={"ready": 1}))
    assert early.stage(TRAIN).failed_attempt == 1
    known = look(early.then(children=(child(TRAIN, **HELD),)))
    assert known.headline == ("Suspended", "Queued")
    record = known.stage(TRAIN)
    assert (record.failed_attempt, record.reason, record.message) == (None, None, None)


NEW_PODS = tuple(pod(i, scheduled_at=later(seconds=20)) for i in range(2))
SINCE: dict[str, Any] = {"started_at": later(seconds=10)}  # a release counts anew


def taken_for_an_end(stage: Stage = TRAIN, **record: Any) -> Seen:
    """Pods that a queue has stopped, seen before the hold of their Job was."""
    stopping = (pod(0, deleted_at=later(minutes=1), scheduled_at=later(minutes=-30)),)
    seen = look(scene(stage, pods=stopping, child_fields={"ready": 0}, **record))
    assert (seen.headline[1], seen.stage(stage).failed_attempt) == ("Interrupted", 1)
    return seen


@pytest.mark.parametrize("stage", list(Stage))
@pytest.mark.parametrize("ready", [0, 2])
def test_a_hold_that_nobody_saw_is_forgotten_when_the_pods_are_there_again(stage: Stage, ready: int) -> None:
    pods, fields = NEW_PODS[: 2 if stage is TRAIN else 1], {**SINCE, "ready": ready}
    released = look(taken_for_an_end(stage).then(children=(child(stage, **fields),), pods=pods), later(seconds=30))
    record = released.stage(stage)
    assert (record.failed_attempt, record.reason, record.message) == (None, None, None)
    ended = child(stage, FAILED, **SINCE, finished_at=later(minutes=5), message="Job has reached the backoff limit")
    gone = look(released.then(children=(ended,), pods=()), later(minutes=5))
    assert gone.headline[1] == {PREPARE: "PreparationFailed", TRAIN: "TrainingFailed"}.get(stage, "MergeFailed")
    assert gone.stage(stage).restarts == 1


@pytest.mark.parametrize(
    "left",
    [
        (),
        NEW_PODS[:1],
        (NEW_PODS[0], pod(1, deleted_at=later(minutes=1), scheduled_at=later(seconds=20))),
        (NEW_PODS[0], interrupted(1, scheduled_at=later(seconds=20))),
    ],
    ids=["none", "one", "one stops", "one has ended"],
)
def test_an_end_that_was_seen_is_kept_while_pods_are_missing(left: tuple[PodView, ...]) -> None:
    fields: dict[str, Any] = {**SINCE, "ready": len(left)}
    seen = look(taken_for_an_end().then(children=(child(TRAIN, **fields),), pods=left), later(seconds=30))
    assert (seen.stage(TRAIN).failed_attempt, seen.stage(TRAIN).reason) == (1, "Interrupted")


def test_pods_of_a_run_that_is_up_are_looked_at_once_more_when_an_end_was_noted() -> None:
    noted = taken_for_an_end().then(children=(child(TRAIN, **SINCE),))
    assert needs_of(Run(noted)).pods == child(TRAIN, **SINCE)
    released = look(replace(noted, pods=NEW_PODS), later(seconds=30)).then()
    assert needs_of(Run(released)).pods is None


def test_a_hold_leaves_alone_what_an_earlier_attempt_ended_of() -> None:
    observed = scene(TRAIN, attempt=2, child_fields=HELD)
    record = observed.job.status.stages.train
    assert record is not None
    stages = observed.job.status.stages.replace(train=record.replace(failed_attempt=1, reason="DiskFull"))
    status = observed.job.status.replace(stages=stages)
    seen = look(replace(observed, job=observed.job.replace(status=status)))
    assert (seen.stage(TRAIN).failed_attempt, seen.stage(TRAIN).reason) == (1, "DiskFull")


def test_a_pod_of_a_held_job_on_a_lost_node_is_told() -> None:
    seen = held(pods=(pod(1, unreachable=True),))
    assert seen.headline == ("Suspended", "NodeLost")
    assert "kubectl delete node node-1" in seen.message
    assert "is held" in seen.message


GATED = pod(0, phase="Pending", node="", gates=("kueue.x-k8s.io/topology",))


@pytest.mark.parametrize("stage", list(Stage))
def test_pods_that_are_all_gated_wait_in_a_queue(stage: Stage) -> None:
    seen = look(scene(stage, pods=(GATED,), child_fields={"ready": 0}))
    assert (seen.headline, seen.events) == (("Suspended", "Queued"), [("Normal", "Queued")])
    for words in ("kueue.x-k8s.io/topology", f"Job support-{stage}-1", "kubectl get workloads -n team"):
        assert words in seen.message


def test_the_time_behind_gates_uses_up_no_deadline() -> None:
    waiting = look(scene(TRAIN, pods=(GATED,), child_fields={"ready": 0}, **SHORT))
    later_on = look(waiting.then(), later(hours=9))
    assert later_on.headline == ("Suspended", "Queued")
    free = look(later_on.then(children=(child(TRAIN),), pods=()), later(hours=10))
    assert (free.headline, free.status.suspended_seconds) == (("Training", "Running"), 36_000)


def test_a_pod_that_is_gated_beside_others_is_named() -> None:
    seen = look(scene(TRAIN, pods=(pod(1), GATED), child_fields={"ready": 1}))
    assert seen.headline == ("Training", "Queued")
    assert "pod pod-0 (node rank 0) is held by its scheduling gates (kueue.x-k8s.io/topology)" in seen.message


def test_pods_that_are_gated_and_deleted_are_no_queue() -> None:
    going = replace(GATED, deleted_at=later(seconds=30))
    assert look(scene(TRAIN, pods=(going,), child_fields={"ready": 0})).headline[1] == "Interrupted"


@pytest.mark.parametrize("state", [FAILING, FAILED])
def test_an_attempt_that_failed_before_it_was_held_has_failed(state: Any) -> None:
    seen = look(scene(TRAIN, state, child_fields={"suspended": True}, pods=(failed(reason="DiskFull"),)))
    assert seen.headline[1] == "DiskFull"


def test_a_user_who_suspends_a_queued_run_gives_its_job_up() -> None:
    seen = held(suspend=True)
    assert (seen.headline, seen.stage(TRAIN).attempt) == (("Suspended", "Suspending"), 2)
    assert look(seen.then()).actions == ["DeleteJob support-train-1"]


def test_a_queued_job_that_is_deleted_is_on_its_way_out() -> None:
    assert look(scene(TRAIN, child_fields={**HELD, "deleting": True})).headline == ("Training", "JobDeleted")


def test_what_was_deleted_under_a_queued_job_is_there_when_it_is_released() -> None:
    seen = held(observed={"service_exists": False, "config_maps": frozenset()})
    assert seen.actions == ["EnsureService", "EnsureConfigMap train-1"]


def test_hours_in_a_queue_make_no_healthy_attempt() -> None:
    ended: dict[str, Any] = {"created_at": later(hours=-5), "started_at": later(seconds=-5), "finished_at": later()}
    observed = scene(PREPARE, FAILED, child_fields=ended)
    record = observed.job.status.stages.prepare
    assert record is not None
    stages = observed.job.status.stages.replace(prepare=record.replace(consecutive_failures=3))
    status = observed.job.status.replace(stages=stages)
    seen = look(replace(observed, job=observed.job.replace(status=status)))
    assert seen.stage(PREPARE).consecutive_failures == 4
