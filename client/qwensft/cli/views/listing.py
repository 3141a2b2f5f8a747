"""`list`: a line for each run, the newest first."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from qwensft.api.v1alpha1 import QwenSFTJob
from qwensft.cli.output import Paint, columns, safe
from qwensft.cli.views.status import painted_phase, phase_of, reason_of
from qwensft.client import words

_HEAD = ["NAME", "PHASE", "REASON", "STEP", "LOSS", "LEFT", "MODEL", "AGE"]


def text(jobs: Sequence[QwenSFTJob], now: datetime, paint: Paint, *, namespaces: bool = False) -> str:
    """Return the table; with `namespaces` these stand first."""
    rows = [(["NAMESPACE"] if namespaces else []) + _HEAD]
    rows += [([job.metadata.namespace] if namespaces else []) + _row(job, now) for job in jobs]
    lines = columns(rows)
    coloured = [paint("dim", lines[0])]
    for job, line in zip(jobs, lines[1:], strict=True):
        phase = phase_of(job)
        coloured.append(line.replace(f" {phase} ", f" {painted_phase(job, paint)} ", 1))
    return "\n".join(coloured)


def _row(job: QwenSFTJob, now: datetime) -> list[str]:
    progress = job.status.progress
    goes_on = progress is not None and job.status.completion_time is None
    return [
        job.metadata.name,
        phase_of(job),
        reason_of(job),
        (progress.steps or "") if progress else "",
        words.number(progress.loss) if progress and progress.loss is not None else "",
        (progress.eta or "") if goes_on and progress else "",
        safe(job.spec.model.name),
        words.between(job.metadata.creation_timestamp, now),
    ]
