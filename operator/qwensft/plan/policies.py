"""The rules by which a run moves on: a chain of small functions, the first that has something to say decides.

Each takes a `Run` and the time and returns a `Step`, or None to leave the matter to the next. `decide` composes the
status from the step. Reasons end up in conditions and events; all are members of `Reason`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from qwensft.api.v1alpha1 import ConditionType, Phase, Reason, Status
from qwensft.plan import progress
from qwensft.plan.failure import Cause, classify, diagnose, has_failed
from qwensft.plan.run import Run
from qwensft.plan.types import (
    Action,
    ChildJob,
    CreateJob,
    DeleteJob,
    EnsureClaim,
    EnsureConfigMap,
    EnsureService,
    JobState,
    Stage,
)

PHASE_OF = {Stage.PREPARE: Phase.PREPARING, Stage.TRAIN: Phase.TRAINING, Stage.MERGE: Phase.MERGING}
POD_CREATION_CHECK = 15.0  # seconds until a Job without pods is asked why
STORAGE_CHECK = 30.0  # seconds until a claim that could not serve is looked at again


@dataclass(frozen=True)
class Step:
    """Where the run stands and what to do about it."""

    phase: Phase
    reason: str  # a member of `Reason`, or what a finished run's condition said before
    message: str
    status: Status
    actions: tuple[Action, ...] = ()
    warning: bool = False
    poll: bool = False
    requeue_after: float | None = None
    undone: frozenset[Stage] = field(default_factory=frozenset)  # stages whose condition must become False again


Policy = Callable[[Run, datetime], Step | None]


def obstructed(run: Run, _: datetime) -> Step | None:
    """Report why the last action was refused; the run stays where it is, and a finished one keeps its last words."""
    obstacle = run.observed.obstacle
    if obstacle is None or run.finished:
        return None
    return Step(_held_phase(run), Reason(obstacle.reason), obstacle.message, run.status, warning=True)


def merge_again(run: Run, now: datetime) -> Step | None:
    """Merge a trained run anew when spec.merge has changed since its last merge began, however that one ended."""
    child, suspend = run.current_child, run.job.spec.run_policy.suspend
    failed = child is not None and child.stage is Stage.MERGE and child.state is JobState.FAILED
    over = run.finished or failed or Stage.MERGE in run.done
    if not (over and run.merge_outdated) or (run.finished and suspend):
        return None
    attempt = (run.record(Stage.MERGE).attempt or 0) + 1
    status = run.recorded(
        Stage.MERGE, attempt=attempt, job_name=None, restarts=None, message=None,
        start_time=None, completion_time=None, spec_hash=run.merge_hash,
    )  # fmt: skip
    # The deadline of the run that has ended must not end the merge at once.
    status = status.model_copy(update={"completion_time": None} | ({"start_time": now} if run.finished else {}))
    return Step(
        Phase.MERGING, Reason.MERGE_CHANGED, "spec.merge changed: merging again", status,
        requeue_after=0, undone=frozenset({Stage.MERGE}),
    )  # fmt: skip


def finished(run: Run, now: datetime) -> Step | None:
    """Never start anything after the end: stop what still runs, and remove the child Jobs when their time is over."""
    ended, ttl = run.status.completion_time, run.job.spec.run_policy.ttl_seconds_after_finished
    if ended is None:
        return None
    wait = None if ttl is None else (ended + timedelta(seconds=ttl) - now).total_seconds()
    expired = wait is not None and wait <= 0
    surplus = run.observed.children if expired else run.active_children()
    phase, (reason, message) = run.status.phase or Phase.FAILED, _last_words(run)
    actions = _deletions(surplus)
    return Step(phase, reason, message, run.status, actions, requeue_after=None if expired else wait)


def succeeded(run: Run, _: datetime) -> Step | None:
    """End the run: nothing that the spec asks for is left to do."""
    if run.current_stage is not None:
        return None
    outputs, status = run.status.outputs, run.status
    best = outputs and (outputs.merged or outputs.adapter or outputs.model)
    message = f"the model is at {best.path} on claim {best.claim_name}" if best else "all stages completed"
    if Stage.MERGE not in run.stages and run.record(Stage.MERGE).spec_hash and Stage.MERGE not in run.done:
        status = run.recorded(Stage.MERGE, spec_hash=None)  # given up half-way: switched on again, it starts anew
    return _end(run, Phase.SUCCEEDED, Reason.COMPLETED, message, status)


def stage_failed(run: Run, _: datetime) -> Step | None:
    """Try a failed attempt again, or fail the run when its cause is permanent or its restarts are used up."""
    stage, child = run.current_stage, run.current_child
    if stage is None or child is None or child.state is not JobState.FAILED:
        return None
    return _retry_or_fail(run, stage, classify(child, run.observed.pods))


def suspended(run: Run, _: datetime) -> Step | None:
    """Hold every stage: stop what runs, gracefully, and reserve the attempt that resume will start, uncounted."""
    stage, child = run.current_stage, run.current_child
    if not run.job.spec.run_policy.suspend or stage is None:
        return None
    stopping = run.active_children()
    names = ", ".join(c.name for c in stopping)
    message = f"stopping {names}" + ("; the training saves a checkpoint first" if stage is Stage.TRAIN else "")
    lost = child is None and run.record(stage).job_name is not None
    if lost or (child is not None and child.state is JobState.RUNNING):
        # The number is given up before the Job is stopped: from here on, its end is no failure, whatever happens.
        status = run.recorded(stage, attempt=_next_attempt(run, stage), job_name=None, message=None)
        return Step(Phase.SUSPENDED, Reason.SUSPENDING, message, status, requeue_after=0)
    if stopping:
        # A failing Job stops by itself, and then tells why.
        actions = _deletions(c for c in stopping if c != child)
        return Step(Phase.SUSPENDED, Reason.SUSPENDING, message, run.status, actions)
    message = "spec.runPolicy.suspend is true; set it to false to go on"
    return Step(Phase.SUSPENDED, Reason.SUSPENDED, message, run.status)


def over_deadline(run: Run, now: datetime) -> Step | None:
    """Fail a run that takes longer than the user allowed, counted from its first reconcile."""
    limit, start = run.job.spec.run_policy.active_deadline_seconds, run.status.start_time
    if limit is None or start is None or run.current_stage is None or now - start < timedelta(seconds=limit):
        return None
    message = f"the run took longer than spec.runPolicy.activeDeadlineSeconds ({limit} s)"
    return _fail(run, Cause(Reason.DEADLINE_EXCEEDED, message))


def claim_unusable(run: Run, _: datetime) -> Step | None:
    """Say why the storage claim cannot serve instead of letting pods hang on it."""
    observed = run.observed
    if run.current_stage is None or run.current_child is not None:
        return None
    problem = observed.claim_problem
    if not problem and not observed.claim_exists and Stage.PREPARE in run.done:
        # A new, empty claim would lose the prepared data and every checkpoint without a word.
        problem = f"claim {run.job.workspace_claim} with the files of the run is gone; create a new QwenSFTJob"
    if not problem:
        return None
    phase = _held_phase(run)
    return Step(
        phase, Reason.STORAGE_UNAVAILABLE, problem, run.status, warning=True, requeue_after=STORAGE_CHECK
    )  # fmt: skip


def stage_lost(run: Run, _: datetime) -> Step | None:
    """Count an attempt whose Job was deleted by somebody else as failed."""
    stage, child = run.current_stage, run.current_child
    if stage is None:
        return None
    name = run.record(stage).job_name
    if child is None and name:
        return _retry_or_fail(run, stage, Cause(Reason.JOB_DELETED, f"Job {name} was deleted while it ran"))
    if child is None or not child.deleting:
        return None
    message = f"Job {child.name} is being deleted"
    return Step(_phase(run, stage), Reason.JOB_DELETED, message, _adopted(run, stage, child), warning=True)


def stage_unstarted(run: Run, now: datetime) -> Step | None:
    """Start the reserved attempt of the current stage, once no pod of an earlier one is left."""
    stage = run.current_stage
    if stage is None or run.current_child is not None:
        return None
    record, attempt = run.record(stage), run.record(stage).attempt or 1
    leftover = run.active_children()
    if leftover:
        message = f"waiting for the pods of {', '.join(c.name for c in leftover)} to stop"
        reason = Reason.WAITING_FOR_PREVIOUS_ATTEMPT
        return Step(_phase(run, stage), reason, message, run.status, _deletions(leftover))
    if stage is Stage.MERGE and record.spec_hash != run.merge_hash:
        return _reserve_merge(run, attempt)

    actions: list[Action] = []
    if run.job.spec.storage.volume.claim_template is not None and not run.observed.claim_exists:
        actions.append(EnsureClaim())
    if stage is Stage.TRAIN and not run.observed.service_exists:
        actions.append(EnsureService())
    actions += [EnsureConfigMap(stage, attempt), CreateJob(stage, attempt)]
    name = run.child_name(stage, attempt)
    status = run.recorded(stage, attempt=attempt, job_name=name, start_time=record.start_time or now)
    return Step(_phase(run, stage), Reason.STARTING, f"created Job {name}", status, tuple(actions))


def stage_failing(run: Run, _: datetime) -> Step | None:
    """Say why an attempt is failing while its other pods still stop: too early for the next one."""
    stage, child = run.current_stage, run.current_child
    if stage is None or child is None:
        return None
    failing = child.state is JobState.FAILING or any(has_failed(p) for p in run.observed.pods)
    if not failing:
        return None
    cause = classify(child, run.observed.pods)
    # Kubernetes declares a Job failed only once none of its pods is terminating; a lost node holds that up.
    lost = next((p for p in run.observed.pods if p.unreachable), None)
    if lost is not None:
        message = f"pod {lost.name} cannot stop: its node {lost.node} no longer answers; {cause.message}"
        cause = Cause(Reason.NODE_LOST, message)
    message = f"{cause.message}; waiting for the other pods to stop"
    return Step(_phase(run, stage), cause.reason, message, _adopted(run, stage, child), warning=True)


def stage_starting(run: Run, _: datetime) -> Step | None:
    """Say what keeps the running attempt's pods from starting, or how many have."""
    stage, child = run.current_stage, run.current_child
    if stage is None or child is None or run.is_up(child):
        return None
    wanted = run.pods_of(stage)
    cause = diagnose(child, run.observed.pods, wanted, run.observed.creation_failures)
    told = cause or Cause(Reason.PODS_STARTING, f"{child.ready} of {wanted} pods of Job {child.name} are ready")
    return Step(
        _phase(run, stage),
        told.reason,
        told.message,
        _adopted(run, stage, child),
        _repairs(run, stage, child),
        warning=cause is not None,
        requeue_after=POD_CREATION_CHECK if child.active == 0 else None,
    )


