"""What a policy answers with, and the words and moves that several policies share."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime

from qwensft.api.v1alpha1 import Phase, Reason, Stage, Status
from qwensft_operator.plan.causes import Cause
from qwensft_operator.plan.run import Run
from qwensft_operator.plan.types import Action, ChildJob, DeleteJob, EnsureConfigMap, EnsureService, Look

PHASE_OF = {Stage.PREPARE: Phase.PREPARING, Stage.TRAIN: Phase.TRAINING, Stage.MERGE: Phase.MERGING}
LOOK_AGAIN = 15.0  # seconds until what no watch tells (events, claims, a grace period that is over) is looked at again


@dataclass(frozen=True)
class Step:
    """Where the run stands and what to do about it."""

    phase: Phase | str  # text for the end of a run that only a newer version knows
    reason: str  # a member of `Reason`, or what a finished run's condition said before
    message: str
    status: Status
    actions: tuple[Action, ...] = ()
    warning: bool = False
    poll: bool = False
    requeue_after: float | None = None
    waits: bool = False  # for another run: the deadline does not come nearer meanwhile
    stalled: bool = False  # nothing happens before somebody changes something, although the run has not ended
    look: Look | None = None  # all else is for nothing: more has to be read first

    @property
    def holds(self) -> bool:
        """Whether the run's time stands still."""
        return self.waits or self.phase is Phase.SUSPENDED


Policy = Callable[[Run, datetime], Step | None]


def look_first(run: Run, look: Look) -> Step:
    """Decide nothing before more is read."""
    return Step(held_phase(run), Reason.STARTING, "", run.status, look=look)


def unlooked(run: Run) -> Step | None:
    """Have it read live what is left of other attempts, unless it has been: before an attempt starts or is given up."""
    return look_first(run, Look(leftovers=True)) if run.observed.leftovers is None else None


def fail(run: Run, cause: Cause) -> Step:
    """End the run for good, with its cause as the last words of the current stage."""
    stage = run.current_stage
    if stage is Stage.MERGE:  # only what is asked for after the end opens the run again
        run = Run(run.observed, status=run.merge_noted(), just_done=run.just_done, report=run.report)
    status = run.recorded(stage, reason=cause.reason, message=cause.message) if stage else run.status
    return end(run, Phase.FAILED, cause.reason, cause.message, status)


def end(run: Run, phase: Phase, reason: Reason, message: str, status: Status) -> Step:
    """Set the terminal latch. What still runs is stopped only after that is written; see `finished`."""
    again = 0 if run.active_children() else None
    return Step(phase, reason, message, status, warning=phase is Phase.FAILED, requeue_after=again)


def reopened(status: Status, now: datetime) -> Status:
    """Take off the terminal latch. The deadline of the run that has ended must not end the new work at once."""
    return status.replace(start_time=now, completion_time=None, suspend_time=None, suspended_seconds=None)


def stage_phase(run: Run, stage: Stage) -> Phase:
    """Return the phase of a stage that is not up: a later attempt of the training shows as a restart."""
    again = stage is Stage.TRAIN and (run.record(stage).attempt or 1) > 1
    return Phase.RESTARTING if again else PHASE_OF[stage]


def held_phase(run: Run) -> Phase:
    """Return the phase of a run that cannot go on: Pending when it never began."""
    stage = run.current_stage
    if run.job.spec.run_policy.suspend and stage is not None:
        return Phase.SUSPENDED
    return stage_phase(run, stage) if stage is not None and run.status.has_begun else Phase.PENDING


def adopted(run: Run, stage: Stage, child: ChildJob) -> Status:
    """Return the status naming the Job that runs, also when a crash came between its creation and the status write."""
    start = run.record(stage).start_time or child.created_at
    return run.recorded(stage, job_name=child.name, attempt=child.attempt, start_time=start)


def deletions(children: Iterable[ChildJob]) -> tuple[Action, ...]:
    """Return the actions that delete child Jobs, but those that are going already."""
    return tuple(DeleteJob(c.name, c.uid) for c in children if not c.deleting)


def repairs(run: Run, stage: Stage, child: ChildJob) -> tuple[Action, ...]:
    """Bring back what somebody deleted under a running attempt, and stop what must not run beside it."""
    mended: list[Action] = []
    if stage is Stage.TRAIN and not run.observed.service_exists:
        mended.append(EnsureService(by_uid=child.by_uid))
    if child.name not in run.observed.config_maps:
        mended.append(EnsureConfigMap(stage, child.attempt))
    return (*mended, *deletions(c for c in run.active_children() if c != child))
