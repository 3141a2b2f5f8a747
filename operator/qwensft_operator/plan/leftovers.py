"""What is left of other attempts, or of an earlier run of this name, and has not ended: nothing starts beside it.

Recognised by owner, never by name or label alone: somebody may have deleted a Job without its pods, a run without its
Jobs, or taken off labels and owners. Reading all this is the runtime's work, when a policy asks for it: right before an
attempt starts or is given up. A wait that has been told goes on by what watches tell.
ADR 0098 says why. ADR 0190 says why.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from qwensft.api.v1alpha1 import (
    KIND,
    LABEL_ATTEMPT,
    LABEL_JOB,
    LABEL_JOB_UID,
    LABEL_STAGE,
    ConditionType,
    Reason,
    Stage,
)
from qwensft_operator.plan.lost_nodes import lost_node
from qwensft_operator.plan.run import Run
from qwensft_operator.plan.step import LOOK_AGAIN, Step, deletions, held_phase
from qwensft_operator.plan.text import clean
from qwensft_operator.plan.types import JobState, Leftover, PodView
from qwensft_operator.plan.views import child_job, is_owned, job_state

LABEL_JOB_NAME = "batch.kubernetes.io/job-name"
_NUMBERS = 16  # attempts of a stage: those before them have been seen to have ended when a later one began
_MOST_NAMED = 3
_OVER = frozenset({JobState.COMPLETE, JobState.FAILED})

Manifest = dict[str, Any]


def job_names(run: Run) -> tuple[str, ...]:
    """Return names of Jobs whose pods may still be there: also those of an earlier run, whose numbers nobody knows."""
    last = {stage: max(run.record(stage).attempt or 1, _NUMBERS) for stage in Stage}
    return tuple(run.child_name(s, n) for s in Stage for n in range(last[s], last[s] - _NUMBERS, -1))


def unread_jobs(run: Run, pods: Iterable[Manifest], jobs: Iterable[Manifest]) -> tuple[str, ...]:
    """Return the names of Jobs, not among those given, by which it shows what becomes of the pods, or of the run."""
    known, stage = {job["metadata"]["uid"] for job in jobs}, run.current_stage
    owners = (_controller(pod) for pod in pods)
    names = {owner["name"] for owner in owners if owner["kind"] == "Job" and owner["uid"] not in known}
    lost = run.record(stage).job_name if stage is not None and run.current_child is None else None
    return tuple(sorted(names | {lost} if lost else names))


def leftovers(
    run: Run, pods: Iterable[Manifest], jobs: Iterable[Manifest], views: Mapping[str, PodView]
) -> tuple[Leftover, ...]:
    """Reduce what was found under the run's name to what stands in the way of its next attempt.

    Args:
        run: the run.
        pods: metadata of pods that have not ended.
        jobs: Jobs with the run's name on their label, and those that `unread_jobs` has named.
        views: by name, pods that were read as a whole, to tell of a lost node.
    """
    by_uid = {job["metadata"]["uid"]: _job(run, job) for job in jobs}
    active = {child.uid for child in run.active_children()}  # their pods are stopped with them
    ended = {job["metadata"]["uid"] for job in jobs if job_state(job.get("status") or {})[0] in _OVER}
    in_the_way = [
        found
        for uid, found in by_uid.items()
        # A Job that has ended makes no pods; one of an earlier run would be a conflict of names, maybe hours later.
        if found is not None and (uid not in ended or not (found.own or run.status.has_begun))
    ]
    for pod in pods:
        owner = _controller(pod)
        if owner["uid"] not in active:
            in_the_way.append(_pod(run, pod, owner, by_uid, views.get(pod["metadata"]["name"])))
    return tuple(in_the_way)


def leftovers_alive(run: Run, now: datetime) -> Step | None:
    """Wait until nothing of another attempt, or of an earlier run of this name, can write to the volume any more."""
    if run.current_stage is None or run.current_child is not None:
        return None
    if run.observed.leftovers is not None:
        return _waiting(run, run.observed.leftovers, now)
    # Watches may be late, and do not tell of all: what is said for the first time, or in other words, is read live.
    step, said = _waiting(run, run.observed.known_leftovers, now), run.status.condition(ConditionType.SUCCEEDED)
    told = step is not None and said is not None and (said.reason, said.message) == (step.reason, clean(step.message))
    return step if told else None


def _waiting(run: Run, found: tuple[Leftover, ...], now: datetime) -> Step | None:
    if not found:
        return None
    reason, message, stuck = _told(run, found)
    lost = lost_node(None, tuple(leftover.view for leftover in found if leftover.view is not None), now)
    return Step(
        held_phase(run),
        lost.reason if lost else reason,
        f"{message}; {lost.message}" if lost else message,
        run.status,
        deletions(run.active_children()),
        warning=stuck or lost is not None,
        requeue_after=LOOK_AGAIN,
    )


def removal(job: str, namespace: str, uid: str) -> str:
    """Return the command that removes all that earlier runs of a name have left, but not the claim with the models."""
    selector = f"{LABEL_JOB}={job},{LABEL_JOB_UID}!={uid}"
    return f"kubectl delete jobs,configmaps,services,networkpolicies,pods -n {namespace} -l '{selector}'"


def _job(run: Run, manifest: Manifest) -> Leftover | None:
    """Return what a Job is to the run; None for its own, which are children and looked after as such."""
    meta = manifest["metadata"]
    uid, labels = run.job.metadata.uid, meta.get("labels") or {}
    labelled = labels.get(LABEL_JOB) == run.job.metadata.name
    if labelled and child_job(manifest, uid) is not None:
        return None
    owners = meta.get("ownerReferences") or ()
    ours = is_owned(manifest, uid)
    # Owned by a run that is gone or going: garbage collection follows.
    others = not ours and any(owner["kind"] == KIND for owner in owners)
    going = "deletionTimestamp" in meta or others
    own = ours or (not others and labels.get(LABEL_JOB_UID, uid) == uid and run.status.has_begun)
    return Leftover("Job", meta["name"], own, stopping=going, labelled=labelled, hidden=ours and not going)


def _pod(
    run: Run, manifest: Manifest, owner: Manifest, jobs: Mapping[str, Leftover | None], view: PodView | None
) -> Leftover:
    meta = manifest["metadata"]
    labels = meta.get("labels") or {}
    job = jobs.get(owner["uid"])
    # A Job that is gone takes the pods with it that still name it as their owner; a child is looked after.
    going = "deletionTimestamp" in meta or (bool(owner["uid"]) and job is None)
    own = job.own if job is not None else run.status.has_begun
    if LABEL_JOB_UID in labels:
        own = labels[LABEL_JOB_UID] == run.job.metadata.uid
    return Leftover(
        "pod",
        meta["name"],
        own,
        stopping=going or (job is not None and job.stopping),
        labelled=labels.get(LABEL_JOB) == run.job.metadata.name,
        hidden=job is not None and job.hidden,
        job=labels.get(LABEL_JOB_NAME, ""),
        view=view,
    )


def _controller(manifest: Manifest) -> Manifest:
    owners = manifest["metadata"].get("ownerReferences") or ()
    nobody = {"kind": "", "name": "", "uid": ""}
    return next((owner for owner in owners if owner.get("controller")), nobody)


def _told(run: Run, found: tuple[Leftover, ...]) -> tuple[Reason, str, bool]:
    """Return reason and sentence, and whether somebody has to do something."""
    name, namespace = run.job.metadata.name, run.job.metadata.namespace
    then = "the next attempt starts" if run.status.has_begun else "the run starts"
    hidden = next((leftover for leftover in found if leftover.hidden and leftover.kind == "Job"), None)
    stuck = tuple(leftover for leftover in found if not leftover.stopping)
    earlier = any(not leftover.own for leftover in stuck or found)
    if hidden is not None:
        stage, _, number = hidden.name.removeprefix(f"{name}-").rpartition("-")
        labels = f"{LABEL_JOB}={name} {LABEL_STAGE}={stage} {LABEL_ATTEMPT}={number}"
        fix = f"kubectl label job {hidden.name} -n {namespace} --overwrite {labels}"
        message = f"Job {hidden.name} lacks labels of this run, so that nobody follows it; put them back: {fix}"
        return Reason.WAITING_FOR_PREVIOUS_ATTEMPT, message, True
    if not stuck:
        if earlier:
            message = f"waiting for {_named(found)} of an earlier {KIND} {name} to end"
            return Reason.WAITING_FOR_PREVIOUS_RUN, message, False
        return Reason.WAITING_FOR_PREVIOUS_ATTEMPT, f"waiting for {_named(found)} to end", False
    if earlier:
        fix = (
            removal(name, namespace, run.job.metadata.uid)
            if any(leftover.labelled for leftover in stuck)
            else _deletion(stuck, namespace)
        )
        message = (
            f"{_named(stuck)} of an earlier {KIND} {name}, which was deleted without them, would stand beside this run"
        )
        return Reason.NAME_CONFLICT, f"{message}; remove all that it left: {fix}", True
    message = (
        f"{_named(stuck)}, which nobody looks after any more, may still write to the volume; {then} when it is over"
    )
    return Reason.WAITING_FOR_PREVIOUS_ATTEMPT, f"{message}. To end it now: {_deletion(stuck, namespace)}", True


def _named(found: tuple[Leftover, ...]) -> str:
    named = ", ".join(f"{leftover.kind} {leftover.name}" for leftover in found[:_MOST_NAMED])
    more = len(found) - _MOST_NAMED
    return f"{named} and {more} more" if more > 0 else named


def _deletion(stuck: tuple[Leftover, ...], namespace: str) -> str:
    """Return the command that ends what nobody looks after; a Job takes its pods with it."""
    jobs = [leftover.name for leftover in stuck if leftover.kind == "Job"]
    if jobs:
        return f"kubectl delete jobs -n {namespace} {' '.join(jobs)}"
    made_for = sorted({leftover.job for leftover in stuck})
    if all(made_for):
        return f"kubectl delete pods -n {namespace} -l '{LABEL_JOB_NAME} in ({','.join(made_for)})'"
    return f"kubectl delete pods -n {namespace} {' '.join(leftover.name for leftover in stuck)}"
