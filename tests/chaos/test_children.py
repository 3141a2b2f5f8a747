"""Somebody deletes everything that belongs to a run, one after the other: it comes back, or another attempt follows."""

from __future__ import annotations

import random
import time

from tests.e2e.runs import Runs

from .acts import TRAINING, attempts, in_the_middle, resumed_from, seconds_taken, step_of, succeeded
from .figures import Figures
from .witness import Witness, wait_until


def test_what_somebody_deletes_comes_back_or_is_tried_again(
    runs: Runs, witness: Witness, figures: Figures, chance: random.Random
) -> None:
    name = "deletions"
    runs.create(name, {"training": TRAINING | {"maxSteps": 90}})

    def delete(kind: str, which: str) -> None:
        runs.kubectl("delete", kind, which, "-n", runs.namespace, "--wait=false")

    def come_back(kind: str, which: str) -> None:
        def uid() -> str | None:
            found = runs.kubectl.get(kind, which, "-n", runs.namespace)
            return str(found["metadata"]["uid"]) if found else None

        before = uid()
        delete(kind, which)
        began = time.monotonic()
        wait_until(f"{kind} {which} is back", lambda: uid() not in (None, before))
        figures.add("children", fault=f"deleted {kind}", stage="train", decision_s=time.monotonic() - began)

    in_the_middle(runs, name, "prepare", chance)
    delete("job", f"{name}-prepare-1")
    in_the_middle(runs, name, "train", chance)
    come_back("service", f"{name}-train")
    come_back("configmap", f"{name}-train-1")
    _, pods = in_the_middle(runs, name, "train", chance)
    delete("pod", pods[1]["metadata"]["name"])
    _next_attempt(runs, name, 2)
    at, _ = in_the_middle(runs, name, "train", chance)
    delete("job", f"{name}-train-2")
    _next_attempt(runs, name, 3)
    in_the_middle(runs, name, "merge", chance)
    start = resumed_from(runs, name, 3)
    delete("job", f"{name}-merge-1")

    job = succeeded(runs, name)
    figures.add(
        "children",
        fault="deleted Jobs and a pod",
        stage="run",
        steps_lost=max(0, step_of(at) - start),
        restarts=job["status"].get("restarts", 0),
        run_s=seconds_taken(job),
    )
    assert attempts(job) == {"prepare": 2, "train": 3, "merge": 2}
    assert start >= step_of(at), "SIGTERM saves the step at which it comes"
    witness.check()


def _next_attempt(runs: Runs, name: str, attempt: int) -> None:
    def begun() -> bool:
        record = runs.get(name)["status"]["stages"].get("train", {})
        return record.get("attempt") == attempt and bool(runs.pods(name, "train", attempt))

    wait_until(f"attempt {attempt}", begun, 300)
