"""Kubernetes objects, as the API returns them, reduced to what decisions need.

Pure parsing: raw JSON dicts in, the dataclasses of `types` out. Reading them is the runtime's work.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from qwensft.api.v1alpha1 import (
    ANNOTATION_INSTALLATION,
    ANNOTATION_MADE_FROM,
    LABEL_ATTEMPT,
    LABEL_JOB_UID,
    LABEL_QUEUE,
    LABEL_QUEUE_PRIORITY,
    LABEL_STAGE,
    Stage,
    comparable_digest,
    parse_quantity,
)
from qwensft_operator.plan.text import clean, one_line
from qwensft_operator.plan.times import parse_time
from qwensft_operator.plan.types import (
    LARGEST_NUMBER,
    ChildJob,
    ClaimView,
    JobState,
    PodView,
    QueuePlace,
    Report,
    Told,
    Trouble,
)

TRAINER_CONTAINER = "trainer"
LONGEST_WARNING = 300
MOST_WARNINGS = 5
MOST_TRACKERS = 8

# Reasons of the events that tell why a volume or a pod does not come up. Not by their type: that a claim without any
# storage class will never have a volume is a Normal event.
_CLAIM_TROUBLES = frozenset({"FailedBinding", "ProvisioningFailed", "ExternalProvisioning"})
OF_KUBERNETES = {"foregroundDeletion", "orphan"}  # finalizers that go by themselves
_POD_TROUBLES = frozenset({"FailedMount", "FailedAttachVolume", "FailedMapVolume", "FailedCreatePodSandBox"})


def is_owned(manifest: dict[str, Any], uid: str) -> bool:
    """Whether an object names the one with that UID as an owner."""
    return any(owner.get("uid") == uid for owner in manifest["metadata"].get("ownerReferences") or ())


def child_job(manifest: dict[str, Any], owner_uid: str) -> ChildJob | None:
    """Reduce a batch/v1 Job; None when it belongs to another object or carries no attempt."""
    meta = manifest["metadata"]
    labels = meta.get("labels") or {}
    if (
        not is_owned(manifest, owner_uid)
        or labels.get(LABEL_STAGE) not in set(Stage)
        or not str(labels.get(LABEL_ATTEMPT, "")).isdigit()
    ):
        return None
    status = manifest.get("status") or {}
    state, condition = job_state(status)
    return ChildJob(
        name=meta["name"],
        uid=meta["uid"],
        stage=Stage(labels[LABEL_STAGE]),
        attempt=int(labels[LABEL_ATTEMPT]),
        state=state,
        created_at=datetime.fromisoformat(meta["creationTimestamp"]),
        finished_at=parse_time(condition.get("lastTransitionTime")),
        active=status.get("active") or 0,
        ready=status.get("ready") or 0,
        # Between two updates of its status Kubernetes keeps ended pods in a list before it counts them.
        succeeded=(status.get("succeeded") or 0)
        + len((status.get("uncountedTerminatedPods") or {}).get("succeeded") or ()),
        deleting="deletionTimestamp" in meta,
        by_uid=LABEL_JOB_UID in labels,
        installation=(meta.get("annotations") or {}).get(ANNOTATION_INSTALLATION, ""),
        held_by=tuple(sorted(set(meta.get("finalizers") or ()) - OF_KUBERNETES)) if "deletionTimestamp" in meta else (),
        made_from=made_from(manifest),
        suspended=bool((manifest.get("spec") or {}).get("suspend")),
        managed_by=(manifest.get("spec") or {}).get("managedBy") or "",
        queue=labels.get(LABEL_QUEUE, ""),
        queue_class=labels.get(LABEL_QUEUE_PRIORITY, ""),
        started_at=parse_time(status.get("startTime")),
        reason=condition.get("reason", ""),
        message=clean(condition.get("message", "")),
    )


def queue_place(workload: dict[str, Any]) -> QueuePlace:
    """Reduce a Workload of Kueue whose Job is held. Its position in the queue stands elsewhere."""
    conditions = {c.get("type"): c for c in (workload.get("status") or {}).get("conditions") or ()}
    evicted = _said(conditions, "Evicted", "True")  # stays until there is quota again
    # Quota comes before the checks that a queue asks for beside it.
    message = _said(conditions, "QuotaReserved", "False") or _said(conditions, "Admitted", "False")
    given_up = conditions.get("Finished", {}).get("reason") == "FailedToStart"
    message = _said(conditions, "Finished", "True") if given_up else message
    return QueuePlace(
        workload["metadata"]["name"],
        message or evicted,
        evicted="" if message in ("", evicted) else evicted,
        inadmissible=conditions.get("QuotaReserved", {}).get("reason") == "Inadmissible",
        inactive=(workload.get("spec") or {}).get("active") is False,
        admitted=conditions.get("Admitted", {}).get("status") == "True" and not evicted,
        given_up=given_up,
    )


def _said(conditions: dict[str, Any], kind: str, status: str) -> str:
    condition = conditions.get(kind, {})
    return one_line(condition.get("message", ""), LONGEST_WARNING) if condition.get("status") == status else ""


def made_from(manifest: dict[str, Any]) -> str:
    """Return the digest of the editable fields that an object was made from, "" if that is not known."""
    return comparable_digest((manifest["metadata"].get("annotations") or {}).get(ANNOTATION_MADE_FROM, ""))


def pod_view(manifest: dict[str, Any], events: Iterable[dict[str, Any]] = ()) -> PodView:
    """Reduce a Pod of a child Job. `events`: those about it, for a pod of which `needs_events` says so."""
    meta, status = manifest["metadata"], manifest.get("status") or {}
    conditions = {c["type"]: c for c in status.get("conditions") or ()}
    scheduled, disrupted = conditions.get("PodScheduled", {}), conditions.get("DisruptionTarget", {})
    containers = {c["name"]: c for c in status.get("containerStatuses") or ()}
    container: dict[str, Any] = containers.pop(TRAINER_CONTAINER, {})
    state = container.get("state") or {}
    waiting, terminated = state.get("waiting") or {}, state.get("terminated") or {}
    report = parse_report(terminated.get("message", ""))
    return PodView(
        name=meta["name"],
        index=int((meta.get("annotations") or {}).get("batch.kubernetes.io/job-completion-index", 0)),
        phase=status.get("phase", "Pending"),
        node=(manifest.get("spec") or {}).get("nodeName", ""),
        exit_code=terminated.get("exitCode"),
        exit_reason=terminated.get("reason", ""),
        exit_message="" if report else _last_line(terminated.get("message", "")),
        started_at=parse_time((state.get("running") or terminated).get("startedAt")),
        finished_at=parse_time(terminated.get("finishedAt")),
        report=report,
        rejected=clean(": ".join(filter(None, (status.get("reason"), status.get("message"))))),
        created_at=parse_time(meta.get("creationTimestamp")),
        scheduled_at=parse_time(scheduled.get("lastTransitionTime")) if scheduled.get("status") == "True" else None,
        unschedulable=clean(scheduled.get("message", "")) if scheduled.get("reason") == "Unschedulable" else "",
        gates=tuple(gate.get("name", "") for gate in (manifest.get("spec") or {}).get("schedulingGates") or ()),
        waiting_reason=waiting.get("reason", ""),
        waiting_message=clean(waiting.get("message", "")),
        sidecars=tuple(name for name, c in containers.items() if "running" in (c.get("state") or {})),
        finalizers=tuple(meta.get("finalizers") or ()),
        disrupted=disrupted.get("reason", "") if disrupted.get("status") == "True" else "",
        disrupted_at=parse_time(disrupted.get("lastTransitionTime")) if disrupted.get("status") == "True" else None,
        unreachable=status.get("reason") == "NodeLost" or _declared_not_ready(conditions),
        deleted_at=parse_time(meta.get("deletionTimestamp")),
        without_grace=meta.get("deletionGracePeriodSeconds") == 0,
        trouble=_trouble(events, _POD_TROUBLES),
    )


def claim_view(manifest: dict[str, Any], events: Iterable[dict[str, Any]] = ()) -> ClaimView:
    """Reduce a PersistentVolumeClaim. `events`: those about it, while it is Pending."""
    spec, status = manifest.get("spec") or {}, manifest.get("status") or {}
    phase = status.get("phase", "Pending")
    asked, has = (spec.get("resources") or {}).get("requests") or {}, status.get("capacity") or {}
    sizes = [sizes["storage"] for sizes in (asked, has) if "storage" in sizes]
    return ClaimView(
        name=manifest["metadata"]["name"],
        phase=phase,
        access_modes=frozenset(spec.get("accessModes") or ()),
        size=max(sizes, key=parse_quantity, default=""),
        storage_class=spec.get("storageClassName") or "",
        block=spec.get("volumeMode") == "Block",
        deleting="deletionTimestamp" in manifest["metadata"],
        trouble=_trouble(events, _CLAIM_TROUBLES) if phase == "Pending" else None,
    )


def creation_failures(events: Iterable[dict[str, Any]]) -> tuple[str, ...]:
    """Return why a Job's pods could not be created, the newest first. `events`: FailedCreate ones about the Job."""
    latest_first = sorted(events, key=lambda event: _event_time(event, "lastTimestamp"), reverse=True)
    return tuple(clean(event.get("message") or "") for event in latest_first)


