"""The rules by which a run moves on: a chain of small functions, the first that has something to say decides.

Each takes a `Run` and the time and returns a `Step`, or None to leave the matter to the next. `decide` composes the
status from the step. Here stand the chain and the rules of an attempt's life; what belongs together otherwise has a
module of its own. Reasons end up in conditions and events; all are members of `Reason`.
ADR 0096 says why a Job that is made is told as one whose pods start.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from qwensft.api.v1alpha1 import METRICS_PORT, ConditionType, Reason, Stage
from qwensft_operator.plan import merge_progress, progress
from qwensft_operator.plan.causes import Cause, classify, has_failed, told_to_stop, wanted_now
from qwensft_operator.plan.config_maps import config_map_unusable
from qwensft_operator.plan.costs import remembered, step_of
from qwensft_operator.plan.ending import finished, over_deadline, succeeded
from qwensft_operator.plan.gangs import half_done, half_scheduled
from qwensft_operator.plan.leftovers import leftovers_alive
from qwensft_operator.plan.limits import not_allowed
from qwensft_operator.plan.merging import merge_again, merge_unrecorded
from qwensft_operator.plan.needs import SCRAPED
from qwensft_operator.plan.past import forgotten
from qwensft_operator.plan.queueing import going_on, queued
from qwensft_operator.plan.retry import backing_off, retry_requested, stage_failed, stage_lost
from qwensft_operator.plan.run import Run
from qwensft_operator.plan.source_run import source_run_awaited
from qwensft_operator.plan.starting import edited, outdated, stage_starting
from qwensft_operator.plan.startup import readiness
from qwensft_operator.plan.step import (
    LOOK_AGAIN,
    PHASE_OF,
    Policy,
    Step,
    adopted,
    deletions,
    held_phase,
    repairs,
    stage_phase,
    unlooked,
)
from qwensft_operator.plan.suspension import suspended
from qwensft_operator.plan.text import clean
from qwensft_operator.plan.types import (
    Action,
    ChildJob,
    CreateJob,
    EnsureClaim,
    EnsureConfigMap,
    EnsureNetworkPolicies,
    EnsureService,
    JobState,
    Scrape,
)
from qwensft_operator.plan.unclosed import all_over, hold_up, job_stuck, sidecar_left, sidecar_running
from qwensft_operator.plan.volumes import claim_unusable

_UNREACHABLE = (
    f", but its first pod does not answer on port {METRICS_PORT}, so its figures are not known; the run goes on. "
    "Let the operator's pods reach that port: mostly a NetworkPolicy or a mesh keeps them out"
)


def obstructed(run: Run, _: datetime) -> Step | None:
    """Report why the last action was refused; the run stays where it is, and a finished one keeps its last words."""
    obstacle = run.observed.obstacle
    if obstacle is None or run.finished:
        return None
    going = obstacle.reason is Reason.WAITING_FOR_PREVIOUS_RUN
    return Step(held_phase(run), obstacle.reason, clean(obstacle.message), run.status, warning=not going)


def next_stage_met(run: Run, _: datetime) -> Step | None:
    """Take over the next stage's Job, of a pass that did not live to tell: this one has not looked at its pods."""
    stage, child = run.current_stage, run.current_child
    if stage is None or child is None or not run.just_done:
        return None
    message, status = readiness(child.name, child.ready, run.pods_of(stage)), adopted(run, stage, child)
    return Step(stage_phase(run, stage), Reason.PODS_STARTING, message, status, requeue_after=0)


def job_going(run: Run, now: datetime) -> Step | None:
    """Wait for a Job that somebody deletes: only when it is gone, the attempt is lost."""
    stage, child = run.current_stage, run.current_child
    if stage is None or child is None or not child.deleting:
        return None
    held = f", held by its finalizers ({', '.join(child.held_by)})" if child.held_by else ""
    cause = Cause(Reason.JOB_DELETED, f"Job {child.name} is being deleted{held}")
    lost = hold_up(run, child, now)
    if lost is not None:
        cause = replace(lost, message=f"{cause.message}; {lost.message}")
    status = adopted(run, stage, child)
    return Step(stage_phase(run, stage), cause.reason, cause.message, status, warning=True, requeue_after=LOOK_AGAIN)


