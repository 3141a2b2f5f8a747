"""One page about a run: where it stands, why, and what comes next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from qwensft.api.v1alpha1 import (
    ANNOTATION_ROWS,
    LABEL_ATTEMPT,
    LABEL_STAGE,
    ConditionType,
    Phase,
    QwenSFTJob,
    Stage,
    StageStatus,
)

Document = dict[str, Any]

_MOST_PODS: Final = 8
_MOST_EVENTS: Final = 8
_RANK: Final = "batch.kubernetes.io/job-completion-index"
_UNSEEN: Final = "the operator has not seen this"
_MEND: Final = (
    "mend what the sentence above says. If it can be edited (runPolicy, merge, prepare, the workers' resources and "
    "placement), or lies outside of the run, change spec.runPolicy.retry afterwards. Model, datasets and training are "
    "fixed: for others make a new run"
)
_STAGE_DONE: Final = {
    Stage.PREPARE: ConditionType.PREPARED,
    Stage.TRAIN: ConditionType.TRAINED,
    Stage.MERGE: ConditionType.MERGED,
}


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a run stands where it stands. `str()` of it is the page."""

    name: str
    namespace: str
    phase: str
    """The phase, or Deleting."""
    reason: str
    """One CamelCase word; empty while the operator has said nothing."""
    cause: str
    """The operator's sentence."""
    next_step: str
    """What the reader can do, or what will happen by itself."""
    stages: tuple[str, ...]
    pods: tuple[str, ...]
    events: tuple[str, ...]

    def __str__(self) -> str:
        """Return the page, without colours, lines as long as their sentences."""
        reason = f" ({self.reason})" if self.reason else ""
        parts = [f"{self.name} in namespace {self.namespace}: {self.phase}{reason}", f"  {self.cause}"]
        parts.append(f"\nNext\n  {self.next_step}")
        for title, lines in (("Stages", self.stages), ("Pods", self.pods), ("Events", self.events)):
            if lines:
                parts.append("\n".join([f"\n{title}", *(f"  {line}" for line in lines)]))
        return "\n".join(parts)


def explain(
    job: QwenSFTJob, *, pods: Sequence[Document] = (), events: Sequence[Document] = (), now: datetime
) -> Explanation:
    """Return the page about a run.

    Args:
        job: The run with its status.
        pods: Its pods, as the API server has them; others are not shown.
        events: Events about it and about these pods.
        now: The time that ages are reckoned to.
    """
    reason, cause = _cause(job)
    return Explanation(
        name=job.metadata.name,
        namespace=job.metadata.namespace,
        phase="Deleting" if job.metadata.deletion_timestamp else job.status.phase or Phase.PENDING,
        reason=reason,
        cause=cause,
        next_step=_next_step(job, reason),
        stages=tuple(_stage(job, stage, now) for stage in Stage),
        pods=_pods(pods),
        events=_events(job, pods, events, now),
    )


def _cause(job: QwenSFTJob) -> tuple[str, str]:
    """Reason and sentence of the condition that says most."""
    status = job.status
    if status.observed_generation < 0:
        return "", f"{_UNSEEN} run yet"
    if job.metadata.deletion_timestamp:
        told = status.condition(ConditionType.RECONCILING)
        return (told.reason, told.message) if told and told.reason == "DeletionHeld" else ("", "it is being deleted")
    suspended, succeeded = status.condition(ConditionType.SUSPENDED), status.condition(ConditionType.SUCCEEDED)
    told = suspended if suspended and suspended.status == "True" else succeeded
    return (told.reason, told.message) if told else ("", "the operator has said nothing yet")


def _next_step(job: QwenSFTJob, reason: str) -> str:
    status = job.status
    succeeded = status.condition(ConditionType.SUCCEEDED)
    verdict = succeeded.status if succeeded else "Unknown"
    if job.metadata.deletion_timestamp:
        return "wait; if it lasts, look for finalizers on the QwenSFTJob and on its Jobs"
    if status.observed_generation < job.metadata.generation:
        what = "run" if status.observed_generation < 0 else "edit"
        return f"{_UNSEEN} {what} yet: wait some seconds; then ask whether it runs, and watches this namespace"
    if verdict == "True":
        return _where_the_result_is(job)
    if verdict == "False":
        return _MEND
    return _while_under_way(job, reason)


def _while_under_way(job: QwenSFTJob, reason: str) -> str:
    if ANNOTATION_ROWS in job.metadata.annotations and job.spec.run_policy.suspend:
        return (
            "its rows are on their way. If nobody sends them any more, call train again with the same name, spec and "
            "rows: it goes on with what has arrived; or delete the run"
        )
    if job.spec.run_policy.suspend:
        return "set spec.runPolicy.suspend to false to let it go on"
    if reason == "WaitingForSourceRun" and (other := _awaited_run(job)) is not None:
        return f"wait for run {other} (kubectl get qsft {other}); this one goes on by itself"
    if reason == "Queued":
        return f"wait for LocalQueue {job.queue} to admit it; it goes on by itself"
    if _retry_time(job):
        return f"wait: the next attempt starts at {_retry_time(job)}"
    return "wait: it goes on by itself; if it does not move, do what the sentence above says"


def _awaited_run(job: QwenSFTJob) -> str | None:
    """Name of the run with whose merged model, or else adapter, this one begins."""
    source, adapter = job.spec.model.effective_source.run, job.spec.model.adapter
    if source is not None and job.status.source_run is None:
        return source.name
    return None if adapter is None else adapter.run.name


