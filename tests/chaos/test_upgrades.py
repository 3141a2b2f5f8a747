"""Operator, image and CRD are upgraded in the middle of a run: it ends as it began."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator

import pytest
import yaml
from quickstart.cluster import choose
from quickstart.setup import RELEASE, SYSTEM_NAMESPACE, Ready, install
from quickstart.shell import REPOSITORY, run
from tests.e2e.runs import Runs

from .acts import TRAINING, attempts, in_the_middle, seconds_taken, seconds_to_a_decision, succeeded
from .breaking import kill_container, operator_ready
from .figures import Figures
from .witness import Witness

CRD = REPOSITORY / "crds" / "qwensft.io_qwensftjobs.yaml"


@pytest.fixture
def _as_before(ready: Ready) -> Iterator[None]:
    """The chart's operator and CRD come back afterwards."""
    yield
    ready.kubectl("annotate", "crd", "qwensftjobs.qwensft.io", "chaos-")
    install(choose(), ready.images)
    operator_ready(ready.kubectl)


@pytest.mark.usefixtures("_as_before")
def test_a_run_ends_as_it_began_under_a_new_operator_image_and_definition(
    ready: Ready, runs: Runs, witness: Witness, figures: Figures, chance: random.Random
) -> None:
    name, kubectl, image = "upgraded", runs.kubectl, ready.images.trainer
    newer = f"{image}-newer"
    run(["ctr", "images", "tag", "--force", image, newer], env=kubectl.env)
    runs.create(name, {"training": TRAINING})
    _, pods = in_the_middle(runs, name, "train", chance)

    definition = yaml.safe_load(CRD.read_text())
    definition["metadata"]["annotations"] = definition["metadata"].get("annotations", {}) | {"chaos": "newer"}
    kubectl.apply(definition)
    began = time.monotonic()
    variables = (f"QWENSFT_TRAINER_IMAGE={newer}", "QWENSFT_LOG_LEVEL=DEBUG")
    kubectl("set", "env", f"deployment/{RELEASE}", "-n", SYSTEM_NAMESPACE, *variables)
    operator_ready(kubectl)
    figures.add(
        "upgrades", fault="upgrade of operator and CRD", stage="train",
        decision_s=seconds_to_a_decision(runs, began)[0],
    )  # fmt: skip

    kill_container(kubectl, pods[1])
    job = succeeded(runs, name)
    assert attempts(job) == {"prepare": 1, "train": 2, "merge": 1}
    images = {
        container["image"]
        for stage, attempt in (("prepare", 1), ("train", 1), ("train", 2), ("merge", 1))
        for pod in runs.pods(name, stage, attempt)
        for container in pod["spec"]["containers"]
    }
    assert images == {image}, "a run keeps the image that it began with"
    witness.check()
    figures.add(
        "upgrades", fault="upgrade of operator, image and CRD", stage="run",
        restarts=job["status"]["restarts"], run_s=seconds_taken(job),
    )  # fmt: skip
