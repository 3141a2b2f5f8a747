"""Short ways to say what was observed, and to read what was decided.

`scene` builds an observation of a run in one of its stages; `look` decides on it and wraps the plan for assertions.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from qwensft.api.v1alpha1 import Condition, QwenSFTJob, Stage, StageStatus, Status, parse_job
from qwensft_operator.plan import Observed, Plan, decide
from qwensft_operator.plan.references import references
from qwensft_operator.plan.run import DONE_CONDITION, Run
from qwensft_operator.plan.types import ChildJob, JobState, PodView, Report

NOW = datetime(2026, 1, 2, 12, 0, tzinfo=UTC)
EARLIER = NOW - timedelta(hours=1)
UID = "0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0"
RUNNING, FAILING, FAILED, COMPLETE = JobState.RUNNING, JobState.FAILING, JobState.FAILED, JobState.COMPLETE
PREPARE, TRAIN, MERGE = Stage


def job(status: dict[str, Any] | None = None, **spec: Any) -> QwenSFTJob:
    """A two-node job; keyword arguments replace parts of the spec, as in YAML."""
    document = {
        "apiVersion": "qwensft.io/v1alpha1",
        "kind": "QwenSFTJob",
        "metadata": {"name": "support", "namespace": "team", "uid": UID, "generation": 1, "resourceVersion": "1"},
        "spec": {
            "model": {"name": "Qwen/Qwen3-8B"},
            "datasets": [
                {"name": "rows", "format": "alpaca", "source": {"configMap": {"name": "rows", "key": "rows.json"}}}
            ],
            "distribution": {"nodes": 2},
            "storage": {"volume": {"claimTemplate": {"size": "100Gi"}}},
            **spec,
        },
    }
    return parse_job(document if status is None else {**document, "status": status})


def child(stage: Stage = TRAIN, state: JobState = RUNNING, attempt: int = 1, **fields: Any) -> ChildJob:
    """A child Job; a running one has all its pods ready."""
    pods = 2 if stage is TRAIN and state is RUNNING else int(state is RUNNING)
    name = f"support-{stage}-{attempt}"
    built = ChildJob(name, f"uid-{name}", stage, attempt, state, created_at=EARLIER, active=pods, ready=pods)
    return replace(built, **fields)


def pod(index: int = 0, **fields: Any) -> PodView:
    """A pod of a child Job; `failed` and `interrupted` make ended ones."""
    return replace(PodView(name=f"pod-{index}", index=index, phase="Running", node=f"node-{index}"), **fields)


def failed(
    index: int = 0, code: int = 1, reason: str = "", message: str = "", *, at: int = 0, **fields: Any
) -> PodView:
    """A pod that exited with a code `at` seconds after NOW; with a reason or a message, the trainer has reported."""
    report = Report("Failed", reason, message) if reason or message else None
    ended = {"phase": "Failed", "exit_code": code, "finished_at": NOW + timedelta(seconds=at), "report": report}
    return pod(index, **(ended | fields))


def interrupted(index: int = 0, **fields: Any) -> PodView:
    """A pod that was told to stop, and saved its state first."""
    return failed(index, 143, **({"report": Report("Interrupted", "Interrupted", "saved step 40")} | fields))


def scene(
    stage: Stage = TRAIN,
    state: JobState | None = RUNNING,
    *,
    attempt: int = 1,
    restarts: int | None = None,
    recorded: bool = True,
    suspend: bool = False,
    pods: tuple[PodView, ...] = (),
    child_fields: dict[str, Any] | None = None,
    status: dict[str, Any] | None = None,
    observed: dict[str, Any] | None = None,
    **spec: Any,
) -> Observed:
    """A run in a stage, the earlier ones done. `state`: of the attempt's Job, None = there is none.

    `recorded`: whether the status knows of that Job. `status` and `observed` replace fields of theirs.
    """
    if suspend:
        spec["runPolicy"] = {**spec.get("runPolicy", {}), "suspend": True}
    built = job(**spec)
    children = () if state is None else (child(stage, state, attempt, **(child_fields or {})),)
    record = StageStatus(
        attempt=attempt if recorded or attempt > 1 else None,
        job_name=f"support-{stage}-{attempt}" if recorded else None,
        start_time=EARLIER if recorded else None,
        restarts=restarts,
        spec_hash=Run(Observed(job=built)).merge_hash if stage is MERGE else None,
    )
    done = [s for s in Stage if list(Stage).index(s) < list(Stage).index(stage)]
    built_status = Status(
        start_time=EARLIER,
        conditions=tuple(
            Condition(
                type=DONE_CONDITION[s], status="True", reason="Completed", message="", last_transition_time=EARLIER
            )
            for s in done
        ),
    )
    stages = built_status.stages.replace(
        **{s.value: StageStatus(attempt=1, job_name=f"support-{s}-1", completion_time=EARLIER) for s in done},
        **{stage.value: record},
    )
    built_status = built_status.replace(**{"stages": stages, **(status or {})})
    fields: dict[str, Any] = {
        "service_exists": True,
        "claim_exists": True,
        "config_maps": frozenset(c.name for c in children),
        "leftovers": (),
        "named_config_maps": _complete(built, stage),
        **(observed or {}),
    }
    built = built.replace(status=built_status)
    return Observed(job=built, children=children, pods=pods, **fields)


def new_run(**spec: Any) -> Observed:
    """A QwenSFTJob that the operator sees for the first time."""
    built = job(**spec)
    return Observed(job=built, leftovers=(), named_config_maps=_complete(built, PREPARE))


def _complete(job: QwenSFTJob, stage: Stage) -> dict[str, frozenset[str]]:
    """All ConfigMaps that the stage's pods read, with all keys."""
    wanted = [r for r in references(job, stage) if r.kind == "ConfigMap"]
    return {name: frozenset(r.key for r in wanted if r.name == name and r.key) for name in {r.name for r in wanted}}