def config_map_keys(manifest: dict[str, Any]) -> frozenset[str]:
    """Return the keys of a ConfigMap, of texts and of bytes alike."""
    return frozenset([*(manifest.get("data") or ()), *(manifest.get("binaryData") or ())])


def parse_report(text: str) -> Report | None:
    """Parse a termination message; None when the container wrote none or something else wrote it."""
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(data, dict) or not isinstance(data.get("outcome"), str):
        return None
    metrics = data["metrics"] if isinstance(data.get("metrics"), dict) else None
    return Report(
        outcome=data["outcome"],
        reason=clean(data.get("reason") or ""),
        message=clean(data.get("message") or ""),
        metrics=None if metrics is None else _numbers(metrics),
        outputs=data["outputs"] if isinstance(data.get("outputs"), dict) else None,
        warnings=_warnings(metrics or {}),
        trackers=_trackers(metrics or {}),
        model=_measures(metrics or {}),
    )


def job_state(status: dict[str, Any]) -> tuple[JobState, dict[str, Any]]:
    """Return how far a Job is by its status, and the condition that says so, {} while it runs."""
    true = {c["type"]: c for c in status.get("conditions") or () if c.get("status") == "True"}
    for type_, state in (
        ("Failed", JobState.FAILED),
        ("Complete", JobState.COMPLETE),
        ("FailureTarget", JobState.FAILING),
    ):
        if type_ in true:
            return state, true[type_]
    return JobState.RUNNING, {}


