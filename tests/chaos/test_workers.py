"""What runs the user's work is killed in the middle of each stage: another attempt goes on from what was saved."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from quickstart.shell import Kubectl
from tests.e2e.runs import Job, Runs

from .acts import SAVED_EVERY, TRAINING, attempts, in_the_middle, resumed_from, seconds_taken, step_of, succeeded
from .breaking import kill_container, kill_sandbox, kill_worker
from .figures import Figures
from .witness import Witness

Kill = Callable[[Kubectl, Job], None]


KILLS: dict[str, Kill] = {"worker": kill_worker, "sandbox": kill_sandbox}
# A pod whose sandbox is gone is told to stop and saves a checkpoint: an interruption that came further costs nothing.
RESTARTS = {"worker": 1, "sandbox": 0}


@pytest.mark.parametrize("what", KILLS)
def test_a_killed_pod_costs_no_more_steps_than_since_the_last_checkpoint(
    what: str, runs: Runs, witness: Witness, figures: Figures, chance: random.Random
) -> None:
    name, kill = f"kill-{what}", KILLS[what]
    # Of the other stages there is one process, which does the work itself.
    kill_the_only_one = kill_sandbox if what == "sandbox" else kill_container
    runs.create(name, {"training": TRAINING})
    _, pods = in_the_middle(runs, name, "prepare", chance)
    kill_the_only_one(runs.kubectl, pods[0])
    at, pods = in_the_middle(runs, name, "train", chance)
    kill(runs.kubectl, pods[chance.randrange(2)])
    seen = max(step_of(at), step_of(runs.get(name)))
    in_the_middle(runs, name, "merge", chance)
    start = resumed_from(runs, name, 2)
    _, pods = in_the_middle(runs, name, "merge", chance)
    kill_the_only_one(runs.kubectl, pods[0])

    job = succeeded(runs, name)
    figures.add(
        "workers",
        fault=f"SIGKILL {what}",
        stage="run",
        steps_lost=max(0, seen - start),
        restarts=job["status"].get("restarts", 0),
        run_s=seconds_taken(job),
        attempts=attempts(job),
    )
    assert start >= seen // SAVED_EVERY * SAVED_EVERY, f"step {seen} was seen, and the next attempt began at {start}"
    assert attempts(job) == {"prepare": 2, "train": 2, "merge": 2}
    assert job["status"].get("restarts", 0) == RESTARTS[what]
    witness.check()