@dataclass(frozen=True)
class Seen:
    """A decision, and the status that it leads to."""

    plan: Plan
    observed: Observed

    @property
    def status(self) -> Any:
        """The status after the decision (a `Status`; untyped, so that tests may reach into what is there)."""
        return self.observed.job.status if self.plan.status is None else Status.model_validate(self.plan.status)

    @property
    def headline(self) -> tuple[str, str]:
        """Phase and reason."""
        return str(self.status.phase), self.condition("Succeeded").reason

    @property
    def message(self) -> str:
        """What the condition Succeeded says."""
        return self.condition("Succeeded").message

    @property
    def actions(self) -> list[str]:
        """The actions' names, with the object where there are several of a kind."""
        return [_spoken(action) for action in self.plan.actions]

    @property
    def starts(self) -> list[str]:
        """The actions, but for what tidies up after earlier attempts."""
        return [action for action in self.actions if not action.startswith("ForgetAttempt")]

    @property
    def events(self) -> list[tuple[str, str]]:
        """Type and reason of the events."""
        return [(event.type, event.reason) for event in self.plan.events]

    def condition(self, type_: str) -> Condition:
        """A condition of the status."""
        found = self.status.condition(type_)
        assert isinstance(found, Condition), f"no condition {type_}"
        return found

    def stage(self, stage: Stage) -> Any:
        """The record of a stage (a `StageStatus`)."""
        record = getattr(self.status.stages, stage)
        assert isinstance(record, StageStatus), f"no record of {stage}"
        return record

    def then(self, **changes: Any) -> Observed:
        """The next observation: the status was written, and `changes` happened to what else is observed."""
        edit = changes.pop("spec", None)
        now: QwenSFTJob = self.observed.job.replace(status=self.status)
        if edit is not None:
            base = now.spec.document()
            now = job(now.status.document(), **(base | edit))
            now = now.replace(metadata=now.metadata.replace(generation=2))
        return replace(self.observed, job=now, **changes)


def look(observed: Observed, now: datetime = NOW) -> Seen:
    """Decide on an observation."""
    return Seen(decide(observed, now), observed)


def later(**units: float) -> datetime:
    """A moment after NOW."""
    return NOW + timedelta(**units)


def _spoken(action: Any) -> str:
    name = type(action).__name__
    if name == "DeleteJob":
        return f"{name} {action.name}"
    return f"{name} {action.stage}-{action.attempt}" if hasattr(action, "stage") else name
