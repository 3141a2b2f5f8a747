"""`status`: where a run stands, on one screen."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from textwrap import wrap

from qwensft.api.v1alpha1 import Output, Phase, QwenSFTJob, Stage, StageStatus
from qwensft.cli.output import Paint, safe
from qwensft.client import words

_BAR = 20
_SPARKS = 24
_NARROWEST = 40
_WORTH_TELLING = 36  # seconds: 0.01 hours
_ROUTINE = {"Running", "Completed", "Starting", "PodsStarting"}
_COLOURS = {
    Phase.SUCCEEDED: "green",
    Phase.FAILED: "red",
    Phase.TRAINING: "cyan",
    Phase.PREPARING: "cyan",
    Phase.MERGING: "cyan",
    Phase.RESTARTING: "yellow",
    Phase.SUSPENDED: "yellow",
    Phase.PENDING: "yellow",
}
_STAGES = {Phase.PREPARING: Stage.PREPARE, Phase.TRAINING: Stage.TRAIN, Phase.MERGING: Stage.MERGE}
_CONDITIONS = {Stage.PREPARE: "Prepared", Stage.TRAIN: "Trained", Stage.MERGE: "Merged"}


def text(job: QwenSFTJob, now: datetime, losses: Sequence[float], paint: Paint, width: int = 100) -> str:
    """Return a run's state.

    Args:
        job: The run.
        now: The time, for durations of what goes on.
        losses: Training losses in their order, as far as they are known.
        paint: Colours.
        width: Columns of the terminal.
    """
    lines = [_head(job, paint)]
    lines += [f"  {line}" for stage in Stage for line in _stage(job, stage, now, losses, paint)]
    lines += [f"  {line}" for line in _sums(job)]
    lines += [f"  {line}" for line in _sentence(job, paint, max(_NARROWEST, width - 4))]
    lines += [f"  {line}" for line in _results(job)]
    return "\n".join(lines)


def phase_of(job: QwenSFTJob) -> str:
    """Return the phase; Pending where nobody has looked at the run yet."""
    return str(job.status.phase or Phase.PENDING)


def painted_phase(job: QwenSFTJob, paint: Paint, width: int = 0) -> str:
    """Return the phase in its colour."""
    phase = phase_of(job)
    return paint(_COLOURS.get(Phase(phase), "bold") if phase in {*Phase} else "bold", phase.ljust(width))


def reason_of(job: QwenSFTJob) -> str:
    """Return the reason why a run stands where it stands; "" while all goes well."""
    condition = job.status.condition("Succeeded")
    return "" if condition is None or condition.reason in _ROUTINE else condition.reason


def _head(job: QwenSFTJob, paint: Paint) -> str:
    spec = job.spec
    devices = spec.worker.accelerator.count
    where = f"{devices} {spec.worker.accelerator.resource}" if devices else "CPU"
    nodes = f"{spec.distribution.nodes} pods × " if spec.distribution.nodes > 1 else ""
    about = f"{spec.model.name}, {spec.tuning.method}, {nodes}{where}"
    return f"{paint('bold', job.metadata.name)}   {painted_phase(job, paint)}   {paint('dim', about)}"


def _stage(job: QwenSFTJob, stage: Stage, now: datetime, losses: Sequence[float], paint: Paint) -> Iterator[str]:
    record: StageStatus = getattr(job.status.stages, stage) or StageStatus()
    if stage is Stage.MERGE and not job.spec.merge.enabled:
        return
    condition = job.status.condition(_CONDITIONS[stage])
    mark, said = _state(job, stage, record, paint)
    end = record.completion_time or (job.status.completion_time if phase_of(job) == Phase.FAILED else now)
    attempt = f"attempt {record.attempt}" if (record.attempt or 1) > 1 else ""
    if not said and condition is not None and condition.status == "True":
        said = condition.message
    parts = [words.between(record.start_time, end).ljust(7), attempt, safe(said)]
    yield f"{mark} {stage:<8} {' '.join(part for part in parts if part)}".rstrip()
    if stage is Stage.TRAIN and job.status.progress is not None and record.start_time is not None:
        yield f"{'':19}{_progress(job, losses, paint)}".rstrip()


def _state(job: QwenSFTJob, stage: Stage, record: StageStatus, paint: Paint) -> tuple[str, str]:
    """Return a stage's mark, and what is said of it beside."""
    if record.completion_time is not None:
        return paint("green", "✓"), ""
    phase = phase_of(job)
    if record.start_time is None:
        return paint("dim", "·"), ""
    if phase == Phase.FAILED:
        return paint("red", "✗"), record.reason or ""
    if phase in (Phase.SUSPENDED, Phase.RESTARTING):
        return paint("yellow", "‖"), reason_of(
            job
        ).lower() if phase == Phase.SUSPENDED else f"again after {record.reason}"
    if _STAGES.get(Phase(phase) if phase in {*Phase} else Phase.PENDING) == stage:
        return paint("cyan", "▸"), ""
    return paint("yellow", "‖"), reason_of(job)