def stage_running(run: Run, now: datetime) -> Step | None:
    """Follow the running attempt and its progress."""
    stage, child = run.current_stage, run.current_child
    if stage is None or child is None:
        return None
    status, repairs = _adopted(run, stage, child), _repairs(run, stage, child)
    message = f"Job {child.name} runs"
    step = Step(PHASE_OF[stage], Reason.RUNNING, message, status, repairs, poll=stage is Stage.TRAIN)
    scrape = run.observed.scrape
    if scrape is None:
        return step
    status = status.model_copy(update={"progress": progress.live(status.progress, scrape, now)})
    if not scrape.non_finite_loss:
        return replace(step, status=status)
    message = f"the loss is not a finite number at step {scrape.step}; lower spec.training.learningRate"
    return replace(step, reason=Reason.NON_FINITE_LOSS, message=message, status=status, warning=True)


POLICIES: tuple[Policy, ...] = (
    obstructed,  # the API server has just refused: deciding the same again would hide it
    merge_again,  # the one way out of the terminal latch, so it stands before it
    finished,
    succeeded,  # before suspended: a run with nothing left to do cannot be held
    stage_failed,  # before suspended: what has failed is counted, and only reserves the next attempt
    suspended,  # before everything that could start or restart a pod
    over_deadline,
    claim_unusable,
    stage_lost,
    stage_unstarted,
    stage_failing,
    stage_starting,
    stage_running,
)


