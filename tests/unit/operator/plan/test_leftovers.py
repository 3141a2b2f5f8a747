"""Nothing starts beside pods of another attempt, or of an earlier run of the name, whatever somebody took off them."""

from dataclasses import replace
from typing import Any

import pytest

from qwensft.api.v1alpha1 import StageStatus
from qwensft.api.v1alpha1.status import Stages
from qwensft_operator.plan import Observed, Plan
from qwensft_operator.plan.leftovers import job_names, leftovers, unread_jobs
from qwensft_operator.plan.run import Run
from qwensft_operator.plan.types import ClaimView, JobState, Leftover, Look, PodView

from .builders import NOW, PREPARE, RUNNING, TRAIN, UID, child, later, look, new_run, pod, scene

Manifest = dict[str, Any]
OLD = "99999999-old"
FAILED = {"conditions": [{"type": "Failed", "status": "True"}]}
LOST = scene(TRAIN, None)  # the Job that the status names is not there
DONE = StageStatus(attempt=1, completion_time=NOW)
BACKING_OFF = Stages(prepare=DONE, train=StageStatus(attempt=2, retry_time=later(seconds=9), consecutive_failures=1))


def owner(kind: str, name: str, uid: str) -> list[Manifest]:
    return [{"kind": kind, "name": name, "uid": uid, "controller": True}]


def a_job(name: str = "support-train-1", *, run: str | None = UID, label: str | None = UID, **more: Any) -> Manifest:
    """A Job of the run; `run`: the UID of its owner, `label`: the one that it carries."""
    labels = {"qwensft.io/job": "support", "qwensft.io/stage": "train", "qwensft.io/attempt": "1"}
    if label is not None:
        labels["qwensft.io/job-uid"] = label
    meta: Manifest = {"name": name, "uid": f"uid-{name}", "labels": labels, "creationTimestamp": "2026-01-02T11:00:00Z"}
    if run is not None:
        meta["ownerReferences"] = owner("QwenSFTJob", "support", run)
    return {"metadata": meta | more.pop("metadata", {}), **more}


def a_pod(
    job: str = "support-train-1", *, of: str | None = "", label: str | None = UID, name: str = "", **meta: Any
) -> Manifest:
    """Metadata of a pod; `of`: the UID of its Job, None without an owner; `label`: the run's UID that it carries."""
    labels = {"qwensft.io/job": "support", "batch.kubernetes.io/job-name": job}
    if label is not None:
        labels["qwensft.io/job-uid"] = label
    made: Manifest = {"name": name or f"{job}-0-abcde", "uid": f"uid-{name or job}-pod", "labels": labels} | meta
    if of is not None:
        made["ownerReferences"] = owner("Job", job, of or f"uid-{job}")
    return {"metadata": made}


def found(
    observed: Observed,
    pods: tuple[Manifest, ...] = (),
    jobs: tuple[Manifest, ...] = (),
    views: dict[str, PodView] | None = None,
) -> Observed:
    """The observation with what was read of leftovers."""
    return replace(observed, leftovers=leftovers(Run(observed), pods, jobs, views or {}))


def test_pods_of_a_job_that_was_deleted_are_waited_for_and_then_it_counts() -> None:
    seen = look(found(LOST, (a_pod(),)))
    assert (seen.actions, seen.headline) == ([], ("Training", "WaitingForPreviousAttempt"))
    assert seen.message == "waiting for pod support-train-1-0-abcde to end"
    assert (seen.plan.requeue_after, seen.stage(TRAIN).restarts, seen.stage(TRAIN).attempt) == (15, None, 1)
    over = look(seen.then(leftovers=()))
    assert (over.headline[1], over.stage(TRAIN).restarts, over.stage(TRAIN).attempt) == ("JobDeleted", 1, 2)


@pytest.mark.parametrize("made_by", ["job-uid", None], ids=["with the run's UID", "by an earlier version"])
def test_pods_without_an_owner_are_told_with_the_command_that_ends_them(made_by: str | None) -> None:
    seen = look(found(LOST, (a_pod(of=None, label=UID if made_by else None),)))
    assert (seen.actions, seen.headline) == ([], ("Training", "WaitingForPreviousAttempt"))
    assert seen.message == (
        "pod support-train-1-0-abcde, which nobody looks after any more, may still write to the volume; "
        "the next attempt starts when it is over. To end it now: "
        "kubectl delete pods -n team -l 'batch.kubernetes.io/job-name in (support-train-1)'"
    )
    assert seen.plan.events[0].type == "Warning"


def test_pods_without_the_label_of_their_job_are_named_in_the_command() -> None:
    bare = a_pod(of=None)
    del bare["metadata"]["labels"]["batch.kubernetes.io/job-name"]
    assert look(found(LOST, (bare,))).message.endswith(": kubectl delete pods -n team support-train-1-0-abcde")