def _where_the_result_is(job: QwenSFTJob) -> str:
    outputs = job.status.outputs
    result = outputs and (outputs.merged or outputs.model or outputs.adapter)
    return f"use the result: {result.path} on claim {result.claim_name}" if result else "nothing: all is done"


def _retry_time(job: QwenSFTJob) -> str:
    records = [record for stage in Stage if (record := _record(job, stage)) and record.completion_time is None]
    times = [record.retry_time for record in records if record.retry_time]
    return f"{max(times):%H:%M:%S} UTC" if times else ""


def _record(job: QwenSFTJob, stage: Stage) -> StageStatus | None:
    found: StageStatus | None = getattr(job.status.stages, stage)
    return found


def _stage(job: QwenSFTJob, stage: Stage, now: datetime) -> str:
    record, done = _record(job, stage), job.status.condition(_STAGE_DONE[stage])
    if record is None or record.attempt is None:
        off = done is not None and done.reason == "Disabled"
        return f"{stage:<8} {'switched off' if off else 'not begun'}"
    if record.completion_time:
        state = f"done {_age(now, record.completion_time)}"
    elif job.status.phase == Phase.FAILED:
        state = "failed"
    else:
        state = "under way"
    parts = [f"{state:<16} attempt {record.attempt}"]
    if record.restarts:
        parts.append(f"{record.restarts} restart{'s' if record.restarts > 1 else ''}")
    progress = job.status.progress
    if stage is Stage.TRAIN and progress and progress.step is not None:
        parts.append(f"step {progress.step}" + (f" of {progress.total_steps}" if progress.total_steps else ""))
    if record.reason and not record.completion_time:
        parts.append(f"last failure: {record.reason}")
    return f"{stage:<8} {', '.join(parts)}"


def _pods(pods: Sequence[Document]) -> tuple[str, ...]:
    """Lines about the pods of the last attempt, those in trouble first."""
    known = [pod for pod in pods if LABEL_STAGE in (pod["metadata"].get("labels") or {})]
    last = max((_place(pod)[:2] for pod in known), default=None)
    shown = sorted((pod for pod in known if _place(pod)[:2] == last), key=lambda pod: (_is_well(pod), _place(pod)))
    lines = [f"{pod['metadata']['name']:<30} {_state(pod)}" for pod in shown[:_MOST_PODS]]
    more = len(shown) - _MOST_PODS
    return (*lines, f"and {more} more") if more > 0 else tuple(lines)


def _place(pod: Document) -> tuple[int, int, int]:
    labels = pod["metadata"]["labels"]
    return [*Stage].index(Stage(labels[LABEL_STAGE])), int(labels.get(LABEL_ATTEMPT, 1)), int(labels.get(_RANK, 0))


def _is_well(pod: Document) -> bool:
    return pod.get("status", {}).get("phase") in ("Running", "Succeeded")


def _state(pod: Document) -> str:
    status = pod.get("status", {})
    node = pod.get("spec", {}).get("nodeName")
    parts = [f"{status.get('phase', 'Pending')}{f' on {node}' if node else ''}"]
    if pod["metadata"].get("deletionTimestamp"):
        parts.append("being deleted")
    if status.get("reason"):
        parts.append(_with_message(status))
    conditions = status.get("conditions") or []
    parts += [_with_message(one) for one in conditions if (one["type"], one["status"]) == ("PodScheduled", "False")]
    for container in (status.get("initContainerStatuses") or []) + (status.get("containerStatuses") or []):
        state = container.get("state") or {}
        if state.get("waiting", {}).get("reason") not in (None, "PodInitializing"):
            parts.append(f"{container['name']}: {_with_message(state['waiting'])}")
        if state.get("terminated", {}).get("exitCode"):
            ended = state["terminated"]
            parts.append(f"{container['name']}: {ended.get('reason', 'ended')}, exit code {ended['exitCode']}")
    return "; ".join(parts)


def _with_message(what: Document) -> str:
    message = " ".join((what.get("message") or "").split())
    return f"{what.get('reason', '')}: {message}" if message else str(what.get("reason", ""))


def _events(job: QwenSFTJob, pods: Sequence[Document], events: Sequence[Document], now: datetime) -> tuple[str, ...]:
    """The last events: all about the run, and the warnings about its pods."""
    own, theirs = job.metadata.uid, {pod["metadata"].get("uid") for pod in pods}
    shown = [
        event
        for event in events
        if (uid := event["involvedObject"].get("uid")) == own or (uid in theirs and event.get("type") == "Warning")
    ]
    shown.sort(key=_when)
    return tuple(
        _event(event, now, of_pod=event["involvedObject"].get("uid") != own) for event in shown[-_MOST_EVENTS:]
    )


def _when(event: Document) -> datetime:
    series = (event.get("series") or {}).get("lastObservedTime")
    text = series or event.get("lastTimestamp") or event.get("eventTime") or event["metadata"].get("creationTimestamp")
    return datetime.fromisoformat(text) if text else datetime.min.replace(tzinfo=UTC)


def _event(event: Document, now: datetime, *, of_pod: bool) -> str:
    times = (event.get("series") or {}).get("count") or event.get("count") or 1
    about = f" {event['involvedObject']['name']}" if of_pod else ""
    often = f" (x{times})" if times > 1 else ""
    message = " ".join((event.get("message") or "").split())
    return f"{_age(now, _when(event)):<8} {event.get('type', '')} {event.get('reason', '')}{often}{about}: {message}"


def _age(now: datetime, then: datetime) -> str:
    """How long ago, in its largest unit: 3m ago."""
    seconds = max(0, int((now - then).total_seconds()))
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size}{unit} ago"
    return f"{seconds}s ago"