def _retry_or_fail(run: Run, stage: Stage, cause: Cause) -> Step:
    record = run.record(stage)
    restarts = (record.restarts or 0) + cause.counted
    allowed = run.allowed_restarts(stage)
    if cause.permanent:
        return _fail(run, cause)
    if cause.counted and restarts > allowed:
        limit = "spec.runPolicy.maxRestarts" if stage is Stage.TRAIN else f"spec.{stage}.retries"
        return _fail(run, replace(cause, message=f"{cause.message}; gave up after {allowed} restarts ({limit})"))
    # Reserve first, create in the next pass: a crash in between can neither skip nor double-count an attempt.
    attempt = _next_attempt(run, stage)
    status = run.recorded(stage, attempt=attempt, job_name=None, restarts=restarts, message=cause.message)
    if stage is Stage.TRAIN:
        status = status.model_copy(update={"restarts": restarts})
    phase = Phase.RESTARTING if stage is Stage.TRAIN else PHASE_OF[stage]
    message = f"{cause.message}; starting attempt {attempt}"
    return Step(phase, cause.reason, message, status, warning=True, requeue_after=0)


def _reserve_merge(run: Run, attempt: int) -> Step:
    """Record what the merge is about to be asked for, before it is: an edit at any later moment is then seen."""
    # The attempt's ConfigMap is immutable: one that exists says what spec.merge said before.
    stale = run.child_name(Stage.MERGE, attempt) in run.observed.config_maps
    attempt = attempt + 1 if stale else attempt
    status = run.recorded(Stage.MERGE, attempt=attempt, job_name=None, spec_hash=run.merge_hash)
    message = f"starting Job {run.child_name(Stage.MERGE, attempt)}"
    return Step(Phase.MERGING, Reason.STARTING, message, status, requeue_after=0)


