"""What a run is at, in one line: for outputs that nothing can be taken back from, such as the log of a pipeline."""

from __future__ import annotations

from qwensft.api.v1alpha1 import Phase, QwenSFTJob
from qwensft.cli.output import safe
from qwensft.cli.views import words
from qwensft.cli.views.status import phase_of, reason_of

_BAR = 20
_PHASE = 11


def text(job: QwenSFTJob) -> str:
    """Return phase, progress, and the reason where it does not simply go on."""
    phase, progress = phase_of(job), job.status.progress
    if phase == Phase.TRAINING and progress is not None and progress.total_steps:
        percentage = progress.percentage or 0
        parts = [f"{words.bar(percentage, _BAR)} {percentage:3d} %", f"step {progress.steps}"]
        if progress.loss is not None:
            parts.append(f"loss {words.number(progress.loss)}")
        if progress.eval_loss is not None:
            parts.append(f"evaluation {words.number(progress.eval_loss)}")
        if progress.eta:
            parts.append(f"{progress.eta} left")
        return f"{phase:<{_PHASE}} {'  '.join(parts)}"
    condition, reason = job.status.condition("Succeeded"), reason_of(job)
    message = safe(condition.message).replace("\n", " ") if condition else "the operator has not looked at it yet"
    said = f"{reason}: {message}" if reason else message
    return f"{phase:<{_PHASE}} {said}".rstrip()
