"""Suspending a run gives its pods back and keeps its work; resuming goes on from there."""

from __future__ import annotations

from quickstart import follow

from .runs import Runs


def test_a_suspended_run_frees_its_pods_and_goes_on_when_resumed(runs: Runs) -> None:
    # Many steps: the tiny model makes several a second, and it must still be training when the suspension reaches it.
    runs.create(
        "pause",
        {
            "training": {"maxSteps": 150, "saveSteps": 1000},
            "distribution": {"nodes": 1},
            "merge": {"enabled": False},
        },
    )
    running = runs.until("pause", lambda job: job["status"].get("progress", {}).get("step", 0) >= 3, "step 3")
    runs.patch("pause", {"runPolicy": {"suspend": True}})
    suspended = runs.until(
        "pause", lambda job: follow.condition(job, "Suspended").get("status") == "True", "being suspended"
    )
    assert suspended["status"]["phase"] == "Suspended"
    assert follow.condition(suspended, "Reconciling")["status"] == "True"
    assert not follow.ended(suspended)
    runs.kubectl("wait", "pods", "-n", runs.namespace, "-l", "qwensft.io/job=pause,qwensft.io/stage=train",
                 "--for=delete", "--timeout=90s")  # fmt: skip
    assert runs.pods("pause", "train") == []

    runs.patch("pause", {"runPolicy": {"suspend": False}})
    history = runs.to_the_end("pause")
    status = history.last["status"]
    assert follow.condition(history.last, "Succeeded")["status"] == "True", follow.explain(runs.kubectl, history.last)
    assert status["progress"]["steps"] == "150/150"
    assert status["stages"]["train"]["attempt"] == 2
    assert status.get("restarts", 0) == 0
    # The step at which it was stopped was saved: training went on behind it, although no checkpoint was due.
    (pod,) = runs.pods("pause", "train", attempt=2)
    assert "checkpoint-" in runs.log(pod)
    assert running["status"]["progress"]["step"] >= 3
