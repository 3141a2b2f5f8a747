"""A namespace that is served goes away, with a training in it: the others do not notice."""

from __future__ import annotations

import random

import yaml
from quickstart import inputs
from quickstart.setup import Ready
from tests.e2e.runs import Runs

from .acts import TRAINING, attempts, in_the_middle, seconds_taken, succeeded
from .breaking import operators
from .figures import Figures
from .witness import Witness, wait_until

GONE = "qwensft-chaos-gone"


def test_the_runs_of_other_namespaces_go_on_when_one_is_deleted(
    ready: Ready, runs: Runs, witness: Witness, figures: Figures, chance: random.Random
) -> None:
    kubectl = ready.kubectl
    inputs.provide(ready, GONE)
    there = Runs(ready, GONE, yaml.safe_load((inputs.EXAMPLES / "quickstart.yaml").read_text()))
    there.create("leaving", {"training": TRAINING, "distribution": {"nodes": 1}})
    there.until("leaving", lambda job: job["status"].get("phase") == "Training", "its training")
    runs.create("staying", {"training": TRAINING})
    in_the_middle(runs, "staying", "prepare", chance)
    (before,) = operators(kubectl)

    kubectl("delete", "namespace", GONE, "--wait=false")
    gone = wait_until(f"namespace {GONE} is gone", lambda: not kubectl.get("namespace", GONE), 300)
    job = succeeded(runs, "staying")
    assert attempts(job) == {"prepare": 1, "train": 1, "merge": 1}
    (after,) = operators(kubectl)
    restarts = [status["restartCount"] for pod in (before, after) for status in pod["status"]["containerStatuses"]]
    assert restarts[0] == restarts[1], "the operator was restarted"
    witness.check()
    figures.add("namespaces", fault="served namespace deleted", stage="train", run_s=seconds_taken(job), gone_s=gone)
