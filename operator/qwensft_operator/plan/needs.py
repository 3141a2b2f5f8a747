"""The facts that a decision about a run needs, beyond the run itself and its child Jobs.

Stated here in one place, so that the runtime looks at these and no more: which runs need no look at all, what the store
may answer, what must be read live because it cannot be taken back, and when events can tell something. What only a
start needs is asked for by the policies that come to it (`Plan.look`), so that a run that waits costs no such read.
ADR 0049 says why. ADR 0095 says why. ADR 0190 says why.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from qwensft.api.v1alpha1 import Stage
from qwensft_operator.plan.estimate import memory_label
from qwensft_operator.plan.run import Run
from qwensft_operator.plan.source_run import awaited
from qwensft_operator.plan.startup import PATIENCE, STARTING
from qwensft_operator.plan.times import has_lasted, parse_time
from qwensft_operator.plan.types import ChildJob, JobState
from qwensft_operator.plan.volumes import mounts

SCRAPED = frozenset({Stage.TRAIN, Stage.MERGE})
"""Stages whose first pod tells figures while it runs."""

_FIRST_PODS = timedelta(seconds=10)  # in which every Job lacks pods
_ENDED = (JobState.COMPLETE, JobState.FAILED)


@dataclass(frozen=True, slots=True)
class Needs:
    """What is to be known for one decision. Nothing of a run that has ended."""

    lost_job: str | None = None  # name of a Job that the status names and nobody knows: live, before it counts as lost
    claims: tuple[str, ...] = ()  # names, in the order of the spec
    new_claim: str | None = None  # of them the one that the run makes at its beginning
    starts: bool = False  # a Job may be made: live, of what no watch tells
    node_label: str | None = None  # of the nodes whose labels hold their accelerators' memory
    pods: ChildJob | None = None  # the child Job whose pods
    last_words: bool = False  # it has ended, and its pods' words are recorded now or never: live
    figures: ChildJob | None = None  # the Job whose first pod is scraped
    queue: ChildJob | None = None  # the Job that a queue may hold
    source_run: str | None = None  # name of the run whose model this one waits for
    leftovers: bool = False  # what watches tell of others under the run's name: an attempt may start, or wait for them


def needs_of(run: Run) -> Needs:
    """Return what a decision about the run needs; `run` holds the job and its child Jobs, and may hold no more."""
    stage, child = run.current_stage, run.current_child
    if stage is None:
        return Needs()
    up = child is not None and run.is_up(child) and not run.is_through(child)
    record = run.record(stage)
    # A running attempt whose end was noted has either gone on after a hold, or ends although it does not seem to.
    ending = child is not None and record.failed_attempt == child.attempt
    # Of a gang that was held, some pods may have ended before, and are not made anew.
    ending = ending or (child is not None and 0 < child.succeeded < run.pods_of(stage))
    pods = None if up and not ending else _pods(run)
    named = record.job_name
    source = awaited(run)  # as long as there is one, nothing is made that would need more
    held = child is not None and child.suspended and child.state is JobState.RUNNING
    idle = child is None and run.job.spec.run_policy.suspend
    return Needs(
        lost_job=named if child is None else None,
        starts=child is None,
        new_claim=run.job.workspace_claim if _makes_claim(run) else None,
        claims=() if up or held or idle or source else tuple(dict.fromkeys(mount.claim for mount in mounts(run))),
        node_label=_node_label(run, stage),
        pods=pods,
        last_words=pods is not None and pods.state in _ENDED,
        figures=child if up and stage in SCRAPED else None,
        queue=child if held else None,
        source_run=source,
        leftovers=source is None and _may_start(run),
    )


def is_over(manifest: dict[str, Any]) -> bool:
    """Whether nothing is to be decided about a QwenSFTJob before its spec changes or a Job of it turns out to run.

    A run that is over has looked at its spec: an edit that asks for another merge or a retry is a new generation. One
    whose child Jobs are to be removed after a time is not over before that.
    """
    meta, status = manifest["metadata"], manifest.get("status") or {}
    policy = (manifest.get("spec") or {}).get("runPolicy") or {}
    ended = bool(status.get("completionTime")) and "deletionTimestamp" not in meta
    seen = status.get("observedGeneration") == meta.get("generation")
    return ended and seen and policy.get("ttlSecondsAfterFinished") is None


def is_active(job: dict[str, Any]) -> bool:
    """Whether a batch/v1 Job may still have pods: Kubernetes calls it complete or failed once all have ended."""
    conditions = (job.get("status") or {}).get("conditions") or ()
    return not any(c.get("type") in ("Complete", "Failed") and c.get("status") == "True" for c in conditions)


def needs_events(manifest: dict[str, Any], now: datetime) -> bool:
    """Whether only a pod's events can tell what it waits for: it has a node, but its containers are not created.

    What they tell counts only when it lasts, so a young pod is not asked about.
    """
    status = manifest.get("status") or {}
    waiting = [(c.get("state") or {}).get("waiting") for c in status.get("containerStatuses") or ()]
    creating = all(w is not None and w.get("reason", "") in STARTING for w in waiting)
    placed = bool((manifest.get("spec") or {}).get("nodeName"))
    return placed and status.get("phase", "Pending") == "Pending" and creating and _lasts(manifest, now)


def claim_needs_events(manifest: dict[str, Any], now: datetime) -> bool:
    """Whether only a claim's events can tell why it has no volume."""
    return (manifest.get("status") or {}).get("phase", "Pending") == "Pending" and _lasts(manifest, now)


def job_needs_events(run: Run, child: ChildJob, pods: int, now: datetime) -> bool:
    """Whether only a Job's events can tell why it lacks pods: a quota or Pod Security denial stands nowhere else."""
    runs = child.state is JobState.RUNNING and not child.deleting and not child.suspended
    return runs and pods < run.pods_of(child.stage) and has_lasted(child.created_at, _FIRST_PODS, now)


def _lasts(manifest: dict[str, Any], now: datetime) -> bool:
    created = parse_time(manifest["metadata"].get("creationTimestamp"))
    return created is None or has_lasted(created, PATIENCE, now)


def _makes_claim(run: Run) -> bool:
    return run.job.spec.storage.volume.claim_template is not None and not run.status.has_begun


def _may_start(run: Run) -> bool:
    """Whether this pass may start an attempt; that of the next stage follows in the pass that sees one complete."""
    child = run.current_child
    return not run.job.spec.run_policy.suspend and (child is None or child.state is JobState.COMPLETE)


def _node_label(run: Run, stage: Stage) -> str | None:
    """None where the spec gives the memory, where there are no accelerators, or where the estimate is made already."""
    accelerator = run.job.spec.worker.accelerator
    unknown = accelerator.count > 0 and accelerator.memory is None and stage is Stage.PREPARE
    return memory_label(accelerator.resource) if unknown else None


def _pods(run: Run) -> ChildJob | None:
    """A child that ended unrecorded, or one that is not fully ready; before it exists: an earlier one in its way."""
    return run.current_child or next(iter(run.active_children()), None)
