"""A cluster in memory: just enough of Kubernetes, and of the operator's loop around `plan.decide`, to break runs in.

Pods only exist as far as they explain how a Job ended. `Cluster.reconcile` is one pass of the operator as the runtime
makes it; it may crash before any call, meet a changed QwenSFTJob at its status write, or be refused a creation.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from qwensft.api.v1alpha1 import Phase, Reason, Stage, Status, editable_digest, parse_job
from qwensft_operator.plan import Observed, Plan, decide, needs_of
from qwensft_operator.plan.leftovers import job_names, leftovers, unread_jobs
from qwensft_operator.plan.run import DONE_CONDITION, Run
from qwensft_operator.plan.types import (
    Action,
    ClaimView,
    CreateJob,
    DeleteJob,
    EnsureClaim,
    EnsureConfigMap,
    EnsureService,
    ForgetAttempt,
    JobState,
    Leftover,
    Look,
    Obstacle,
    PodView,
)

from .moves import Moves
from .simulated import NAME, SimulatedJob, SimulatedPod

OVER = (Phase.SUCCEEDED, Phase.FAILED)


@dataclass
class Pass:
    """One pass of the operator: what it saw, what it decided, whether its status was stored."""

    observed: Observed
    plan: Plan
    stored: bool = False


@dataclass
class Cluster(Moves):
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
            known_leftovers=self._leftovers(run, watched=True) if needs.leftovers else (),
        )

    def look(self, observed: Observed, what: Look) -> Observed:
        """Read more, as the runtime does."""
        if what.config_maps:
            observed = replace(observed, named_config_maps=self._named_config_maps(what.config_maps))
        return replace(observed, leftovers=self._leftovers(Run(observed))) if what.leftovers else observed

    def _leftovers(self, run: Run, *, watched: bool = False) -> tuple[Leftover, ...]:
        names = job_names(run)
        alive = [p for p in self.alive() if p.bare_of != "qwensft.io/job" or (p.job in names and not watched)]
        pods = [pod.manifest() for pod in alive]
        jobs = [job.manifest() for job in self.jobs.values() if job.labelled]
        jobs += [self.jobs[name].manifest() for name in unread_jobs(run, pods, jobs) if name in self.jobs]
        lost = {p.name: PodView(p.name, phase="Running", node="gone", unreachable=True) for p in alive if p.lost}
        return leftovers(run, pods, jobs, lost)

    def _named_config_maps(self, names: tuple[str, ...]) -> dict[str, frozenset[str]]:
        keys = frozenset(dataset["source"]["configMap"]["key"] for dataset in self.spec["datasets"] if self.rows)
        return dict.fromkeys(names, keys)

    def reconcile(self, *, crash_before: int | None = None, meanwhile: Callable[[], None] | None = None) -> Pass:
        """Make one pass.

        Args:
            crash_before: number of the call that is never made; any number after the actions is the status write.
            meanwhile: what happens after reading.
        """
        version, observed = self.version, self.observe()
        plan = _decided(observed, self.now)
        while plan.look is not None:
            observed = self.look(observed, plan.look)
            plan = _decided(observed, self.now)
        done = Pass(observed, plan)
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
