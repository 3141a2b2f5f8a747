"""Kubernetes objects, as the API returns them, reduced to what decisions need.

Pure parsing: raw JSON dicts in, the dataclasses of `types` out. Reading them is the runtime's work.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from qwensft.api.v1alpha1 import LABEL_ATTEMPT, LABEL_STAGE, QwenSFTJob
from qwensft.plan.run import Run
from qwensft.plan.types import ChildJob, JobState, Observed, PodView, Report, Stage

TRAINER_CONTAINER = "trainer"
LARGEST_NUMBER = 2**53  # the largest that JSON readers agree on


def child_job(manifest: dict[str, Any], owner_uid: str) -> ChildJob | None:
    """Reduce a batch/v1 Job; None when it belongs to another object or carries no attempt."""
    meta = manifest["metadata"]
    labels = meta.get("labels") or {}
    owned = any(owner.get("uid") == owner_uid for owner in meta.get("ownerReferences") or ())
    if not owned or labels.get(LABEL_STAGE) not in set(Stage) or not str(labels.get(LABEL_ATTEMPT, "")).isdigit():
        return None
    status = manifest.get("status") or {}
    state, condition = _job_state(status)
    return ChildJob(
        name=meta["name"],
        uid=meta["uid"],
        stage=Stage(labels[LABEL_STAGE]),
        attempt=int(labels[LABEL_ATTEMPT]),
        state=state,
        created_at=datetime.fromisoformat(meta["creationTimestamp"]),
        finished_at=_time(condition.get("lastTransitionTime")),
        active=status.get("active") or 0,
        ready=status.get("ready") or 0,
        # Between two updates of its status Kubernetes keeps ended pods in a list before it counts them.
        succeeded=(status.get("succeeded") or 0)
        + len((status.get("uncountedTerminatedPods") or {}).get("succeeded") or ()),
        deleting="deletionTimestamp" in meta,
        reason=condition.get("reason", ""),
        message=condition.get("message", ""),
    )


def pod_view(manifest: dict[str, Any]) -> PodView:
    """Reduce a Pod of a child Job."""
    meta, status = manifest["metadata"], manifest.get("status") or {}
    conditions = {c["type"]: c for c in status.get("conditions") or ()}
    scheduled, disrupted = conditions.get("PodScheduled", {}), conditions.get("DisruptionTarget", {})
    container: dict[str, Any] = next(
        (c for c in status.get("containerStatuses") or () if c["name"] == TRAINER_CONTAINER), {}
    )
    state = container.get("state") or {}
    waiting, terminated = state.get("waiting") or {}, state.get("terminated") or {}
    told = report(terminated.get("message", ""))
    return PodView(
        name=meta["name"],
        index=int((meta.get("annotations") or {}).get("batch.kubernetes.io/job-completion-index", 0)),
        phase=status.get("phase", "Pending"),
        node=(manifest.get("spec") or {}).get("nodeName", ""),
        exit_code=terminated.get("exitCode"),
        exit_reason=terminated.get("reason", ""),
        exit_message="" if told else _last_line(terminated.get("message", "")),
        finished_at=_time(terminated.get("finishedAt")),
        report=told,
        rejected=": ".join(filter(None, (status.get("reason"), status.get("message")))),
        unschedulable=scheduled.get("message", "") if scheduled.get("reason") == "Unschedulable" else "",
        waiting_reason=waiting.get("reason", ""),
        waiting_message=waiting.get("message", ""),
        disrupted=disrupted.get("reason", "") if disrupted.get("status") == "True" else "",
        disrupted_at=_time(disrupted.get("lastTransitionTime")) if disrupted.get("status") == "True" else None,
        unreachable=conditions.get("Ready", {}).get("reason") == "NodeStatusUnknown"
        or status.get("reason") == "NodeLost",
    )


def report(text: str) -> Report | None:
    """Parse a termination message; None when the container wrote none or something else wrote it."""
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(data, dict) or not isinstance(data.get("outcome"), str):
        return None
    return Report(
        outcome=data["outcome"],
        reason=str(data.get("reason") or ""),
        message=str(data.get("message") or ""),
        rank=data["rank"] if isinstance(data.get("rank"), int) else None,
        metrics=_numbers(data["metrics"]) if isinstance(data.get("metrics"), dict) else None,
        outputs=data["outputs"] if isinstance(data.get("outputs"), dict) else None,
    )


def pods_wanted(job: QwenSFTJob, children: tuple[ChildJob, ...]) -> ChildJob | None:
    """Whose pods must be read: a child that ended unrecorded, or one that is not fully ready. None otherwise."""
    run = Run(Observed(job=job, children=children))
    child = run.current_child
    return None if child is None or run.is_up(child) else child


def scrape_wanted(job: QwenSFTJob, children: tuple[ChildJob, ...]) -> ChildJob | None:
    """The train Job whose rank 0 is worth scraping: it runs with all its pods."""
    run = Run(Observed(job=job, children=children))
    child = run.current_child
    return child if child is not None and child.stage is Stage.TRAIN and run.is_up(child) else None


def _job_state(status: dict[str, Any]) -> tuple[JobState, dict[str, Any]]:
    true = {c["type"]: c for c in status.get("conditions") or () if c.get("status") == "True"}
    for type_, state in (
        ("Failed", JobState.FAILED),
        ("Complete", JobState.COMPLETE),
        ("FailureTarget", JobState.FAILING),
    ):
        if type_ in true:
            return state, true[type_]
    return JobState.RUNNING, {}


def _numbers(figures: dict[str, Any]) -> dict[str, float]:
    """Keep what the API server would take: no text, no NaN, nothing infinite."""
    return {
        name: value
        for name, value in figures.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= LARGEST_NUMBER
    }


def _last_line(text: str) -> str:
    return next((line.strip()[:500] for line in reversed(text.splitlines()) if line.strip()), "")


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
