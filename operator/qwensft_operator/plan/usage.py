"""`status.usage`: the accelerator time of a run, attempt by attempt, and what of it was of no use.

It is told with what is written anyway: seconds pass all the time, and a write for them alone would be one too many.
An attempt counts from when its first pod had a node until its Job ended, times its accelerators.
ADR 0132 says why.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

from qwensft.api.v1alpha1 import AttemptUsage, Phase, Reason, Stage, Startup, Usage
from qwensft_operator.plan.progress import snake
from qwensft_operator.plan.run import Run
from qwensft_operator.plan.types import LARGEST_NUMBER, ChildJob, Event, JobState, PodView

MOST_ATTEMPTS = 10
_ENDED = (JobState.COMPLETE, JobState.FAILED)
_ATTEMPT = "attempt_"
_JUDGED_SECONDS = 600  # of training: before that, every start is a large share
_MUCH = 0.2
_MUCH_PADDING = 0.3


def usage_of(run: Run, now: datetime) -> Usage | None:
    """Return the next `status.usage`. `run` is as it was observed, before anything was harvested."""
    child, known = run.current_child, run.status.usage or Usage()
    if child is not None and _is_held(run, child):
        return run.status.usage
    figures = _figures(run)
    entry = None if child is None else _entry(run, child, known, figures, now)
    if child is None or entry is None:
        return run.status.usage
    others = tuple(a for a in known.attempts if (a.stage, a.attempt) != (entry.stage, entry.attempt))
    attempts = (*others, entry)
    # What an attempt used before a queue held it stays in the totals; its entry tells of the time after the release.
    same = tuple(a for a in known.attempts if a in others or not _is_before(child, a))
    used = known.replace(
        accelerator_seconds=_with_forgotten(known.accelerator_seconds, same, attempts, _held),
        before_first_step_seconds=_with_forgotten(known.before_first_step_seconds, same, attempts, _before),
        lost_to_restarts_seconds=_with_forgotten(known.lost_to_restarts_seconds, known.attempts, attempts, _lost),
        padding_share=_share(figures.get("padding_share"), known.padding_share),
        model_flops_utilization=_share(figures.get("model_flops_utilization"), known.model_flops_utilization),
        startup=_startup(run, child, known, figures) if child.stage is Stage.TRAIN else known.startup,
        attempts=attempts[-MOST_ATTEMPTS:],
    )
    return used.replace(message=_advice(used))


def warning(before: Usage | None, now: Usage | None) -> Event | None:
    """Return the event that tells, once, that much of the accelerators' time is wasted."""
    if now is None or now.message is None or (before is not None and before.message is not None):
        return None
    return Event("Warning", Reason.ACCELERATOR_TIME_WASTED, now.message)


def _is_held(run: Run, child: ChildJob) -> bool:
    """Return whether a queue has taken the pods away, and the status tells so since an earlier look."""
    return child.suspended and not child.active and run.status.phase is Phase.SUSPENDED


def _is_before(child: ChildJob, entry: AttemptUsage) -> bool:
    """Return whether the entry of this attempt tells of the time before a queue held it and let it go on."""
    return entry.start_time is not None and entry.start_time < child.begun_at.replace(microsecond=0)


def _entry(run: Run, child: ChildJob, known: Usage, figures: Mapping[str, float], now: datetime) -> AttemptUsage | None:
    """Return what an attempt has used so far, None as long as no pod of it has a node."""
    same = (a for a in known.attempts if (a.stage, a.attempt) == (child.stage.value, child.attempt))
    entry = next(same, AttemptUsage(stage=child.stage.value, attempt=child.attempt))
    ended = child.state in _ENDED
    start = _start(run, child, entry, figures)
    if start is None:
        return None
    seconds = _seconds(start, (child.finished_at or now) if ended else now)
    accelerators = _accelerators(run, child.stage)
    changes: dict[str, Any] = {
        "start_time": start,
        "accelerators": accelerators,
        "seconds": seconds,
        "accelerator_seconds": min(seconds * accelerators, LARGEST_NUMBER),
    }
    if child.stage is Stage.TRAIN:
        before = None if _is_before(child, entry) else entry.training_time
        began = _moment(figures.get("training_timestamp_seconds")) or before
        changes |= {
            "training_time": began,
            "before_first_step_seconds": seconds if began is None else min(_seconds(start, began), seconds),
            "from_step": _step(figures.get("from_step"), entry.from_step),
            "to_step": max((step for step in (*_steps(run), entry.to_step) if step is not None), default=None),
        }
    return entry.replace(**changes)


