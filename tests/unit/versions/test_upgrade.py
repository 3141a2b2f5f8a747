"""A run goes on when operator and image are replaced by others of another version, upwards and downwards.

The operator's whole loop works on a Kubernetes in memory, and the trainer's command line runs what it rendered.
LLaMA-Factory alone is stood in for: tokenising, the training processes and the export.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml
from tests.unit.operator.runtime.fakes import FakeKube, job_manifest, make_observer, make_store
from tests.unit.operator.runtime.reconciling import StillTimers
from tests.upgrades.node import Node, node

from qwensft.api.v1alpha1 import Spec
from qwensft.api.v1alpha1.base import Rule
from qwensft_operator.render import Defaults
from qwensft_operator.runtime.execute import Executor
from qwensft_operator.runtime.kinds import Key
from qwensft_operator.runtime.kube import CLAIMS, CONFIG_MAPS, JOBS, PODS, QWENSFTJOBS, Manifest
from qwensft_operator.runtime.metrics import Metrics
from qwensft_operator.runtime.queue import Backoff, WorkQueue
from qwensft_operator.runtime.reconcile import Reconciler
from qwensft_operator.runtime.status import Reporter

from .releases import VERSIONS, install

KEY = ("team", "demo")
JOBS_OF_THE_RUN = {"demo-prepare-1": 0, "demo-train-1": 1, "demo-train-2": 0, "demo-merge-1": 0}  # with exit codes
APPROVED = {
    "type": "Approved",
    "status": "True",
    "reason": "Fine",
    "message": "",
    "lastTransitionTime": "2026-01-01T00:00:00Z",
    "by": "somebody else",
}


class World:
    """A cluster with one run, and its node."""

    def __init__(self, node: Node) -> None:
        self.node, self.kube = node, FakeKube()
        store = make_store(self.kube)
        self.kube.put(CONFIG_MAPS, "team", {"metadata": {"name": "facts"}, "data": {"f.json": "[]"}})
        queue: WorkQueue[Key] = WorkQueue(StillTimers(), Backoff(base=1, jitter=lambda: 0))
        moments = (datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=10 * n) for n in itertools.count())
        self._executor = Executor(self.kube, Defaults("trainer:1"))
        self._reconciler = Reconciler(
            queue,
            store,
            make_observer(self.kube, store, watching=False, nodes=False),
            self._executor,
            Reporter(self.kube, "me"),
            metrics=Metrics(),
            scrape_interval=10,
            now=lambda: next(moments),
        )
        model = {"name": "Qwen/Qwen3-0.6B", "source": {"volume": {"claimName": "models"}}}
        created = job_manifest(model=model, worker={"accelerator": {"count": 0}})
        self.kube.put(QWENSFTJOBS, "team", created | {"status": {"conditions": [APPROVED]}})
        self.kube.put(CLAIMS, "team", {"kind": "PersistentVolumeClaim", "metadata": {"name": "models"}})

    @property
    def status(self) -> Manifest:
        """The stored status."""
        status: Manifest = self.kube.objects["qwensftjobs", *KEY]["status"]
        return status

    def install_image(self, image: str) -> None:
        """The operator is installed with another default image for its pods."""
        self._executor.__init__(self.kube, Defaults(image))  # type: ignore[misc]

    def as_made_before_there_were_uids(self) -> None:
        """Take off the stored objects what operators have written since ADR 0098 and 0099."""
        for manifest in self.kube.objects.values():
            for meta in (manifest["metadata"], manifest.get("spec", {}).get("template", {}).get("metadata", {})):
                meta.get("labels", {}).pop("qwensft.io/job-uid", None)
                meta.get("annotations", {}).pop("qwensft.io/configuration", None)
            manifest.get("spec", {}).get("selector", {}).pop("qwensft.io/job-uid", None)
            manifest.get("data", {}).pop("image", None)
            manifest.get("status", {}).pop("configuration", None)

    def images(self) -> set[str]:
        """The images of all Jobs."""
        jobs = (self.kube.objects["jobs", "team", name] for name in self.kube.named(JOBS))
        return {job["spec"]["template"]["spec"]["containers"][0]["image"] for job in jobs}

    async def passes_until_there_is(self, name: str) -> Manifest:
        """Let the operator work until it has made a Job."""
        for _ in range(12):
            await self._reconciler.handle(KEY)
            assert all(c["reason"] != "InvalidSpec" for c in self.status["conditions"])
            if name in self.kube.named(JOBS):
                return self.kube.objects["jobs", "team", name]
        pytest.fail(f"no Job {name}; the status says {self.status}")

    async def one_pass(self) -> None:
        """Let the operator look at the run once."""
        await self._reconciler.handle(KEY)

    async def passes_until_the_end(self) -> None:
        """Let the operator work until the run has ended."""
        for _ in range(4):
            await self._reconciler.handle(KEY)
        assert "completionTime" in self.status

    def run_pod(self, job: Manifest) -> int:
        """Run the Job's one pod to its end, as the kubelet and the Job controller would; return its exit code."""
        name, uid = job["metadata"]["name"], job["metadata"]["uid"]
        ended = self.node.run(job, self.kube.objects["configmaps", "team", name]["data"])
        terminated = {"exitCode": ended.code, "finishedAt": "2026-01-01T00:00:00Z", "message": ended.message}
        labels = {"batch.kubernetes.io/controller-uid": uid}
        status = {
            "phase": "Failed" if ended.code else "Succeeded",
            "containerStatuses": [{"name": "trainer", "state": {"terminated": terminated}}],
        }
        self.kube.put(PODS, "team", {"metadata": {"name": f"{name}-x", "labels": labels}, "spec": {}, "status": status})
        over = {"type": "Failed" if ended.code else "Complete", "status": "True"}
        over["lastTransitionTime"] = "2026-01-01T00:00:00Z"
        self.kube.put(JOBS, "team", job | {"status": {"conditions": [over]}})
        return ended.code


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with node(tmp_path) as machine:
        machine.next_training(dies=True)
        yield World(machine)