def test_a_job_that_lost_its_owner_is_ended_by_one_command_with_its_pods() -> None:
    seen = look(found(LOST, (a_pod(),), (a_job(run=None),)))
    assert seen.headline == ("Training", "WaitingForPreviousAttempt")
    assert seen.message.endswith(". To end it now: kubectl delete jobs -n team support-train-1")


def test_a_job_that_lost_its_labels_is_told_with_the_labels_and_goes_on_once_it_has_them() -> None:
    bare = a_job(metadata={"labels": {}})
    seen = look(found(LOST, (a_pod(),), (bare,)))
    assert seen.actions == []
    assert seen.message.endswith(
        "kubectl label job support-train-1 -n team --overwrite "
        "qwensft.io/job=support qwensft.io/stage=train qwensft.io/attempt=1"
    )
    again = look(seen.then(children=(child(TRAIN),), leftovers=None))
    assert (again.headline, again.stage(TRAIN).attempt) == (("Training", "Running"), 1)


def test_nothing_is_prepared_beside_pods_of_an_earlier_run_that_still_stop() -> None:
    seen = look(found(new_run(), (a_pod(label=OLD, deletionTimestamp="2026-01-02T12:05:00Z"),)))
    assert (seen.actions, seen.headline) == ([], ("Pending", "WaitingForPreviousRun"))
    assert seen.message == "waiting for pod support-train-1-0-abcde of an earlier QwenSFTJob support to end"
    assert seen.plan.events[0].type == "Normal"


def test_jobs_and_pods_that_an_earlier_run_left_to_themselves_are_told_with_one_command() -> None:
    pods = (a_pod(label=OLD), a_pod(label=OLD, name="support-train-1-1-xyzzy"))
    seen = look(found(new_run(), pods, (a_job(run=None, label=OLD),)))
    assert (seen.actions, seen.headline) == ([], ("Pending", "NameConflict"))
    assert "Job support-train-1, pod support-train-1-0-abcde, pod support-train-1-1-xyzzy of an earlier" in seen.message
    assert seen.message.endswith(
        "kubectl delete jobs,configmaps,services,networkpolicies,pods -n team "
        f"-l 'qwensft.io/job=support,qwensft.io/job-uid!={UID}'"
    )


def test_what_earlier_versions_made_for_an_earlier_run_is_told_in_the_same_way() -> None:
    seen = look(found(new_run(), (a_pod(label=None),), (a_job(run=None, label=None),)))
    assert (seen.actions, seen.headline) == ([], ("Pending", "NameConflict"))


@pytest.mark.parametrize(
    "job",
    [a_job(run=OLD, label=OLD), a_job(run=None, label=OLD, metadata={"deletionTimestamp": "2026-01-02T12:00:00Z"})],
    ids=["its owner is gone", "it is being deleted"],
)
def test_a_job_of_an_earlier_run_that_goes_by_itself_is_waited_for(job: Manifest) -> None:
    seen = look(found(new_run(), (), (job,)))
    assert (seen.actions, seen.headline) == ([], ("Pending", "WaitingForPreviousRun"))


def test_an_ended_job_of_an_earlier_run_is_in_the_way_of_the_first_attempt_alone() -> None:
    ended = a_job(run=None, label=OLD, status=FAILED)
    assert look(found(new_run(), (), (ended,))).headline == ("Pending", "NameConflict")
    assert look(found(scene(TRAIN, None, recorded=False), (), (ended,))).actions[-1] == "CreateJob train-1"


def test_pods_of_a_child_that_stops_are_left_to_the_wait_for_it() -> None:
    stopping = replace(scene(TRAIN, None, attempt=2, recorded=False), children=(child(TRAIN, RUNNING, deleting=True),))
    job = a_job(metadata={"uid": "uid-support-train-1"})
    seen = look(found(stopping, (a_pod(),), (job,)))
    assert seen.message == "waiting for the pods of support-train-1 to stop"


def test_an_earlier_attempt_is_stopped_also_while_something_else_is_waited_for() -> None:
    both = replace(scene(TRAIN, None, attempt=2, recorded=False), children=(child(TRAIN, RUNNING),))
    seen = look(found(both, (a_pod("support-prepare-1", of=None),)))
    assert seen.actions == ["DeleteJob support-train-1"]


def test_before_an_attempt_starts_or_is_given_up_it_is_looked_for_them() -> None:
    asked = Plan(look=Look(leftovers=True))
    assert look(replace(scene(TRAIN, None, recorded=False), leftovers=None)).plan == asked
    assert look(replace(LOST, leftovers=None)).plan == asked
    assert look(replace(scene(PREPARE, JobState.COMPLETE), leftovers=None)).plan == asked


