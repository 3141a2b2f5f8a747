"""The end of a run: when it comes, what its last words are, and what is tidied up after it."""

from __future__ import annotations

from datetime import datetime

from qwensft.api.v1alpha1 import ConditionType, Phase, Reason, Stage
from qwensft_operator.plan.causes import Cause
from qwensft_operator.plan.run import Run
from qwensft_operator.plan.step import LOOK_AGAIN, Step, deletions, end, fail
from qwensft_operator.plan.suspension import seconds_active


def finished(run: Run, now: datetime) -> Step | None:
    """Never start anything after the end: stop what still runs, and remove the child Jobs when their time is over."""
    ended, ttl = run.status.completion_time, run.job.spec.run_policy.ttl_seconds_after_finished
    if ended is None:
        return None
    wait = None if ttl is None else (ended - now).total_seconds() + ttl
    expired = wait is not None and wait <= 0
    surplus = run.observed.children if expired else run.active_children()
    phase, (reason, message) = run.status.phase or Phase.FAILED, _last_words(run)
    # After an end that is still to come by a clock that was set back, the clock may be right again by the next look.
    again = None if expired or wait is None or ttl is None else min(wait, max(ttl, LOOK_AGAIN))
    return Step(phase, reason, message, run.status, deletions(surplus), requeue_after=again)


def succeeded(run: Run, _: datetime) -> Step | None:
    """End the run: nothing that the spec asks for is left to do."""
    if run.current_stage is not None:
        return None
    outputs, status = run.status.outputs, run.status
    best = outputs and (outputs.merged or outputs.adapter or outputs.model)
    message = f"the model is at {best.path} on claim {best.claim_name}" if best else "all stages completed"
    if Stage.MERGE not in run.stages and run.record(Stage.MERGE).spec_hash and Stage.MERGE not in run.done:
        status = run.recorded(Stage.MERGE, spec_hash=None)  # given up half-way: switched on again, it starts anew
    return end(run, Phase.SUCCEEDED, Reason.COMPLETED, message, status)


def over_deadline(run: Run, now: datetime) -> Step | None:
    """Fail a run that takes longer than the user allowed, counted from its first reconcile, but for the time held."""
    limit = run.job.spec.run_policy.active_deadline_seconds
    if limit is None or run.current_stage is None or seconds_active(run.status, now) < limit:
        return None
    message = f"the run took longer than spec.runPolicy.activeDeadlineSeconds ({limit} s)"
    return fail(run, Cause(Reason.DEADLINE_EXCEEDED, message))


def _last_words(run: Run) -> tuple[str, str]:
    """Return reason and message of the end, also when another version of the operator has written over them."""
    condition = run.status.condition(ConditionType.SUCCEEDED)
    if condition is not None and (condition.status != "Unknown" or not isinstance(run.status.phase, Phase | None)):
        return condition.reason, condition.message
    if run.status.phase is Phase.SUCCEEDED:
        return Reason.COMPLETED, "all stages completed"
    records = [record for stage in reversed(Stage) if (record := run.record(stage)).message]
    last = next(iter(records), None)
    reason, message = (last.reason, last.message) if last else (None, None)
    return reason or Reason.TRAINING_FAILED, message or "the run has failed"