def _start(run: Run, child: ChildJob, entry: AttemptUsage, figures: Mapping[str, float]) -> datetime | None:
    scheduled = _scheduled(run, child)
    if scheduled:
        return min(scheduled)
    if entry.start_time is not None and entry.start_time >= child.begun_at:
        return entry.start_time
    told = _moment(figures.get("started_timestamp_seconds"))  # by the clock of another machine
    if told is not None:
        return max(told, child.begun_at)
    return child.begun_at if child.state in _ENDED else None


def _startup(run: Run, child: ChildJob, known: Usage, figures: Mapping[str, float]) -> Startup:
    """Return into what the time before the first step went; of a new attempt, anew."""
    latest = max((a.attempt or 0 for a in known.attempts if a.stage == Stage.TRAIN.value), default=0)
    startup = (known.startup if latest == child.attempt else None) or Startup()
    told = {
        name: round(value, 1)
        for name in Startup.model_fields
        if (value := figures.get(name)) is not None and value >= 0
    }
    scheduled, begun = _scheduled(run, child), [p.started_at for p in _pods(run) if p.started_at is not None]
    if scheduled:
        told["schedule_seconds"] = float(_seconds(child.begun_at, max(scheduled)))
    if scheduled and len(begun) == len(scheduled):
        told["image_seconds"] = float(_seconds(max(scheduled), max(begun)))
    return startup.replace(**told)


def _scheduled(run: Run, child: ChildJob) -> list[datetime]:
    """Return when the pods got their nodes; those that a hold of the Job has stopped are not of this beginning."""
    begun = child.begun_at.replace(microsecond=0)
    return [p.scheduled_at for p in _pods(run) if p.scheduled_at is not None and p.scheduled_at >= begun]


def _pods(run: Run) -> tuple[PodView, ...]:
    return run.observed.pods


def _figures(run: Run) -> dict[str, float]:
    """Return what the trainer tells of the attempt: scraped, or in the end by the pod of node rank 0."""
    scrape = run.observed.scrape
    if scrape is not None and scrape.attempt:
        return dict(scrape.attempt)
    told = {snake(name): value for metrics in _metrics(run) for name, value in metrics.items()}
    return {name.removeprefix(_ATTEMPT): value for name, value in told.items() if name.startswith(_ATTEMPT)}


def _metrics(run: Run) -> list[Mapping[str, float]]:
    return [pod.report.metrics for pod in _pods(run) if pod.report and pod.report.metrics]


def _steps(run: Run) -> Iterable[int | None]:
    scrape, last = run.observed.scrape, run.observed.last_step
    yield from (_step(metrics.get("step")) for metrics in _metrics(run))
    yield scrape.step if scrape else None
    yield last.step if last else None


def _accelerators(run: Run, stage: Stage) -> int:
    spec = run.job.spec
    count = spec.worker.accelerator.count
    if stage is Stage.TRAIN:
        return count * spec.distribution.nodes
    merges_on_one = stage is Stage.MERGE and spec.merge.engine == "llamafactory" and spec.merge.device == "auto"
    return min(1, count) if merges_on_one else 0


def _with_forgotten(
    total: int | None, before: Sequence[AttemptUsage], now: Sequence[AttemptUsage], measure: Any
) -> int | None:
    """Return the measure of the attempts, and what is in the old total of those that are not remembered."""
    forgotten = max(0, (total or 0) - int(measure(before)))
    return min(forgotten + int(measure(now)), LARGEST_NUMBER)


def _held(attempts: Sequence[AttemptUsage]) -> float:
    return sum(a.accelerator_seconds or 0 for a in attempts)