@pytest.mark.parametrize(
    "waits",
    [
        scene(TRAIN, None, recorded=False, observed={"claims": (ClaimView("support-workspace", "Lost"),)}),
        scene(PREPARE, None, recorded=False, observed={"named_config_maps": {}}),
        scene(TRAIN, None, attempt=2, recorded=False, status={"stages": BACKING_OFF}),
        scene(TRAIN, None, recorded=False, suspend=True),
        scene(TRAIN, child_fields={"suspended": True, "ready": 0}),
    ],
    ids=["for a claim", "for a ConfigMap", "for the next attempt", "for its user", "in a queue"],
)
def test_a_run_that_waits_for_something_else_looks_for_none(waits: Observed) -> None:
    seen = look(replace(waits, leftovers=None))
    assert seen.plan.look is None
    assert seen.headline[1] != "PodsStarting"


def test_a_wait_for_them_goes_on_by_what_watches_tell() -> None:
    pods = (a_pod(label=OLD, deletionTimestamp="2026-01-02T12:05:00Z"),)
    known = found(new_run(), pods).leftovers or ()
    unread: dict[str, Any] = {"leftovers": None, "known_leftovers": known}
    assert look(replace(new_run(), **unread)).plan.look == Look(leftovers=True), "what is new is read live"
    waiting = look(found(new_run(), pods)).then(**unread)
    again = look(waiting)
    assert (again.plan.look, again.plan.status, again.plan.requeue_after) == (None, None, 15)
    assert look(replace(waiting, known_leftovers=())).plan.look == Look(leftovers=True)
    other = found(new_run(), (a_pod(label=OLD, of=None),)).leftovers or ()
    assert look(replace(waiting, known_leftovers=other)).plan.look == Look(leftovers=True), "other words"


def test_a_pod_that_cannot_end_is_told_with_its_lost_node() -> None:
    name = "support-train-1-0-abcde"
    view = pod(name=name, node="gone", deleted_at=NOW)
    observed = found(LOST, (a_pod(deletionTimestamp="2026-01-02T12:00:00Z"),), views={name: view})
    assert look(observed).headline == ("Training", "WaitingForPreviousAttempt")
    assert look(observed, later(minutes=1)).headline == ("Training", "PodNotStopping")
    lost = replace(view, unreachable=True)
    observed = found(LOST, (a_pod(deletionTimestamp="2026-01-02T12:00:00Z"),), views={name: lost})
    seen = look(observed, later(minutes=1))
    assert seen.headline == ("Training", "NodeLost")
    assert seen.message.startswith(f"waiting for pod {name} to end; pod {name} on node gone was told to stop")
    assert "kubectl delete node gone" in seen.message


def test_a_child_that_was_created_since_the_jobs_were_read_is_no_stranger() -> None:
    (leftover,) = leftovers(Run(scene(TRAIN, None, recorded=False)), (a_pod(),), (a_job(),), {})
    assert leftover.stopping


def test_a_large_gang_is_told_in_few_words() -> None:
    pods = tuple(a_pod(name=f"support-train-1-{n}-x", of=None) for n in range(256))
    seen = look(found(LOST, pods))
    assert "support-train-1-2-x and 253 more" in seen.message
    assert len(seen.message) < 500


def test_the_jobs_that_tell_what_becomes_of_pods_are_read_by_name() -> None:
    run = Run(LOST)
    pods = (a_pod("support-train-3", of="other"), a_pod("support-prepare-2", of=None))
    assert unread_jobs(run, pods, ()) == ("support-train-1", "support-train-3")
    assert unread_jobs(run, pods, (a_job("support-train-3", metadata={"uid": "other"}),)) == ("support-train-1",)
    assert unread_jobs(Run(scene(PREPARE, JobState.COMPLETE)), (), ()) == ()


def test_pods_are_looked_for_by_the_jobs_of_both_this_and_an_earlier_run() -> None:
    names = job_names(Run(new_run()))
    assert len(names) == 48
    assert {"support-prepare-1", "support-train-16", "support-merge-16"} <= set(names)
    later_on = job_names(Run(scene(TRAIN, None, attempt=40, recorded=False)))
    assert {"support-train-40", "support-train-25", "support-merge-1"} <= set(later_on)
    assert "support-train-24" not in later_on


def test_the_kept_claim_is_never_named_in_a_command() -> None:
    orphan = Leftover("Job", "support-train-1", own=False)
    message = look(replace(new_run(), leftovers=(orphan,))).message
    assert "pvc" not in message
    assert "claim" not in message
