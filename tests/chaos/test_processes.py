"""A process of the control plane or the node is killed in the middle of each stage: the run does not even notice."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Iterator

import pytest
from tests.e2e.runs import Runs

from .acts import TRAINING, attempts, in_the_middle, seconds_taken, seconds_to_a_decision, succeeded
from .breaking import COMPONENTS, component_killed, kill_container, operator_ready, operators
from .figures import Figures
from .witness import Witness


@pytest.mark.parametrize("victim", ["operator", *COMPONENTS])
def test_a_run_goes_on_while_a_process_is_killed_in_each_stage(
    victim: str, runs: Runs, witness: Witness, figures: Figures, chance: random.Random
) -> None:
    name = f"kill-{victim}"
    runs.create(name, {"training": TRAINING})
    for stage in ("prepare", "train", "merge"):
        in_the_middle(runs, name, stage, chance)
        with _killed(runs, victim):
            decision, away = seconds_to_a_decision(runs, time.monotonic())
        figures.add("processes", fault=f"SIGKILL {victim}", stage=stage, decision_s=decision, API_away_s=away)
    job = succeeded(runs, name)
    operator_ready(runs.kubectl)
    assert attempts(job) == {"prepare": 1, "train": 1, "merge": 1}, "pods do not depend on it"
    assert not job["status"].get("restarts")
    witness.check()
    figures.add("processes", fault=f"SIGKILL {victim}", stage="run", steps_lost=0, restarts=0, run_s=seconds_taken(job))


@contextlib.contextmanager
def _killed(runs: Runs, victim: str) -> Iterator[None]:
    if victim != "operator":
        with component_killed(victim):
            yield
        return
    (pod,) = operators(runs.kubectl)
    kill_container(runs.kubectl, pod)
    yield
    operator_ready(runs.kubectl)