def _declared_not_ready(conditions: dict[str, dict[str, Any]]) -> bool:
    """Whether the node controller, not the kubelet, has taken the pod's readiness away, for want of news of its node.

    The kubelet always changes both conditions, unless a readiness gate holds the pod back.
    """
    ready, containers = conditions.get("Ready", {}), conditions.get("ContainersReady", {})
    gated = ready.get("reason") == "ReadinessGatesNotReady"
    return ready.get("status") == "False" and containers.get("status") == "True" and not gated


def _trouble(events: Iterable[dict[str, Any]], reasons: frozenset[str]) -> Trouble | None:
    """Return what was said last, and since when Kubernetes says it."""
    matching = [event for event in events if event.get("reason") in reasons]
    if not matching:
        return None
    last = max(matching, key=lambda event: _event_time(event, "lastTimestamp"))
    since = min(_event_time(event, "firstTimestamp") for event in matching if event["reason"] == last["reason"])
    return Trouble(last["reason"], one_line(last.get("message") or ""), since)


def _event_time(event: dict[str, Any], field: str) -> datetime:
    """Return a time of an Event; newer recorders write eventTime and a series in place of the two old fields."""
    series = event.get("series") or {}
    newer = series.get("lastObservedTime") if field == "lastTimestamp" else None
    time = event.get(field) or newer or event.get("eventTime") or event["metadata"].get("creationTimestamp")
    return parse_time(time) or datetime.min.replace(tzinfo=UTC)


def _numbers(figures: dict[str, Any]) -> dict[str, float]:
    """Keep what the API server would take: no text, no NaN, nothing infinite."""
    return {name: value for name, value in figures.items() if _is_number(value)}


def _warnings(metrics: dict[str, Any]) -> tuple[str, ...]:
    """Keep what can be told in one line each."""
    warnings = metrics.get("warnings")
    texts = [one_line(text) for text in warnings if isinstance(text, str)] if isinstance(warnings, list) else []
    return tuple(dict.fromkeys(text[:LONGEST_WARNING] for text in texts if text))[:MOST_WARNINGS]


def _trackers(metrics: dict[str, Any]) -> tuple[Told, ...]:
    """Keep what has the shape that the trainer gives it; what it says is judged where it is shown."""
    entries = metrics.get("trackers")
    return tuple(
        Told(entry["name"], clean(entry.get("url") or ""), clean(entry.get("runId") or ""), int(undelivered))
        for entry in (entries if isinstance(entries, list) else ())
        if isinstance(entry, dict) and isinstance(entry.get("name"), str)
        if _is_number(undelivered := entry.get("undelivered", 0)) and undelivered >= 0
    )[:MOST_TRACKERS]


def _measures(metrics: dict[str, Any]) -> dict[str, Any] | None:
    model = metrics.get("model")
    if not isinstance(model, dict):
        return None
    return {
        name: value for name, value in model.items() if value is None or isinstance(value, bool) or _is_number(value)
    }


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= LARGEST_NUMBER


def _last_line(text: str) -> str:
    return next((one_line(line, 500) for line in reversed(text.splitlines()) if line.strip()), "")
