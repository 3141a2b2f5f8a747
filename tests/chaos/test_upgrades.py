"""Operator, image and CRD are upgraded in the middle of a run: it ends as it began."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator

import pytest
import yaml
from quickstart import follow
from quickstart.cluster import choose
from quickstart.setup import Ready, install
from quickstart.shell import REPOSITORY
from tests.e2e.runs import Job, Runs

from .acts import TRAINING, attempts, in_the_middle, seconds_taken, seconds_to_a_decision, succeeded
from .breaking import kill_container, operator_ready, operators
from .figures import Figures
from .newer import newer
from .witness import Witness

CRD = REPOSITORY / "crds" / "qwensft.io_qwensftjobs.yaml"


@pytest.fixture
def _as_before(ready: Ready) -> Iterator[None]:
    """The chart's operator and CRD come back afterwards."""
    yield
    ready.kubectl("annotate", "crd", "qwensftjobs.qwensft.io", "chaos-")
    install(choose(), ready.images)
    operator_ready(ready.kubectl)


def _named(pods: list[Job]) -> set[str]:
    """The images that pods ask for."""
    return {container["image"] for pod in pods for container in pod["spec"]["containers"]}


def _content(pods: list[Job]) -> set[str]:
    """The digests of the images that their containers run."""
    return {status["imageID"] for pod in pods for status in pod["status"]["containerStatuses"]}


@pytest.mark.usefixtures("_as_before")
def test_a_run_ends_as_it_began_under_a_new_operator_image_and_definition(
    ready: Ready, runs: Runs, witness: Witness, figures: Figures, chance: random.Random
) -> None:
    name, kubectl, cluster = "upgraded", runs.kubectl, choose()
    images, older = newer(cluster, ready.images), _content(operators(kubectl))
    runs.create(name, {"training": TRAINING})
    _, pods = in_the_middle(runs, name, "train", chance)

    definition = yaml.safe_load(CRD.read_text())
    definition["metadata"]["annotations"] = definition["metadata"].get("annotations", {}) | {"chaos": "newer"}
    kubectl.apply(definition)
    began = time.monotonic()
    install(cluster, images)
    operator_ready(kubectl)
    assert not older & _content(operators(kubectl)), "the operator is the one of before"
    figures.add(
        "upgrades", fault="upgrade of operator and CRD", stage="train",
        decision_s=seconds_to_a_decision(runs, began)[0],
    )  # fmt: skip

    kill_container(kubectl, pods[1])
    job = succeeded(runs, name)
    assert attempts(job) == {"prepare": 1, "train": 2, "merge": 1}
    attempts_made = (("prepare", 1), ("train", 1), ("train", 2), ("merge", 1))
    made = [pod for stage, attempt in attempts_made for pod in runs.pods(name, stage, attempt)]
    assert _named(made) == {ready.images.trainer}, "a run keeps the image that it began with"
    assert len(_content(made)) == 1, "and not its name alone"
    witness.check()

    runs.create("begun-after", {"training": TRAINING})
    _, begun = in_the_middle(runs, "begun-after", "prepare", chance)
    kubectl("delete", follow.RESOURCE, "begun-after", "-n", runs.namespace, "--wait=false")
    assert _named(begun) == {images.trainer}
    assert not _content(begun) & _content(made), "the trainer's image is the one of before"
    figures.add(
        "upgrades", fault="upgrade of operator, image and CRD", stage="run",
        restarts=job["status"]["restarts"], run_s=seconds_taken(job),
    )  # fmt: skip
