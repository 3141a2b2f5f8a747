"""The conditions of a status: which are True, with which reason and sentence, rolled up from what was decided.

A sentence about a failure is made in `causes`, one about a start that does not come in `startup`, any other in the
policies. What becomes of all of them is here.
"""

from __future__ import annotations

from datetime import datetime

from qwensft.api.v1alpha1 import Condition, ConditionType, Phase, Reason, Stage
from qwensft_operator.plan.run import DONE_CONDITION, Run
from qwensft_operator.plan.step import Step
from qwensft_operator.plan.text import clean

OURS = frozenset(ConditionType)
_LONGEST_MESSAGE = 32768  # characters of a message, by the API
_WAITING = "an earlier stage has not completed, or spec.runPolicy.suspend holds the run"


def conditions_of(run: Run, step: Step, now: datetime) -> tuple[Condition, ...]:
    """Return the conditions of the next status.

    kstatus takes the first True of Reconciling and Stalled: exactly one is True until success.
    """
    known = {c.type: c for c in run.status.conditions if c.type in OURS}
    if not isinstance(step.phase, Phase):
        return tuple(known.values())  # a newer version has ended the run, and said how
    phase, reason, message = step.phase, step.reason, step.message
    success = {Phase.SUCCEEDED: "True", Phase.FAILED: "False"}.get(phase, "Unknown")
    suspended = phase is Phase.SUSPENDED
    table: list[tuple[str, str, str, str]] = [
        (ConditionType.SUCCEEDED, success, reason, message),
        (ConditionType.RECONCILING, _bool(success == "Unknown" and not step.stalled), reason, message),
        (ConditionType.STALLED, _bool(phase is Phase.FAILED or step.stalled), reason, message),
        (ConditionType.SUSPENDED, "True", reason, message)
        if suspended
        else (ConditionType.SUSPENDED, "False", Reason.NOT_SUSPENDED, ""),
        *_stage_conditions(run, step),
    ]
    conditions = []
    for type_, status, why, text in table:
        old = known.get(type_)
        conditions.append(
            Condition(
                type=type_,
                status=status,
                reason=why,
                message=clean(text, _LONGEST_MESSAGE),
                last_transition_time=old.last_transition_time if old and old.status == status else now,
                observed_generation=run.job.metadata.generation,
            )
        )
    places = list(known)  # those that are stored stay where they are
    return tuple(sorted(conditions, key=lambda c: places.index(c.type) if c.type in known else len(places)))


def _stage_conditions(run: Run, step: Step) -> list[tuple[str, str, str, str]]:
    done = Run(run.observed, status=step.status).done
    current = None if step.phase is Phase.SUCCEEDED else next((s for s in run.stages if s not in done), None)
    table: list[tuple[str, str, str, str]] = []
    for stage in Stage:
        type_ = DONE_CONDITION[stage]
        if stage in done:
            table.append((type_, "True", *_completion(run, stage)))
        elif stage not in run.stages:
            table.append((type_, "False", Reason.DISABLED, f"spec.{stage}.enabled is false"))
        elif stage is current:
            table.append((type_, "False", step.reason, step.message))
        else:
            table.append((type_, "Unknown", Reason.WAITING, _WAITING))
    return table


def _completion(run: Run, stage: Stage) -> tuple[str, str]:
    """Return reason and message of a stage that is done: what was said when it was, as long as that is known."""
    condition = run.status.condition(DONE_CONDITION[stage])
    if stage not in run.just_done and condition is not None and condition.status == "True":
        return condition.reason, condition.message
    return Reason.COMPLETED, run.just_done.get(stage, f"the stage {stage} is done")


def _bool(value: bool) -> str:
    return "True" if value else "False"
