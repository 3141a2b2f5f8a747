"""Past attempts: a few are kept for people to look at, so that a run that is interrupted for ever fills no namespace.

ADR 0106 says why.
"""

from __future__ import annotations

from qwensft.api.v1alpha1 import Stage
from qwensft_operator.plan.run import Run
from qwensft_operator.plan.types import ForgetAttempt, JobState

KEPT = 3  # attempts of a stage, the one that starts included


def forgotten(run: Run, stage: Stage, attempt: int) -> tuple[ForgetAttempt, ...]:
    """Return the actions that remove what earlier attempts of a stage have left, when another one starts."""
    oldest = attempt - KEPT
    ended = {
        child.attempt: child.uid
        for child in run.observed.children
        if child.stage is stage and child.attempt <= oldest and child.state in (JobState.COMPLETE, JobState.FAILED)
    }
    # Every start sees to one number, so that no number without a Job is left out.
    numbers = sorted(ended.keys() | ({oldest} if oldest >= 1 else set()))
    alive = {child.attempt for child in run.active_children() if child.stage is stage}
    return tuple(ForgetAttempt(stage, number, ended.get(number, "")) for number in numbers if number not in alive)
