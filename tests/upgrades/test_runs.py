"""Runs that a release began, and today's operator and trainer go on with: nothing is done twice.

The operator is a process on the API server that holds what the release had stored, each pod is today's trainer on the
volume that the release had written, with LLaMA-Factory stood in for.
"""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from benchmarks.control_plane.contestants import Ours

from .conftest import RUNS, Server, Upgraded
from .node import Node, node
from .pods import Pods
from .records import MOMENTS, NAMESPACE, Manifest, Release

JOBS = f"/apis/batch/v1/namespaces/{NAMESPACE}/jobs"
Step = Callable[[Pods, str], Awaitable[object]]
_SETTLED = 15.0  # seconds without a write of the operator's: it has looked at all runs


class Continued:
    """The runs of a release under today's operator."""

    def __init__(self, server: Server, machine: Node) -> None:
        self.server, self.node = server, machine

    def play(self, run: str, *steps: tuple[Step, str]) -> None:
        """Do something with Jobs of a run, as in (Pods.through, "train-1")."""

        async def all_steps() -> None:
            async with self.server.plane.api() as api:
                pods = Pods(api, self.node)
                for step, job in steps:
                    await step(pods, f"{run}-{job}")

        self.server.runner.run(all_steps())

    def run(self, name: str) -> Manifest:
        return self.server.get(f"{RUNS}/{name}")

    def jobs(self, name: str) -> dict[str, Manifest]:
        listed = self.server.get(f"{JOBS}?labelSelector=qwensft.io/job%3D{name}")["items"]
        return {job["metadata"]["name"].removeprefix(f"{name}-"): job for job in listed}

    def reaches(self, name: str, phase: str) -> Manifest:
        """Wait until a run has this phase; return its status."""
        status: Manifest = self.server.until(
            lambda: (run := self.run(name))["status"]["phase"] == phase and run["status"]
        )
        return status

    def images(self, name: str) -> set[str]:
        return {job["spec"]["template"]["spec"]["containers"][0]["image"] for job in self.jobs(name).values()}


@pytest.fixture(scope="module")
def continued(release: Release, upgraded: Upgraded, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Continued]:
    server, root = upgraded.server, tmp_path_factory.mktemp("node")
    operator = Ours(server.plane, image="qwensft/trainer:today").running()
    with node(root) as machine, pytest.MonkeyPatch.context() as patch:
        release.put_volume(machine.workspace)
        for setting in ("SCRAPE", "PROGRESS"):
            patch.setitem(os.environ, f"QWENSFT_{setting}_INTERVAL_SECONDS", "1")
        server.runner.run(operator.__aenter__())
        try:
            yield Continued(server, machine)
        except BaseException:
            print((server.plane.directory / "operator.log").read_text()[-6000:])  # noqa: T201 - pytest shows it
            raise
        finally:
            server.runner.run(operator.__aexit__(None, None, None))


@pytest.fixture(scope="module")
def seen(continued: Continued) -> Continued:
    """Once the operator has looked at every run, and has written what it had to."""

    def versions() -> dict[str, Any]:
        return {m: continued.run(m)["metadata"]["resourceVersion"] for m in MOMENTS if m != "training"}

    before, since = versions(), time.monotonic()

    def settled() -> bool:
        nonlocal before, since
        now = versions()
        if now != before:
            before, since = now, time.monotonic()
        return time.monotonic() - since > _SETTLED

    continued.server.until(settled)
    return continued


@pytest.mark.parametrize("moment", MOMENTS)
def test_an_upgrade_alone_starts_nothing(release: Release, seen: Continued, moment: str) -> None:
    recorded = {
        one["metadata"]["name"].removeprefix(f"{moment}-"): one["metadata"]["uid"]
        for one in release.objects(moment)
        if one["kind"] == "Job"
    }
    assert {name: job["metadata"]["uid"] for name, job in seen.jobs(moment).items()} == recorded
    was, now = release.run(moment)["status"], seen.run(moment)["status"]
    assert (now["phase"], now.get("restarts")) == (was["phase"], was.get("restarts"))
    attempts = {stage: record["attempt"] for stage, record in now["stages"].items()}
    assert attempts == {stage: record["attempt"] for stage, record in was["stages"].items()}
    assert now.get("configuration") == was.get("configuration")


@pytest.mark.parametrize(
    ("moment", "story", "trainings"),
    [
        ("preparing", ((Pods.finish, "prepare-1"), (Pods.through, "train-1"), (Pods.through, "merge-1")), ["None"]),
        ("queued", ((Pods.release, "train-1"), (Pods.through, "train-1"), (Pods.through, "merge-1")), ["None"]),
        # Its attempt dies after the upgrade; the next one goes on from the checkpoint that the release has saved.
        (
            "training",
            ((Pods.lose, "train-1"), (Pods.through, "train-2"), (Pods.through, "merge-1")),
            ["train/1/checkpoint-60"],
        ),
        ("merging", ((Pods.finish, "merge-1"),), []),
    ],
)
def test_a_run_goes_on_from_where_it_was(
    release: Release, seen: Continued, moment: str, story: tuple[tuple[Step, str], ...], trainings: list[str]
) -> None:
    before, already = set(seen.jobs(moment)), len(seen.node.trainings)
    seen.play(moment, *story)
    status = seen.reaches(moment, "Succeeded")

    assert set(seen.jobs(moment)) == before | {job for _, job in story}, "no Job twice"
    assert status.get("restarts", 0) == (1 if moment == "training" else 0)
    assert seen.images(moment) == {f"qwensft/trainer:{release.name.removeprefix('v')}"}, "the image it began with"
    (directory,) = seen.node.workspace.glob(f"{moment}-*")
    went_on_from = [place.removeprefix(f"workspace/{directory.name}/") for place in seen.node.trainings[already:]]
    assert went_on_from == trainings
    assert set(status["outputs"]) == {"adapter", "merged", "report"}


def test_a_run_that_has_succeeded_is_left_alone(seen: Continued) -> None:
    assert seen.run("succeeded")["metadata"]["generation"] == 1
    assert set(seen.jobs("succeeded")) == {"prepare-1", "train-1", "merge-1"}


def test_a_run_that_has_failed_can_be_tried_again(seen: Continued) -> None:
    seen.server.patch(f"{RUNS}/failed", {"spec": {"runPolicy": {"retry": 1}}})
    seen.play("failed", *((Pods.through, job) for job in ("prepare-2", "train-1", "merge-1")))
    seen.reaches("failed", "Succeeded")
    assert set(seen.jobs("failed")) == {"prepare-1", "prepare-2", "train-1", "merge-1"}
