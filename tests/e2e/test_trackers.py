"""A run reports to a real MLflow server and to TensorBoard's files, and goes on in the same run after a restart.

QWENSFT_MLFLOW is MLflow's command, with which a server is started on this machine (`make test-trackers`), or the
address of one that is there. Pods of a cluster on this machine reach it where the API server is.
"""

from __future__ import annotations

import json
import os
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from quickstart import follow

from .mlflow_server import serving
from .runs import Runs

NAME = "tracked"
MLFLOW = os.environ.get("QWENSFT_MLFLOW", "")
pytestmark = pytest.mark.skipif(not MLFLOW, reason="QWENSFT_MLFLOW names no MLflow: make test-trackers has one")


@pytest.fixture(scope="module")
def server(kubeconfig: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of MLflow."""
    if "://" in MLFLOW:
        yield MLFLOW.rstrip("/")
        return
    cluster = yaml.safe_load(kubeconfig.read_text())["clusters"][0]["cluster"]
    with serving(Path(MLFLOW), str(urlsplit(cluster["server"]).hostname), tmp_path_factory.mktemp("mlflow")) as url:
        yield url


def asked(server: str, path: str, **body: Any) -> Any:
    """The answer of MLflow's own API, past every client of ours."""
    url, data = f"{server}/api/2.0/mlflow/{path}", json.dumps(body).encode() if body else None
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})  # noqa: S310
    with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
        return json.load(answer)


@pytest.fixture(scope="module")
def job(runs: Runs, server: str) -> dict[str, Any]:
    """A run whose training pod is taken away on the way."""
    report_to = {
        "tags": {"team": "support"},
        "tensorboard": {},
        "mlflow": {"endpoint": server},
        "wandb": {"mode": "offline"},
    }
    training = {"maxSteps": 120, "saveSteps": 20, "loggingSteps": 1, "reportTo": report_to}
    runs.create(NAME, {"training": training, "distribution": {"nodes": 1}, "merge": {"enabled": False}})
    runs.until(NAME, lambda job: job["status"].get("progress", {}).get("step", 0) >= 30, "step 30")
    (pod,) = runs.pods(NAME, "train")
    runs.kubectl("delete", "pod", pod["metadata"]["name"], "-n", runs.namespace)
    history = runs.to_the_end(NAME)
    assert follow.condition(history.last, "Succeeded")["status"] == "True", follow.explain(runs.kubectl, history.last)
    assert history.last["status"]["stages"]["train"]["attempt"] == 2
    return history.last


@pytest.fixture(scope="module")
def run(job: dict[str, Any], runs: Runs, server: str) -> dict[str, Any]:
    """What MLflow holds of it: one run, over both attempts."""
    experiment = asked(server, f"experiments/get-by-name?experiment_name={runs.namespace}")["experiment"][
        "experiment_id"
    ]
    same = f"tags.`qwensft.io/uid` = '{job['metadata']['uid']}'"
    found: list[dict[str, Any]] = asked(server, "runs/search", experiment_ids=[experiment], filter=same)["runs"]
    assert len(found) == 1
    return found[0]


def test_mlflow_has_parameters_tags_and_the_end(run: dict[str, Any], job: dict[str, Any], runs: Runs) -> None:
    assert run["info"]["status"] == "FINISHED"
    assert run["info"]["run_name"] == NAME
    tags = {tag["key"]: tag["value"] for tag in run["data"]["tags"]}
    assert {key: tags[f"qwensft.io/{key}"] for key in ("namespace", "name", "uid", "attempt")} == {
        "namespace": runs.namespace, "name": NAME, "uid": job["metadata"]["uid"], "attempt": "2",
    }  # fmt: skip
    assert tags["team"] == "support"
    parameters = {one["key"]: one["value"] for one in run["data"]["params"]}
    assert parameters["finetuning_type"] == "lora"
    assert parameters["max_steps"] == "120"


def test_mlflow_has_every_step_of_both_attempts_and_the_losses_of_the_status(
    run: dict[str, Any], job: dict[str, Any], server: str
) -> None:
    run_id = run["info"]["run_id"]
    told = asked(server, f"metrics/get-history?run_id={run_id}&metric_key=loss&max_results=1000")["metrics"]
    losses = {int(metric["step"]): metric["value"] for metric in sorted(told, key=lambda one: one["timestamp"])}
    assert sorted(losses) == list(range(1, 121))
    progress = job["status"]["progress"]
    assert round(losses[120], 4) == progress["loss"]
    assert round(losses[1], 4) == progress["initialLoss"]


def test_event_files_and_offline_runs_lie_on_the_volume(job: dict[str, Any], runs: Runs) -> None:
    (url,) = (tracker["url"] for tracker in job["status"]["trackers"] if tracker["name"] == "tensorboard")
    left = json.loads(
        runs.script("read_trackers.py", job, url.strip("/").removesuffix("/tensorboard")).splitlines()[-1]
    )
    progress = job["status"]["progress"]
    assert sorted(map(int, left["losses"])) == list(range(1, 121))
    assert round(left["losses"]["120"], 4) == progress["loss"]
    assert left["files"] == 2
    assert left["wandb"] == 2


def test_the_status_says_where_to_look(run: dict[str, Any], job: dict[str, Any], server: str) -> None:
    trackers = {tracker["name"]: tracker for tracker in job["status"]["trackers"]}
    assert trackers["mlflow"]["runId"] == run["info"]["run_id"]
    assert trackers["mlflow"]["url"].startswith(f"{server}/#/experiments/")
    assert trackers["tensorboard"]["url"].endswith("/tensorboard")
    assert all("undelivered" not in tracker for tracker in trackers.values())
