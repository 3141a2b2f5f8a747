"""Pods and Jobs of a cluster in memory: just enough of them to explain how an attempt ended."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from qwensft.api.v1alpha1 import Stage
from qwensft_operator.plan.types import (
    ChildJob,
    JobState,
    PodView,
)

NAME = "support"
NODES = 2


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