def _before(attempts: Sequence[AttemptUsage]) -> float:
    return sum((a.before_first_step_seconds or 0) * (a.accelerators or 0) for a in attempts)


def _lost(attempts: Sequence[AttemptUsage]) -> float:
    """Return the time in which steps were trained that the next attempt that trained did again."""
    trainings = [(a, a.from_step) for a in attempts if a.stage == Stage.TRAIN.value and a.from_step is not None]
    lost = 0.0
    for (one, _), (_, kept) in pairwise(sorted(trainings, key=lambda training: training[0].attempt or 0)):
        trained = (one.seconds or 0) - (one.before_first_step_seconds or 0)
        lost += trained * _repeated(one, kept) * (one.accelerators or 0)
    return lost


def _repeated(attempt: AttemptUsage, kept: int) -> float:
    """Return which share of an attempt's steps is trained again when the next one starts after `kept` steps."""
    done = (attempt.to_step or 0) - (attempt.from_step or 0)
    return 1.0 if done <= 0 else min(1.0, max(0.0, ((attempt.to_step or 0) - kept) / done))


def _advice(usage: Usage) -> str | None:
    """Return one sentence about the largest waste, with what mends it; None if there is none worth the words."""
    total = usage.accelerator_seconds or 0
    trained = sum((a.seconds or 0) - (a.before_first_step_seconds or 0) for a in usage.attempts if a.stage == "train")
    if not total or trained < _JUDGED_SECONDS:
        return None
    before, lost = (usage.before_first_step_seconds or 0) / total, (usage.lost_to_restarts_seconds or 0) / total
    padding = usage.padding_share or 0.0
    found = [
        (padding, _MUCH_PADDING, f"{padding:.0%} of what the accelerators compute is padding: {_LESS_PADDING}"),
        (lost, _MUCH, f"{lost:.0%} of the accelerator time went into steps that restarts trained again: {_SAVE_MORE}"),
        (before, _MUCH, f"{before:.0%} of the accelerator time passed before the first steps: {_start_faster(usage)}"),
    ]
    much = [(share, text) for share, limit, text in found if share >= limit]
    return max(much)[1] if much else None


_LESS_PADDING = (
    "in a new QwenSFTJob set spec.training.packing, or a smaller perDeviceTrainBatchSize with as many more "
    "gradientAccumulationSteps"
)
_SAVE_MORE = "in a new QwenSFTJob set a lower spec.training.saveSteps"
_FASTER = {
    "image_seconds": "most of it to pull the image; keep it on the nodes",
    "gang_seconds": "most of it until all pods were there; use a scheduler that places them together "
    "(spec.worker.schedulerName, or a queue)",
    "imports_seconds": "most of it to import libraries; keep the image on a fast disk of the nodes, and give the pods "
    "a CPU for each process",
    "model_seconds": "most of it to load the model; keep it on a faster volume",
    "data_seconds": "most of it to load the rows; keep them on a faster volume",
}


def _start_faster(usage: Usage) -> str:
    parts = usage.startup.model_dump(exclude_none=True, exclude={"schedule_seconds"}) if usage.startup else {}
    longest = max(parts, key=lambda name: parts[name], default="")
    restarts = len([a for a in usage.attempts if a.stage == Stage.TRAIN.value]) - 1
    beginning = f"of {restarts + 1} attempts; " if restarts else ""
    return beginning + _FASTER.get(longest, "status.usage.startup tells where it went")


def _share(value: float | None, known: float | None) -> float | None:
    return known if value is None or not 0 <= value <= 1 else round(value, 3)


def _step(value: float | None, known: int | None = None) -> int | None:
    return known if value is None or value < 0 else int(value)


def _moment(timestamp: float | None) -> datetime | None:
    """Return the time of a Unix timestamp, None for one that no calendar has."""
    try:
        return None if timestamp is None else datetime.fromtimestamp(int(timestamp), UTC)
    except (ValueError, OverflowError, OSError):
        return None


def _seconds(start: datetime, end: datetime) -> int:
    return max(0, int((end - start).total_seconds()))