def previous_attempt_stopping(run: Run, now: datetime) -> Step | None:
    """Stop what still runs of an earlier attempt, and wait until no pod of it is left."""
    stage, leftover = run.current_stage, run.active_children()
    if stage is None or run.current_child is not None or not leftover:
        return None
    cause = hold_up(run, leftover[0], now)
    held = "".join(f"; Job {c.name} is held by its finalizers ({', '.join(c.held_by)})" for c in leftover if c.held_by)
    message = f"waiting for the pods of {', '.join(c.name for c in leftover)} to stop{held}"
    return Step(
        stage_phase(run, stage),
        cause.reason if cause else Reason.WAITING_FOR_PREVIOUS_ATTEMPT,
        f"{message}; {cause.message}" if cause else message,
        run.status,
        deletions(leftover),
        warning=cause is not None,
        requeue_after=LOOK_AGAIN,
    )


def stage_unstarted(run: Run, now: datetime) -> Step | None:
    """Start the reserved attempt of the current stage."""
    stage = run.current_stage
    if stage is None or run.current_child is not None:
        return None
    if (look := unlooked(run)) is not None:
        return look
    record, attempt = run.record(stage), run.record(stage).attempt or 1
    actions: list[Action] = []
    if run.job.spec.storage.volume.claim_template is not None and not run.observed.claim_exists:
        actions.append(EnsureClaim())
    if stage is Stage.TRAIN and not (run.observed.service_exists and run.observed.service_by_uid):
        actions.append(EnsureService())
    if run.observed.network_policies:
        actions.append(EnsureNetworkPolicies())
    actions += [*forgotten(run, stage, attempt), EnsureConfigMap(stage, attempt), CreateJob(stage, attempt)]
    name = run.child_name(stage, attempt)
    status = run.recorded(stage, attempt=attempt, job_name=name, start_time=record.start_time or now)
    # What the next look will find: another status and another event for it would say nothing more.
    message = readiness(name, 0, run.pods_of(stage))
    phase = stage_phase(run, stage)
    return Step(phase, Reason.PODS_STARTING, message, status, tuple(actions), requeue_after=LOOK_AGAIN)


def stage_failing(run: Run, now: datetime) -> Step | None:
    """Say why an attempt is failing while its other pods still stop: too early for the next one."""
    stage, child = run.current_stage, run.current_child
    if stage is None or child is None:
        return None
    pods = run.observed.pods
    stopped = told_to_stop(child, pods) if child.state is JobState.RUNNING else None
    if child.state is not JobState.FAILING and stopped is None and not any(map(has_failed, wanted_now(child, pods))):
        return None
    cause = classify(child, pods, stopped or remembered(run, child))
    # A pod that was deleted is gone when Kubernetes declares the Job failed.
    status = Run(run.observed, status=adopted(run, stage, child)).recorded(
        stage, reason=cause.reason, message=cause.message, failed_attempt=child.attempt
    )
    status = status.replace(progress=progress.stopped(status.progress, step_of(run, stage), now))
    # Kubernetes declares a Job failed only once none of its pods is terminating; a lost node holds that up.
    lost = hold_up(run, child, now)
    if lost is not None:
        cause = replace(lost, message=f"{cause.message}; {lost.message}")
    elif run.pods_of(stage) > 1 and (len(pods) < run.pods_of(stage) or not all_over(pods)):
        cause = replace(cause, message=f"{cause.message}; waiting for the other pods to stop")
    return Step(stage_phase(run, stage), cause.reason, cause.message, status, warning=True, requeue_after=LOOK_AGAIN)


