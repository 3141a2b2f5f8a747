"""A cluster in memory: just enough of Kubernetes, and of the operator's loop around `plan.decide`, to break runs in.

Pods only exist as far as they explain how a Job ended. `Cluster.reconcile` is one pass of the operator as the runtime
makes it; it may crash before any call, meet a changed QwenSFTJob at its status write, or be refused a creation.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from qwensft.api.v1alpha1 import Phase, Reason, Stage, Status, editable_digest, parse_job
from qwensft_operator.plan import Observed, Plan, decide, needs_of
from qwensft_operator.plan.leftovers import job_names, leftovers, unread_jobs
from qwensft_operator.plan.run import DONE_CONDITION, Run
from qwensft_operator.plan.types import (
    Action,
    ChildJob,
    ClaimView,
    CreateJob,
    DeleteJob,
    EnsureClaim,
    EnsureConfigMap,
    EnsureService,
    ForgetAttempt,
    JobState,
    Leftover,
    Obstacle,
    PodView,
    Report,
)

NAME = "support"
NODES = 2
OVER = (Phase.SUCCEEDED, Phase.FAILED)


@dataclass
class SimulatedPod:
    """A pod that has not ended."""

    job: str
    job_uid: str
    run: str
    owned: bool = True
    going: bool = False
    lost: bool = False  # on a node that no longer answers
    bare_of: str = ""  # the label that somebody has taken off

    @property
    def name(self) -> str:
        return f"{self.job}-{self.job_uid}"

    def manifest(self) -> dict[str, Any]:
        """Its metadata."""
        labels = {"qwensft.io/job": NAME, "qwensft.io/job-uid": self.run, "batch.kubernetes.io/job-name": self.job}
        meta: dict[str, Any] = {"name": self.name, "uid": f"pod-{self.job_uid}"}
        meta["labels"] = {key: value for key, value in labels.items() if key != self.bare_of}
        if self.owned:
            meta["ownerReferences"] = [{"kind": "Job", "name": self.job, "uid": self.job_uid, "controller": True}]
        if self.going:
            meta["deletionTimestamp"] = "2026-01-02T00:00:00Z"
        return {"metadata": meta}


@dataclass
class SimulatedJob:
    """A Job of Kubernetes, and the truth about its end that the operator has to find out."""

    name: str
    uid: str
    stage: Stage
    attempt: int
    created_at: datetime
    made_from: str = ""
    state: JobState = JobState.RUNNING
    ready: bool = False
    deleting: bool = False
    held: bool = False  # by a queue
    lost: bool = False  # its pods are on a node that no longer answers, and never end
    kept: bool = False  # its trainers have ended, but sidecars keep its pods
    stuck: bool = False  # its pods have ended, but their finalizers cannot be removed
    finished_at: datetime | None = None
    cause: str = ""  # counted, uncounted, rejected or permanent
    reason: str = ""
    message: str = ""
    pods: tuple[PodView, ...] = ()
    run: str = ""  # UID of the run that owns it, "" when somebody has taken that off
    labelled: bool = True
    pod: SimulatedPod | None = None  # stands for all of them, as long as they have not ended

    def manifest(self) -> dict[str, Any]:
        """The Job as the API server has it, as far as its owner matters."""
        labels = {"qwensft.io/job": NAME, "qwensft.io/stage": str(self.stage), "qwensft.io/attempt": str(self.attempt)}
        meta: dict[str, Any] = {"name": self.name, "uid": self.uid, "creationTimestamp": self.created_at.isoformat()}
        meta["labels"] = labels if self.labelled else {}
        if self.run:
            meta["ownerReferences"] = [{"kind": "QwenSFTJob", "name": NAME, "uid": self.run, "controller": True}]
        if self.deleting:
            meta["deletionTimestamp"] = "2026-01-02T00:00:00Z"
        return {"metadata": meta, "status": {"conditions": [{"type": str(self.state), "status": "True"}]}}

    def view(self) -> ChildJob:
        """The Job as the operator reads it."""
        pods = NODES if self.stage is Stage.TRAIN else 1
        through = self.kept or self.stuck
        up = pods if self.ready and self.state is JobState.RUNNING and not self.lost and not through else 0
        return ChildJob(
            self.name, self.uid, self.stage, self.attempt, self.state, self.created_at, self.finished_at,
            active=pods if self.state is JobState.RUNNING else 0, ready=up, succeeded=pods if self.stuck else 0,
            deleting=self.deleting, suspended=self.held, made_from=self.made_from,
            reason=self.reason, message=self.message,
        )  # fmt: skip


@dataclass
class Pass:
    """One pass of the operator: what it saw, what it decided, whether its status was stored."""

    observed: Observed
    plan: Plan
    stored: bool = False


@dataclass
class Cluster:
    """One QwenSFTJob and everything that belongs to it."""

    spec: dict[str, Any]
    status: dict[str, Any] = field(default_factory=dict)
    version: int = 1
    generation: int = 1
    now: datetime = datetime(2026, 1, 2, tzinfo=UTC)
    uid: str = "run-0"
    jobs: dict[str, SimulatedJob] = field(default_factory=dict)
    strays: list[SimulatedPod] = field(default_factory=list)  # pods that have not ended, and whose Job is gone
    foreign_maps: set[str] = field(default_factory=set)  # ConfigMaps that an earlier run has left
    config_maps: dict[str, Any] = field(default_factory=dict)  # name -> the spec.merge that it was made from
    made_from: dict[str, str] = field(default_factory=dict)  # name of a ConfigMap -> digest of the editable fields
    service: bool = False
    claim: bool = False
    claim_lost: bool = False  # its volume is gone for a while
    rows: bool = True  # the ConfigMap of the dataset, with its key
    refused: bool = False  # a quota refuses Jobs
    passes: list[Pass] = field(default_factory=list)
    newest: dict[Stage, int] = field(default_factory=dict)  # the highest attempt that was ever created
    recorded: set[str] = field(default_factory=set)  # Jobs that a stored status has named
    _uids: itertools.count[int] = field(default_factory=itertools.count)

    @property
    def phase(self) -> str | None:
        """The stored phase."""
        return self.status.get("phase")

    def edit(self, block: str, **fields: Any) -> None:
        """A user edits a block of the spec."""
        before = copy.deepcopy(self.spec)
        self.spec.setdefault(block, {}).update(fields)
        if self.spec != before:
            self.version, self.generation = self.version + 1, self.generation + 1

    def active(self, stage: Stage | None = None) -> list[SimulatedJob]:
        """Jobs that have not ended."""
        jobs = self.jobs.values()
        return [j for j in jobs if j.state in (JobState.RUNNING, JobState.FAILING) and stage in (None, j.stage)]

    def children(self) -> list[SimulatedJob]:
        """Jobs that the operator finds to be the run's own."""
        return [job for job in self.jobs.values() if job.labelled and job.run == self.uid]

    def alive(self) -> list[SimulatedPod]:
        """One pod for each Job, of whatever run, whose pods have not all ended."""
        return [*(job.pod for job in self.active() if job.pod is not None), *self.strays]

    def observe(self) -> Observed:
        """Read everything, as the runtime does."""
        document = {
            "metadata": {"name": NAME, "namespace": "team", "uid": self.uid, "generation": self.generation},
            "spec": self.spec,
        }
        job = parse_job(document | ({"status": self.status} if self.status else {}))
        children = tuple(j.view() for j in self.children())
        run = Run(Observed(job=job, children=children))
        needs = needs_of(run)
        claims = tuple(
            ClaimView(name, "Lost" if self.claim_lost else "Bound", frozenset({"ReadWriteMany"}))
            for name in needs.claims
            if self.claim
        )
        stage = run.current_stage
        own = "" if stage is None else run.child_name(stage, run.record(stage).attempt or 1)
        return Observed(
            job=job,
            children=children,
            pods=self.jobs[needs.pods.name].pods if needs.pods else (),
            service_exists=self.service,
            config_maps=frozenset(self.config_maps),
            config_map_from=self.made_from.get(own, "") if own in self.config_maps else "",
            claim_exists=self.claim,
            claims=claims if needs.claims else None,
            named_config_maps=self._named_config_maps(needs.config_maps),
            leftovers=self._leftovers(run) if needs.leftovers else None,
        )

    def _leftovers(self, run: Run) -> tuple[Leftover, ...]:
        names = job_names(run)
        alive = [p for p in self.alive() if p.bare_of != "qwensft.io/job" or p.job in names]
        pods = [pod.manifest() for pod in alive]
        jobs = [job.manifest() for job in self.jobs.values() if job.labelled]
        jobs += [self.jobs[name].manifest() for name in unread_jobs(run, pods, jobs) if name in self.jobs]
        lost = {p.name: PodView(p.name, phase="Running", node="gone", unreachable=True) for p in alive if p.lost}
        return leftovers(run, pods, jobs, lost)

    def _named_config_maps(self, names: tuple[str, ...]) -> dict[str, frozenset[str]] | None:
        keys = frozenset(dataset["source"]["configMap"]["key"] for dataset in self.spec["datasets"] if self.rows)
        return dict.fromkeys(names, keys) if names else None

    def reconcile(self, *, crash_before: int | None = None, meanwhile: Callable[[], None] | None = None) -> Pass:
        """Make one pass.

        Args:
            crash_before: number of the call that is never made; any number after the actions is the status write.
            meanwhile: what happens after reading.
        """
        version, observed = self.version, self.observe()
        done = Pass(observed, _decided(observed, self.now))
        self.passes.append(done)
        if meanwhile is not None:
            meanwhile()
        for call, action in enumerate(done.plan.actions):
            if call == crash_before:
                return done
            try:
                self._execute(observed, action)
            except _NotYetError:
                return done
            except _RefusedError as refusal:
                obstacle = Obstacle(refusal.reason, "no")
                blocked = replace(observed, obstacle=obstacle)
                done = Pass(blocked, replace(_decided(blocked, self.now), requeue_after=None))
                self.passes[-1] = done
                break
        if crash_before is None and version == self.version:
            done.stored = True
            if done.plan.status is not None:
                self._store(observed, done.plan.status)
        return done

    def _store(self, observed: Observed, status: dict[str, Any]) -> None:
        read = Status.model_validate(status)
        assert read.document() == status, "a status must read back as it was written"
        true = [c.type for c in read.conditions if c.status == "True" and c.type in ("Reconciling", "Stalled")]
        wanted = {"Succeeded": [], "Failed": ["Stalled"]}.get(read.phase or "", ["Reconciling"])
        assert true == wanted, f"kstatus reads {true} in phase {read.phase}"
        assert all(c.reason in set(Reason) for c in read.conditions)
        for stage, type_ in DONE_CONDITION.items():
            record, condition = getattr(read.stages, stage), read.condition(type_)
            recorded = record is not None and record.completion_time is not None
            assert (condition is not None and condition.status == "True") == recorded, f"{type_} contradicts the record"
        self._check_history(observed, read)
        records = (read.stages.prepare, read.stages.train, read.stages.merge)
        self.recorded |= {record.job_name for record in records if record and record.job_name}
        self.status, self.version = status, self.version + 1

    def _check_history(self, observed: Observed, after: Status) -> None:
        """What is over stays over, and what is done stays done, unless the user asks for something."""
        before, said = observed.job.status, after.condition("Succeeded")
        assert said is not None
        anew = said.reason in (Reason.MERGE_CHANGED, Reason.RETRY_REQUESTED)
        if before.phase in OVER and after.phase not in OVER:
            assert anew, "only a merge or a retry opens a finished run again"
            edited = observed.job.metadata.generation > before.observed_generation
            assert edited, "a finished run begins again, and nobody has edited it"
            assert said.reason != Reason.RETRY_REQUESTED or before.phase == Phase.FAILED, "success is not retried"
            assert after.start_time == self.now, "an old deadline ends new work"
        for done in (c.type for c in before.conditions if c.type in ("Prepared", "Trained", "Merged")):
            old, new = before.condition(done), after.condition(done)
            assert old is not None
            assert new is not None
            kept = old.status != "True" or new.status == "True" or new.reason == Reason.DISABLED
            assert kept or (done == "Merged" and said.reason == Reason.MERGE_CHANGED), f"{done} is lost"
        assert (after.suspend_time is not None) == (after.phase == Phase.SUSPENDED), "held, but for no time"

    def _execute(self, observed: Observed, action: Action) -> None:
        match action:
            case EnsureClaim():
                self.claim = True
            case EnsureService():
                self.service = True
            case EnsureConfigMap(stage, attempt):
                merge = {k: v for k, v in observed.job.spec.merge.document().items() if k != "enabled"}
                name = f"{NAME}-{stage}-{attempt}"
                if name in self.foreign_maps:
                    raise _RefusedError(Reason.NAME_CONFLICT)
                if name not in self.config_maps:
                    self.config_maps[name] = merge
                    self.made_from[name] = editable_digest(observed.job.spec, stage)
            case CreateJob(stage, attempt):
                self._create(stage, attempt, editable_digest(observed.job.spec, stage))
            case DeleteJob(name, uid):  # in the foreground: it goes with its pods
                if name in self.jobs and self.jobs[name].uid == uid:
                    self.jobs[name].deleting = True
            case ForgetAttempt(stage, attempt, uid):
                self._forget(f"{NAME}-{stage}-{attempt}", attempt, uid)

    def _forget(self, name: str, attempt: int, uid: str) -> None:
        job = self.jobs.get(name)
        assert job is None or job.state in (JobState.COMPLETE, JobState.FAILED), "an attempt that may run is forgotten"
        if attempt > 1:
            self.config_maps.pop(name, None)
        if job is not None and job.uid == uid:
            job.deleting = True

    def _create(self, stage: Stage, attempt: int, made_from: str) -> None:
        name = f"{NAME}-{stage}-{attempt}"
        if name in self.jobs:
            if self.jobs[name].deleting:
                raise _NotYetError
            if self.jobs[name].run != self.uid:
                raise _RefusedError(Reason.NAME_CONFLICT)
            return
        if self.refused:
            raise _RefusedError(Reason.QUOTA_EXCEEDED)
        assert name in self.config_maps, "pods would wait for their ConfigMap"
        assert stage is not Stage.PREPARE or self.made_from[name] == made_from, (
            "pods would read what an older spec said"
        )
        assert self.claim, "pods would wait for their claim"
        if stage is Stage.TRAIN:
            assert self.service, "pods would not find each other"
        assert self.phase not in OVER, "a start after the end"
        assert not self.alive(), "pods of another attempt or run are alive"
        assert not self.claim_lost, "pods would hang on their claim"
        assert self.rows or stage is not Stage.PREPARE, "the pod would hang on its ConfigMap"
        stored = Status.model_validate(self.status)
        done = stored.condition(DONE_CONDITION[stage])
        assert done is None or done.status != "True", f"{stage} is done, and starts again"
        record = getattr(stored.stages, stage)
        early = record is not None and record.retry_time is not None and self.now < record.retry_time
        assert not early, "a start before the wait is over"
        uid = f"uid-{next(self._uids)}"
        pod = SimulatedPod(name, uid, self.uid)
        self.jobs[name] = SimulatedJob(name, uid, stage, attempt, self.now, run=self.uid, pod=pod, made_from=made_from)
        before = self.newest.get(stage, 0)
        # Nobody can know of a Job that was created just before a crash and deleted by hand before the next pass.
        unknown = attempt == before and name not in self.recorded
        # A number whose ConfigMap tells what an older spec said is not used.
        given_up = stage is not Stage.TRAIN and attempt > before
        assert attempt == before + 1 or unknown or given_up, f"{stage} attempt {attempt} after {before}"
        self.newest[stage] = attempt

    def pods_start(self, job: SimulatedJob) -> None:
        """All pods become ready."""
        job.ready = job.state is JobState.RUNNING and not job.deleting and not job.lost and not job.held

    def half_schedule(self, job: SimulatedJob) -> None:
        """One pod of a gang gets a node, and holds it; there is none for the other."""
        placed = PodView("pod-0", phase="Running", node="node-0", scheduled_at=self.now)
        job.pods = (placed, PodView("pod-1", index=1, unschedulable="0/1 nodes are available"))

    def hold(self, job: SimulatedJob) -> None:
        """A queue suspends the Job, and Kubernetes removes its pods."""
        job.held, job.ready, job.pods = True, False, ()

    def complete(self, job: SimulatedJob) -> None:
        """All pods end well, and Kubernetes says so."""
        job.state, job.finished_at, job.stuck = JobState.COMPLETE, self.now, False
        job.pods = self._ended_pods(job)

    def outlive(self, job: SimulatedJob, code: int) -> None:
        """All trainers end, with that exit code; their sidecars run on."""
        job.kept, job.cause = True, "counted" if code else ""
        job.pods = tuple(
            replace(pod, phase="Running", exit_code=code, sidecars=("proxy",), report=pod.report if code == 0 else None)
            for pod in self._ended_pods(job)
        )

    def get_stuck(self, job: SimulatedJob) -> None:
        """All pods end well, and Kubernetes cannot count them."""
        job.stuck = True
        job.pods = tuple(
            replace(pod, finalizers=("batch.kubernetes.io/job-tracking",)) for pod in self._ended_pods(job)
        )

    def _ended_pods(self, job: SimulatedJob) -> tuple[PodView, ...]:
        metrics: dict[Stage, dict[str, float]] = {
            Stage.PREPARE: {"samples": 200, "tokens": 9000},
            Stage.TRAIN: {"step": 50, "totalSteps": 50},
        }
        outputs = {Stage.TRAIN: {"adapter": {"path": "a"}}, Stage.MERGE: {"merged": {"path": "m"}}}
        report = Report("Succeeded", metrics=metrics.get(job.stage), outputs=outputs.get(job.stage))
        ended = PodView("pod-0", phase="Succeeded", exit_code=0, report=report, finished_at=self.now)
        peer = replace(ended, name="pod-1", index=1, report=Report("Succeeded"))
        return (ended, peer) if job.stage is Stage.TRAIN else (ended,)

    def fail(self, job: SimulatedJob, cause: str) -> None:
        """A pod fails; its peer loses it, and the Job begins to fail."""
        job.state, job.cause = JobState.FAILING, cause
        victim = PodView("pod-0", phase="Failed", exit_code=1, finished_at=self.now)
        peer = PodView(
            "pod-1", index=1, phase="Failed", exit_code=1, finished_at=self.now - timedelta(seconds=1),
            report=Report("Failed", "PeerLost", "lost rank 0"),
        )  # fmt: skip
        match cause:
            case "permanent":
                report = Report("Failed", "InvalidDataset", "row 7")
                victim = replace(victim, exit_code=78, report=report)
                job.reason = "PodFailurePolicy"
                job.message = (
                    f"Container trainer for pod team/{NAME} failed with exit code 78 matching FailJob rule at index 0"
                )
            case "uncounted":
                victim = replace(victim, exit_code=143, disrupted="EvictionByEvictionAPI", disrupted_at=self.now)
                job.reason = "PodFailurePolicy"
                job.message = f"Pod team/{NAME} has condition DisruptionTarget matching FailJob rule at index 1"
            case "rejected":
                victim = PodView("pod-0", phase="Failed", rejected="OutOfcpu: Node didn't have enough resource")
                job.reason, job.message = "BackoffLimitExceeded", "Job has reached the specified backoff limit"
            case _:
                job.reason, job.message = "BackoffLimitExceeded", "Job has reached the specified backoff limit"
        job.pods = (victim, peer) if job.stage is Stage.TRAIN else (victim,)

    def lose_node(self, job: SimulatedJob) -> None:
        """The node of a pod no longer answers: the pod never ends, whatever is asked of it."""
        job.lost = True
        if job.pod is not None:
            job.pod.lost = True
        job.pods = (*job.pods, PodView("pod-9", index=9, phase="Running", node="gone", unreachable=True))

    def delete_node(self, job: SimulatedJob) -> None:
        """Somebody deletes the node object, and Kubernetes the pod."""
        job.lost = False
        if job.pod is not None:
            job.pod.lost = False
        if job.state is JobState.RUNNING and not job.deleting:
            self.fail(job, "uncounted")
            job.pods = tuple(replace(p, disrupted="DeletionByPodGC") if p.disrupted else p for p in job.pods)
        else:
            job.pods = tuple(p for p in job.pods if not p.unreachable)

    def pods_stop(self, job: SimulatedJob) -> None:
        """No pod of a failing or deleted Job is left terminating, but those on a lost node."""
        if job.lost:
            return
        if job.deleting:
            del self.jobs[job.name]
        elif job.state is JobState.FAILING:
            job.state, job.finished_at = JobState.FAILED, self.now

    def remove(self, job: SimulatedJob, *, orphan: bool) -> None:
        """A Job goes at once, its pods later: by garbage collection, or, orphaned, when their work is done."""
        del self.jobs[job.name]
        if job.state in (JobState.RUNNING, JobState.FAILING) and job.pod is not None:
            job.pod.owned, job.pod.going = not orphan, not orphan
            self.strays.append(job.pod)

    def recreate(self, *, orphan: bool, collected: bool) -> None:
        """The run is deleted and applied again. `collected`: garbage collection has been faster than the new run."""
        before = list(self.jobs.values())
        self.uid = f"run-{next(self._uids)}"
        self.status, self.version = {}, self.version + 1
        self.newest, self.recorded = {}, set()
        self.foreign_maps = set(self.config_maps) | self.foreign_maps if orphan else set()
        self.config_maps, self.service = {}, False
        for job in before:
            if orphan:
                job.run = ""
            elif collected and job.run:
                self.remove(job, orphan=False)

    def clean_up(self) -> None:
        """A person does what the run's message says: puts labels back, removes what earlier runs have left."""
        self.foreign_maps = set()
        for job in list(self.jobs.values()):
            job.labelled = True
            if not job.run:
                self.remove(job, orphan=False)

    def move_on(self) -> None:
        """Everything that Kubernetes would do by itself, given time."""
        self.strays = [pod for pod in self.strays if pod.lost]
        for job in [job for job in self.jobs.values() if job.run not in ("", self.uid)]:
            self.remove(job, orphan=False)
        for job in list(self.jobs.values()):
            if job.lost:
                continue
            if job.deleting or job.state is JobState.FAILING:
                self.pods_stop(job)
            elif job.kept:
                continue  # until the operator stops it
            elif job.ready or job.stuck:
                self.complete(job)
            else:
                self.pods_start(job)
            job.ready = job.ready and job.state is JobState.RUNNING


class _NotYetError(Exception):
    """The API server holds an object of that name that is on its way out."""


class _RefusedError(Exception):
    """The API server refuses a creation."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason)
        self.reason = reason


def _decided(observed: Observed, now: datetime) -> Plan:
    before = observed.job.model_dump_json(), repr((observed.children, observed.pods))
    plan = decide(observed, now)
    assert (observed.job.model_dump_json(), repr((observed.children, observed.pods))) == before, (
        "decide has changed its input"
    )
    assert decide(observed, now) == plan, "decide is not deterministic"
    return plan