def _fail(run: Run, cause: Cause) -> Step:
    stage = run.current_stage
    status = run.recorded(stage, message=cause.message) if stage else run.status
    return replace(_end(run, Phase.FAILED, cause.reason, cause.message, status), warning=True)


def _end(run: Run, phase: Phase, reason: Reason, message: str, status: Status) -> Step:
    """Set the terminal latch. What still runs is stopped only after that is written; see `finished`."""
    return Step(phase, reason, message, status, requeue_after=0 if run.active_children() else None)


def _last_words(run: Run) -> tuple[str, str]:
    """Return reason and message of the end, also when another version of the operator has written over them."""
    said = run.status.condition(ConditionType.SUCCEEDED)
    if said is not None and said.status != "Unknown":
        return said.reason, said.message
    if run.status.phase is Phase.SUCCEEDED:
        return Reason.COMPLETED, "all stages completed"
    messages = [m for s in reversed(Stage) if (m := run.record(s).message)]
    return Reason.TRAINING_FAILED, next(iter(messages), "the run has failed")


def _phase(run: Run, stage: Stage) -> Phase:
    """Return the phase of a stage that is not up: a later attempt of the training shows as a restart."""
    again = stage is Stage.TRAIN and (run.record(stage).attempt or 1) > 1
    return Phase.RESTARTING if again else PHASE_OF[stage]


def _held_phase(run: Run) -> Phase:
    """Return the phase of a run that cannot go on: Pending when it never began."""
    stage = run.current_stage
    if run.job.spec.run_policy.suspend and stage is not None:
        return Phase.SUSPENDED
    return Phase.PENDING if stage is None or run.record(Stage.PREPARE).attempt is None else _phase(run, stage)


def _next_attempt(run: Run, stage: Stage) -> int:
    return (run.record(stage).attempt or 1) + 1


def _adopted(run: Run, stage: Stage, child: ChildJob) -> Status:
    """Return the status naming the Job that runs, also when a crash came between its creation and the status write."""
    start = run.record(stage).start_time or child.created_at
    return run.recorded(stage, job_name=child.name, attempt=child.attempt, start_time=start)


def _repairs(run: Run, stage: Stage, child: ChildJob) -> tuple[Action, ...]:
    """Bring back what somebody deleted under a running attempt, and stop what must not run beside it."""
    repairs: list[Action] = []
    if stage is Stage.TRAIN and not run.observed.service_exists:
        repairs.append(EnsureService())
    if child.name not in run.observed.config_maps:
        repairs.append(EnsureConfigMap(stage, child.attempt))
    return (*repairs, *_deletions(c for c in run.active_children() if c != child))


def _deletions(children: Iterable[ChildJob]) -> tuple[Action, ...]:
    return tuple(DeleteJob(c.name, c.uid) for c in children if not c.deleting)