def stage_running(run: Run, now: datetime) -> Step | None:
    """Follow the running attempt and its progress."""
    stage, child = run.current_stage, run.current_child
    if stage is None or child is None:
        return None
    status, mended = going_on(run, stage, child), repairs(run, stage, child)
    message = f"Job {child.name} runs"
    through = LOOK_AGAIN if run.is_through(child) else None  # Kubernetes is about to say so, or else `job_stuck`
    step = Step(PHASE_OF[stage], Reason.RUNNING, message, status, mended, poll=stage in SCRAPED, requeue_after=through)
    scrape = run.observed.scrape
    if _is_unreachable(run, child, scrape):
        message += _UNREACHABLE
        return replace(step, reason=Reason.FIGURES_UNREACHABLE, message=message, warning=True)
    if stage is Stage.MERGE:
        return _merging(run, step)
    if scrape is None:
        return step
    reason = Reason.NON_FINITE_LOSS if scrape.non_finite_loss else Reason.RUNNING
    said = run.status.condition(ConditionType.SUCCEEDED)
    news = said is None or said.reason != reason or _tells_of_earlier_attempts(run, child, now)
    interval = timedelta() if news else run.observed.progress_interval
    figures = progress.live(status.progress, scrape, now, interval=interval)
    step = replace(step, reason=reason, status=status.replace(progress=figures))
    if not scrape.non_finite_loss:
        return step
    at = scrape.step if figures is None else figures.step
    message = f"the loss is not a finite number at step {at}; lower spec.training.learningRate"
    return replace(step, message=message, warning=True)


POLICIES: tuple[Policy, ...] = (
    obstructed,  # the API server has just refused: deciding the same again would hide it
    merge_again,  # with the next, the only ways out of the terminal latch, so they stand before it
    retry_requested,  # after an edit of spec.merge, which gives a failed merge all its retries, too
    finished,
    succeeded,  # before suspended: a run with nothing left to do cannot be held
    next_stage_met,  # before everything that judges an attempt by its pods
    stage_failed,  # before suspended: what has failed is counted, and only reserves the next attempt
    sidecar_left,  # before everything that stops Jobs: what the attempt has achieved is written first
    suspended,  # before everything that could start or restart a pod
    not_allowed,  # before everything that is made for a run; what runs has been allowed
    edited,  # also while a queue holds what was made from the older spec
    half_done,  # what a queue lets go on would not
    queued,  # before the deadline: who waits in a queue does not get nearer to it
    source_run_awaited,  # nor does who waits for another run; and until there is a model, nothing else is looked at
    over_deadline,
    leftovers_alive,  # before a lost Job is given up: somebody may put back what makes it ours
    claim_unusable,
    stage_lost,
    job_going,
    previous_attempt_stopping,  # before the waits: what must stop is stopped at once
    merge_unrecorded,
    backing_off,
    outdated,
    config_map_unusable,  # the last hurdle but what is left of others: what was read is as new as the Job
    stage_unstarted,
    half_scheduled,
    stage_failing,
    sidecar_running,
    job_stuck,
    stage_starting,
    stage_running,
)


def _tells_of_earlier_attempts(run: Run, child: ChildJob, now: datetime) -> bool:
    """Whether the status has no figures of this attempt yet: its first ones come some passes after it runs."""
    known = run.status.progress
    if known is None or known.last_update_time is None:
        return True
    # By a clock that is behind that of the cluster, all figures would be older than the attempt, and each be written.
    return known.last_update_time < child.begun_at <= now


def _is_unreachable(run: Run, child: ChildJob, scrape: Scrape | None) -> bool:
    """Whether the figures cannot be read; what was said before stays until they can, also after a restart of ours."""
    said = run.status.condition(ConditionType.SUCCEEDED)
    known = said is not None and said.reason == Reason.FIGURES_UNREACHABLE and f"Job {child.name} " in said.message
    return known if scrape is None else scrape.unreachable


def _merging(run: Run, step: Step) -> Step:
    """Tell how far a running merge is, as long as its pod has told so."""
    record = merge_progress.live(Run(run.observed, status=step.status).record(Stage.MERGE), run.observed.scrape)
    doing = merge_progress.doing(record)
    return replace(
        step,
        message=f"{step.message}: {doing}" if doing else step.message,
        status=step.status.replace(stages=step.status.stages.replace(merge=record)),
    )
