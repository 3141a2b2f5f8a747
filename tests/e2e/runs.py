"""What the end-to-end tests say: create a run, watch it to its end, look at its pods, logs and files."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from quickstart import follow, inputs
from quickstart.cluster import choose
from quickstart.pods import run_script
from quickstart.setup import STATE, Ready, existing
from quickstart.shell import Kubectl

SCRIPTS = Path(__file__).parent / "scripts"
# Bounds a run that hangs. A healthy one takes two minutes on two cores, and many where torch comes from a slow disk.
RUN_TIMEOUT = 900.0

Job = dict[str, Any]


def installed() -> Ready:
    """The operator that `make setup` left behind; fails the test when there is none."""
    if not STATE.exists():
        pytest.fail("no operator to test: run `make setup` first (`make test` does)", pytrace=False)
    return existing(choose())


def merged_with(base: Job, changes: Job) -> Job:
    """Return base with the changes laid over it, key by key; None removes a key."""
    result = copy.deepcopy(base)
    for key, value in changes.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict) and isinstance(result.get(key), dict):
            result[key] = merged_with(result[key], value)
        else:
            result[key] = value
    return result


@dataclass
class History:
    """All that could be seen of a run from outside, from its creation to its end."""

    snapshots: list[Job] = field(default_factory=list)

    @property
    def last(self) -> Job:
        return self.snapshots[-1]

    @property
    def phases(self) -> list[str]:
        """Phases in the order in which they were seen, without repetitions."""
        seen: list[str] = []
        for snapshot in self.snapshots:
            phase = snapshot.get("status", {}).get("phase")
            if phase and seen[-1:] != [phase]:
                seen.append(phase)
        return seen

    def progress(self, name: str) -> list[Any]:
        """Values of one progress figure in the order in which they were seen while training, without repetitions."""
        values: list[Any] = []
        for snapshot in self.snapshots:
            value = snapshot.get("status", {}).get("progress", {}).get(name)
            if snapshot.get("status", {}).get("phase") == "Training" and value is not None and values[-1:] != [value]:
                values.append(value)
        return values


class Runs:
    """Creates jobs in a namespace, all from one base document, and looks at what becomes of them."""

    def __init__(self, ready: Ready, namespace: str, base: Job) -> None:
        self.kubectl: Kubectl = ready.kubectl
        self.namespace = namespace
        self._trainer_image = ready.images.trainer
        self._base = base
        self.latest = ""
        """Name of the job that was looked at last."""

    def create(self, name: str, spec: Job, labels: dict[str, str] | None = None) -> Job:
        """Create the base's job under another name, with changes to its spec."""
        metadata = {"name": name, "namespace": self.namespace, "labels": labels or {}}
        document = merged_with(self._base, {"metadata": metadata, "spec": spec})
        self.kubectl("create", "-f", "-", stdin=yaml.safe_dump(document))
        return self.get(name)

    def get(self, name: str) -> Job:
        self.latest = name
        return self.kubectl.get(follow.RESOURCE, name, "-n", self.namespace)

    def to_the_end(self, name: str, timeout: float = RUN_TIMEOUT) -> History:
        """Watch a job until it has ended, well or badly; raises QuickstartError when it has not in time."""
        self.latest = name
        return History(list(follow.watch(self.kubectl, self.namespace, name, timeout)))

    def until(self, name: str, wanted: Callable[[Job], object], what: str, timeout: float = RUN_TIMEOUT) -> Job:
        """Wait until the job's newest state fulfils `wanted`; fails when it ends before."""
        return self._until(name, wanted, what, timeout, may_end=False)

    def until_told(self, name: str, wanted: Callable[[Job], object], what: str, timeout: float = RUN_TIMEOUT) -> Job:
        """Wait until the job's newest state fulfils `wanted`, which may be that of its end."""
        return self._until(name, wanted, what, timeout, may_end=True)

    def _until(self, name: str, wanted: Callable[[Job], object], what: str, timeout: float, *, may_end: bool) -> Job:
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            job = self.get(name)
            if wanted(job):
                return job
            ended = not may_end and follow.ended(job)
            assert not ended, f"ended while waiting for {what}: {follow.explain(self.kubectl, job)}"
            time.sleep(0.5)
        pytest.fail(f"{name}: no sign of {what} in {timeout:.0f} s: {follow.explain(self.kubectl, self.get(name))}")

    def patch(self, name: str, spec: Job) -> None:
        patch = yaml.safe_dump({"spec": spec})
        self.kubectl("patch", follow.RESOURCE, name, "-n", self.namespace, "--type", "merge", "-p", patch)

    def children(self, kind: str, name: str) -> list[Job]:
        """Objects of a kind that belong to the job."""
        return self.kubectl.items(kind, "-n", self.namespace, "-l", f"qwensft.io/job={name}")

    def pods(self, name: str, stage: str, attempt: int = 1) -> list[Job]:
        """Pods of one attempt at a stage, by completion index."""
        selector = f"batch.kubernetes.io/job-name={name}-{stage}-{attempt}"
        found = self.kubectl.items("pods", "-n", self.namespace, "-l", selector)
        return sorted(
            found, key=lambda pod: pod["metadata"]["labels"].get("batch.kubernetes.io/job-completion-index", "")
        )

    def log(self, pod: Job) -> str:
        return self.kubectl("logs", pod["metadata"]["name"], "-n", self.namespace, "-c", "trainer")

    def script(self, name: str, job: Job, *arguments: str, models: str = inputs.MODEL_CLAIM) -> str:
        """Run a script from scripts/ in the trainer image beside the job's volume and the base models; its output."""
        claims = {"/model": models, "/workspace": f"{job['metadata']['name']}-workspace"}
        return run_script(
            self.kubectl, self.namespace, SCRIPTS / name, list(arguments), image=self._trainer_image, claims=claims
        )
