"""Observed state in, actions and the next status out: the whole of the operator's judgement behind one function.

ADR 0001 says why.
"""

from __future__ import annotations

from datetime import datetime

from qwensft.api.v1alpha1 import ConditionType, Phase, Reason, Stage, Status, read_status
from qwensft_operator.plan import estimate, progress, trackers, usage
from qwensft_operator.plan.conditions import OURS, conditions_of
from qwensft_operator.plan.policies import POLICIES
from qwensft_operator.plan.proof import without_proof
from qwensft_operator.plan.run import DONE_CONDITION, Run, harvest
from qwensft_operator.plan.step import Step
from qwensft_operator.plan.suspension import anchored, seconds_active, timed
from qwensft_operator.plan.types import Event, Observed, Plan
from qwensft_operator.plan.unclosed import without_sidecars
from qwensft_operator.plan.volumes import kept_claim_warning


def decide(observed: Observed, now: datetime) -> Plan:
    """Return what to do about a QwenSFTJob. `now` is aware (UTC). Pure: the same input gives the same plan."""
    if observed.job.metadata.deletion_timestamp is not None:
        return Plan()  # garbage collection removes the children; the model stays
    now = now.replace(microsecond=0)
    run = Run(observed, status=anchored(observed.job.status, now))
    run = harvest(without_proof(without_sidecars(run, now)), now)
    step = next(step for policy in POLICIES if (step := policy(run, now)) is not None)
    if step.look is not None:
        return Plan(look=step.look)
    status = _status(run, step, now)
    ours = tuple(condition for condition in observed.job.status.conditions if condition.type in OURS)
    stored = observed.job.status.replace(conditions=ours)
    if status != stored:  # it is written anyway, so it may tell the time
        # What breaks the schema is left out: the API server would refuse all for it, again and again.
        seen = Run(observed)
        told = status.replace(usage=usage.usage_of(seen, now), trackers=trackers.trackers_of(seen))
        status = read_status(told.document())
    return Plan(
        actions=step.actions,
        status=None if status == stored else status.document(),
        events=_events(run, step, status),
        requeue_after=_requeue_after(run, step, status, now),
        poll=step.poll,
    )


def _status(run: Run, step: Step, now: datetime) -> Status:
    ended = step.phase in (Phase.SUCCEEDED, Phase.FAILED)
    figures, policy = step.status.progress, run.job.spec.run_policy
    trains = step.poll and run.current_stage is Stage.TRAIN
    return step.status.replace(
        observed_generation=run.job.metadata.generation,
        phase=step.phase,
        estimate=estimate.estimate_of(run),
        # Not before there is an attempt, whose start is told anyway: a write for the digest alone is one too many.
        configuration=(step.status.has_begun and run.observed.configuration) or step.status.configuration,
        progress=figures if trains else progress.paused(figures),
        start_time=step.status.start_time or now,
        completion_time=step.status.completion_time or (now if ended else None),
        # Only a change after the failure asks for another try, so until the end each value is taken note of.
        retry=step.status.retry if run.finished else policy.retry,
        conditions=conditions_of(run, step, now),
        **timed(step.status, now, holds=step.holds),
    )


def _events(run: Run, step: Step, status: Status) -> tuple[Event, ...]:
    events = [Event("Normal", Reason(DONE_CONDITION[stage]), message) for stage, message in run.just_done.items()]
    warnings = run.report.warnings if run.report else ()
    events += [Event("Warning", Reason.PREPARATION_WARNING, warning) for warning in warnings]
    if step.status.has_begun and not run.observed.job.status.has_begun:
        differs = kept_claim_warning(run)
        events += [] if differs is None else [differs]
    too_large = estimate.warning(run.observed.job.status.estimate, status.estimate)
    events += [] if too_large is None else [too_large]
    wasted = usage.warning(run.observed.job.status.usage, status.usage)
    events += [] if wasted is None else [wasted]
    headline = run.status.condition(ConditionType.SUCCEEDED)
    if (step.phase, step.reason) != (run.status.phase, headline and headline.reason):
        events.append(Event("Warning" if step.warning else "Normal", step.reason, step.message))
    return tuple(events)


def _requeue_after(run: Run, step: Step, status: Status, now: datetime) -> float | None:
    limit = run.job.spec.run_policy.active_deadline_seconds
    waits = [] if step.requeue_after is None else [step.requeue_after]
    # A run that is held does not get nearer to its deadline.
    if limit is not None and status.completion_time is None and not step.holds:
        waits.append(max(0, limit - max(0, seconds_active(status, now))))
    return min(waits, default=None)
