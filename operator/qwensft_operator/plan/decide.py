"""Observed state in, actions and the next status out: the whole of the operator's judgement behind one function.

ADR 0001 says why.
"""

from __future__ import annotations

from datetime import datetime

from qwensft.api.v1alpha1 import Condition, ConditionType, Phase, Reason, Stage, Status
from qwensft_operator.plan import estimate, progress
from qwensft_operator.plan.policies import POLICIES
from qwensft_operator.plan.run import DONE_CONDITION, Run, harvest
from qwensft_operator.plan.step import Step
from qwensft_operator.plan.suspension import seconds_active, timed
from qwensft_operator.plan.types import Event, Observed, Plan

_OURS = frozenset(ConditionType)
_WAITING = "an earlier stage has not completed, or spec.runPolicy.suspend holds the run"


def decide(observed: Observed, now: datetime) -> Plan:
    """Return what to do about a QwenSFTJob. `now` is aware (UTC). Pure: the same input gives the same plan."""
    if observed.job.metadata.deletion_timestamp is not None:
        return Plan()  # garbage collection removes the children; the model stays
    now = now.replace(microsecond=0)
    run = harvest(Run(observed), now)
    step = next(step for policy in POLICIES if (step := policy(run, now)) is not None)
    status = _status(run, step, now)
    ours = tuple(condition for condition in observed.job.status.conditions if condition.type in _OURS)
    changed = status != observed.job.status.replace(conditions=ours)
    return Plan(
        actions=step.actions,
        status=status.document() if changed else None,
        events=_events(run, step, status),
        requeue_after=_requeue_after(run, step, status, now),
        poll=step.poll,
    )


def _status(run: Run, step: Step, now: datetime) -> Status:
    ended = step.phase in (Phase.SUCCEEDED, Phase.FAILED)
    figures, policy = step.status.progress, run.job.spec.run_policy
    return step.status.replace(
        observed_generation=run.job.metadata.generation,
        phase=step.phase,
        estimate=estimate.estimate_of(run),
        progress=figures if step.poll else progress.paused(figures),
        start_time=step.status.start_time or now,
        completion_time=step.status.completion_time or (now if ended else None),
        # Only a change after the failure asks for another try, so until the end each value is taken note of.
        retry=step.status.retry if run.finished else policy.retry,
        conditions=_conditions(run, step, now),
        **timed(step.status, step.phase, now),
    )


def _conditions(run: Run, step: Step, now: datetime) -> tuple[Condition, ...]:
    """Roll up. kstatus takes the first True of Reconciling and Stalled: exactly one is True until success."""
    known = {c.type: c for c in run.status.conditions if c.type in _OURS}
    if not isinstance(step.phase, Phase):
        return tuple(known.values())  # a newer version has ended the run, and said how
    phase, reason, message = step.phase, step.reason, step.message
    success = {Phase.SUCCEEDED: "True", Phase.FAILED: "False"}.get(phase, "Unknown")
    suspended = phase is Phase.SUSPENDED
    table: list[tuple[str, str, str, str]] = [
        (ConditionType.SUCCEEDED, success, reason, message),
        (ConditionType.RECONCILING, _bool(success == "Unknown"), reason, message),
        (ConditionType.STALLED, _bool(phase is Phase.FAILED), reason, message),
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
                message=text,
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


def _events(run: Run, step: Step, status: Status) -> tuple[Event, ...]:
    events = [Event("Normal", Reason(DONE_CONDITION[stage]), message) for stage, message in run.just_done.items()]
    warnings = run.report.warnings if run.report else ()
    events += [Event("Warning", Reason.PREPARATION_WARNING, warning) for warning in warnings]
    too_large = estimate.warning(run.observed.job.status.estimate, status.estimate)
    events += [] if too_large is None else [too_large]
    headline = run.status.condition(ConditionType.SUCCEEDED)
    if (step.phase, step.reason) != (run.status.phase, headline and headline.reason):
        events.append(Event("Warning" if step.warning else "Normal", step.reason, step.message))
    return tuple(events)


def _requeue_after(run: Run, step: Step, status: Status, now: datetime) -> float | None:
    limit = run.job.spec.run_policy.active_deadline_seconds
    waits = [] if step.requeue_after is None else [step.requeue_after]
    # A run that is held does not get nearer to its deadline.
    if limit is not None and status.completion_time is None and step.phase is not Phase.SUSPENDED:
        waits.append(max(0, limit - seconds_active(status, now)))
    return min(waits, default=None)


def _bool(value: bool) -> str:
    return "True" if value else "False"