def _progress(job: QwenSFTJob, losses: Sequence[float], paint: Paint) -> str:
    progress = job.status.progress
    if progress is None or progress.step is None:
        return ""
    parts = [f"{words.bar(progress.percentage or 0, _BAR)} {progress.percentage or 0} %"]
    parts.append(f"step {progress.steps or progress.step}")
    if progress.loss is not None:
        first = f" from {words.number(progress.initial_loss)}" if progress.initial_loss is not None else ""
        parts.append(f"loss {words.number(progress.loss)}{first}")
    if sparks := words.sparkline(losses, _SPARKS):
        parts.append(paint("cyan", sparks))
    if progress.eval_loss is not None:
        parts.append(f"evaluation {words.number(progress.eval_loss)}")
    if phase_of(job) == Phase.TRAINING:
        if progress.tokens_per_second:
            parts.append(f"{progress.tokens_per_second:,.0f} tokens/s")
        if progress.eta:
            parts.append(f"{progress.eta} left")
    return "   ".join(parts)


def _sums(job: QwenSFTJob) -> Iterator[str]:
    status, usage = job.status, job.status.usage
    parts = []
    if usage is not None and usage.accelerator_seconds:
        hours = words.hours(usage.accelerator_seconds)
        parts.append(f"{hours} {'accelerator-hour' if hours == '1.00' else 'accelerator-hours'}")
        for seconds, what in (
            (usage.before_first_step_seconds, "of them before first steps"),
            (usage.lost_to_restarts_seconds, "lost to restarts"),
        ):
            if seconds and seconds >= _WORTH_TELLING:
                parts.append(f"{words.hours(seconds)} {what}")
    if status.restarts:
        parts.append(f"{words.count(status.restarts, 'restart')} of {job.spec.run_policy.max_restarts}")
    if parts:
        yield ", ".join(parts)


def _sentence(job: QwenSFTJob, paint: Paint, width: int) -> Iterator[str]:
    """Yield why the run stands, where it does not simply go on, and what is estimated not to fit."""
    condition = job.status.condition("Succeeded")
    if condition is None:
        yield from wrap("the operator has not looked at it yet: if this lasts, look whether it runs", width)
    elif condition.reason not in _ROUTINE:
        yield from _wrapped(f"{condition.reason}: {safe(condition.message)}", width, paint, "yellow")
    elif job.status.observed_generation < job.metadata.generation:
        yield "the operator has not seen the newest edit yet"
    estimate = job.status.estimate
    if estimate is not None and estimate.fits is False and job.status.completion_time is None:
        yield from _wrapped(f"EstimatedOutOfMemory: {safe(estimate.message or '')}", width, paint, "yellow")


def _wrapped(sentence: str, width: int, paint: Paint, style: str) -> Iterator[str]:
    for number, line in enumerate(wrap(sentence, width, break_long_words=False, break_on_hyphens=False)):
        reason, colon, rest = line.partition(":")
        yield f"{paint(style, reason)}{colon}{rest}" if number == 0 else line


def _results(job: QwenSFTJob) -> Iterator[str]:
    outputs = job.status.outputs
    if outputs is None or job.status.completion_time is None:
        return
    for what in ("merged", "model", "adapter", "report"):
        output: Output | None = getattr(outputs, what)
        if output is not None and output.path is not None:
            size = f", {words.size(output.size_bytes)}" if output.size_bytes is not None else ""
            yield f"{what:<8} {safe(output.path)} on claim {output.claim_name}{size}"
