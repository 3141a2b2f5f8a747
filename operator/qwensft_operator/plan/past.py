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
    # A number may never have had a Job, or lost it: then only its ConfigMap is left. That of the first stays.
    prefix = run.child_name(stage, 0).removesuffix("0")
    named = (name.removeprefix(prefix) for name in run.observed.config_maps if name.startswith(prefix))
    left = {int(number) for number in named if number.isdecimal() and 1 < int(number) <= oldest}
    # Every start sees to one number, also where not all that is left is known.
    numbers = sorted(ended.keys() | left | ({oldest} if oldest >= 1 else set()))
    alive = {child.attempt for child in run.active_children() if child.stage is stage}
    return tuple(ForgetAttempt(stage, number, ended.get(number, "")) for number in numbers if number not in alive)
