"""What goes wrong in real life: a bad row in the data, and a training pod that dies half-way."""

from __future__ import annotations

import json

from quickstart import follow, inputs

from .runs import Runs


def test_a_row_without_a_required_field_ends_the_job_before_any_training_pod_exists(runs: Runs) -> None:
    rows = [
        {"instruction": "When is pay day?", "input": "", "output": "The 27th."},
        {"instruction": "Who is the first aider?", "input": ""},
    ]
    runs.kubectl.apply(inputs.rows("broken", runs.namespace, {"broken.json": json.dumps(rows)}))
    dataset = {"name": "broken", "format": "alpaca", "source": {"configMap": {"name": "broken", "key": "broken.json"}}}
    runs.create("invalid", {"datasets": [dataset], "merge": {"enabled": False}})
    history = runs.to_the_end("invalid")

    succeeded = follow.condition(history.last, "Succeeded")
    assert (succeeded["status"], succeeded["reason"]) == ("False", "InvalidDataset")
    assert "broken.json" in succeeded["message"]
    assert "row 2" in succeeded["message"]
    assert "output" in succeeded["message"]
    assert history.last["status"]["phase"] == "Failed"
    assert "Training" not in history.phases
    assert {job["metadata"]["name"] for job in runs.children("jobs", "invalid")} == {"invalid-prepare-1"}
    assert runs.pods("invalid", "train") == []


def test_a_killed_training_pod_restarts_the_whole_gang_which_then_succeeds(runs: Runs) -> None:
    training = {"maxSteps": 80, "saveSteps": 4}  # some twenty seconds more than it takes to kill a pod
    runs.create("killed", {"training": training, "merge": {"enabled": False}})
    runs.until("killed", lambda job: job["status"].get("progress", {}).get("step", 0) >= 5, "step 5")
    first, second = runs.pods("killed", "train")
    runs.kubectl("delete", "pod", second["metadata"]["name"], "-n", runs.namespace, "--grace-period=0", "--force")
    history = runs.to_the_end("killed")

    status = history.last["status"]
    assert follow.condition(history.last, "Succeeded")["status"] == "True", follow.explain(runs.kubectl, history.last)
    assert status["restarts"] == 1
    assert (status["stages"]["train"]["attempt"], status["stages"]["train"]["jobName"]) == (2, "killed-train-2")
    assert status["progress"]["steps"] == "80/80"
    again = runs.pods("killed", "train", attempt=2)
    assert len(again) == 2
    assert first["metadata"]["uid"] not in {pod["metadata"]["uid"] for pod in again}
    # It went on from a checkpoint of attempt 1 and did not begin again.
    assert "checkpoint-" in runs.log(again[0])
