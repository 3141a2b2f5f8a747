"""What the tests say of runs: be in the middle of a stage, how soon the operator decides again, what was lost."""

from __future__ import annotations

import itertools
import random
import re
import time

from quickstart import follow
from quickstart.steps import QuickstartError
from tests.e2e.runs import Job, Runs

STEPS, SAVED_EVERY = 90, 6
TRAINING = {"maxSteps": STEPS, "saveSteps": SAVED_EVERY}
TIMEOUT = 600.0
_numbers = itertools.count(int(time.time()))


def step_of(job: Job) -> int:
    """The newest step that the status tells."""
    return int(job.get("status", {}).get("progress", {}).get("step", 0))


def in_the_middle(runs: Runs, name: str, stage: str, chance: random.Random) -> tuple[Job, list[Job]]:
    """Wait until a stage is under way, for training until some step; return the run and the stage's pods."""
    if stage == "train":
        wanted = chance.randint(SAVED_EVERY, 3 * SAVED_EVERY)
        runs.until(name, lambda job: step_of(job) >= wanted, f"step {wanted}", TIMEOUT)
    deadline = time.monotonic() + TIMEOUT
    while time.monotonic() < deadline:
        job = runs.get(name)
        assert not follow.ended(job), f"ended before {stage}: {follow.explain(runs.kubectl, job)}"
        attempt = job.get("status", {}).get("stages", {}).get(stage, {}).get("attempt", 1)
        pods = [pod for pod in runs.pods(name, stage, attempt) if is_up(pod)]
        if len(pods) == (2 if stage == "train" else 1):
            time.sleep(chance.uniform(0, 1.0))
            return job, pods
        time.sleep(0.2)
    raise AssertionError(f"{name} does not come to {stage}")


def is_up(pod: Job) -> bool:
    """Whether its container runs."""
    statuses = pod["status"].get("containerStatuses", [])
    return bool(statuses) and all("running" in status["state"] for status in statuses)


def seconds_to_a_decision(runs: Runs, since: float) -> tuple[float, float]:
    """Create a run that needs nothing but a decision, as soon as the API server takes it.

    Returns the seconds from `since` (monotonic) until the operator has decided, and those until the API server took it.
    """
    name = f"probe-{next(_numbers)}"
    while True:
        try:
            runs.create(name, {"runPolicy": {"suspend": True}})
            break
        except QuickstartError:
            assert time.monotonic() - since < TIMEOUT, "the API server does not come back"
            time.sleep(0.3)
    taken = time.monotonic()
    phase = ""
    while phase != "Suspended":
        assert time.monotonic() - since < TIMEOUT, "nobody decides"
        try:
            phase = runs.get(name).get("status", {}).get("phase", "")
        except QuickstartError:
            phase = ""
        time.sleep(0.1)
    decided = time.monotonic()
    runs.kubectl("delete", follow.RESOURCE, name, "-n", runs.namespace, "--wait=false")
    return decided - since, taken - since


def succeeded(runs: Runs, name: str) -> Job:
    """Wait for the end, which must be a good one, with the whole training done and a merged model."""
    job = runs.to_the_end(name, TIMEOUT).last
    status = job["status"]
    assert follow.condition(job, "Succeeded")["status"] == "True", follow.explain(runs.kubectl, job)
    assert status["progress"]["steps"] == f"{STEPS}/{STEPS}"
    assert status["outputs"]["merged"]["digest"]
    return job


def resumed_from(runs: Runs, name: str, attempt: int) -> int:
    """The step from which an attempt at the training went on; 0 when it began anew."""
    said = runs.log(runs.pods(name, "train", attempt)[0])
    found = re.search(rf"attempt {attempt} resumes from \S*checkpoint-(\d+)", said)
    return int(found[1]) if found else 0


def attempts(job: Job) -> dict[str, int]:
    """How many attempts each stage took."""
    return {stage: record["attempt"] for stage, record in job["status"]["stages"].items()}


def seconds_taken(job: Job) -> float:
    """From the run's first pass to its end."""
    read = [time.strptime(job["status"][field], "%Y-%m-%dT%H:%M:%SZ") for field in ("startTime", "completionTime")]
    return time.mktime(read[1]) - time.mktime(read[0])