@pytest.mark.parametrize("replaced_before", ["demo-train-1", "demo-train-2", "demo-merge-1"])
@pytest.mark.parametrize("first", VERSIONS)
async def test_a_run_goes_on_under_another_version(world: World, first: str, replaced_before: str) -> None:
    version = first
    for name, code in JOBS_OF_THE_RUN.items():
        if name == replaced_before:
            version = next(other for other in VERSIONS if other != first)
            world.install_image("trainer:2")
        with pytest.MonkeyPatch.context() as patch:
            install(version, patch)
            job = await world.passes_until_there_is(name)
            assert world.run_pod(job) == code
    with pytest.MonkeyPatch.context() as patch:
        install(version, patch)
        await world.passes_until_the_end()

    status = world.status
    assert (status["phase"], status["restarts"]) == ("Succeeded", 1)
    assert set(status["outputs"]) == {"adapter", "merged", "report"}
    # Nothing began anew: the second attempt went on from the first one's checkpoint.
    runs = world.node.workspace / "demo-11111111"
    assert world.node.trainings == ["None", "workspace/demo-11111111/train/1/checkpoint-60"]
    digests = {json.loads((runs / file).read_text())["configDigest"] for file in ("prepare.json", "train.json")}
    assert len(digests) == 1
    # Nothing of the newer version is lost, and nothing of others.
    assert (status["quality"], status["stages"]["evaluate"]) == ({"bleu": 0.4}, {"attempt": 1})
    if (first, replaced_before) != ("newer", "demo-train-1"):  # a newer version has seen the training
        assert status["stages"]["train"]["node"] == "n1"
    assert status["conditions"][0] == APPROVED
    assert {c["type"]: c["status"] for c in status["conditions"][1:]} == {
        "Succeeded": "True",
        "Reconciling": "False",
        "Stalled": "False",
        "Suspended": "False",
        "Prepared": "True",
        "Trained": "True",
        "Merged": "True",
    }
    # What the run began with is what every stage was told.
    for name in JOBS_OF_THE_RUN:
        run = yaml.safe_load(world.kube.objects["configmaps", "team", name]["data"]["run.yaml"])
        assert ("note" in run["tuning"], "audit" in run, run["version"]) == (first == "newer", first == "newer", 1)
    assert world.images() == {"trainer:1"}
    first_files = world.kube.objects["configmaps", "team", "demo-prepare-1"]
    assert status["configuration"] == first_files["metadata"]["annotations"]["qwensft.io/configuration"]


@pytest.mark.parametrize("upgraded_after", ["demo-prepare-1", "demo-train-1", "demo-train-2"])
async def test_a_run_goes_on_that_began_before_its_uid_and_image_were_written_down(
    world: World, upgraded_after: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, code in JOBS_OF_THE_RUN.items():
        job = await world.passes_until_there_is(name)
        if name == upgraded_after:
            world.as_made_before_there_were_uids()
            world.install_image("trainer:2")
            await world.one_pass()
            service = world.kube.objects.get(("services", *KEY[:1], "demo-train"), {"spec": {"selector": {}}})
            assert "qwensft.io/job-uid" not in service["spec"]["selector"], "changed under pods that lack the label"
            assert world.status["stages"]["train" if "train" in name else "prepare"]["jobName"] == name
        assert world.run_pod(job) == code
    await world.passes_until_the_end()
    assert (world.status["phase"], world.status["restarts"]) == ("Succeeded", 1)
    assert world.images() == {"trainer:1"}
    selects_by_uid = "qwensft.io/job-uid" in world.kube.objects["services", "team", "demo-train"]["spec"]["selector"]
    assert selects_by_uid == (upgraded_after != "demo-train-2"), "mended before the next training attempt"


async def test_a_run_that_has_begun_goes_on_against_a_rule_of_a_newer_version(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, code in JOBS_OF_THE_RUN.items():
        job = await world.passes_until_there_is(name)
        assert world.run_pod(job) == code
        monkeypatch.setattr(Spec, "rules", (Rule("false", "never again", check=lambda _: False),))
    await world.passes_until_the_end()
    assert (world.status["phase"], world.status["restarts"]) == ("Succeeded", 1)
