"""Runs from Python on the real cluster: rows of every kind, waiting, logs, figures, why, steering."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas
import pytest
import yaml
from quickstart import inputs

from qwensft import Client
from qwensft.client import AsyncClient, Run
from qwensft.client.errors import NameExistsError, NotFoundError, RefusedError, RunFailedError, WaitTimeoutError

ROWS: list[dict[str, str]] = json.loads((inputs.EXAMPLES / "data" / "handbook.json").read_text())
A_WHILE = 1200.0  # seconds: bounds what hangs, on a machine that others use


@pytest.fixture(scope="module")
def trained(client: Client) -> Run:
    """A run from a list of rows that has succeeded; the tests below look at it."""
    spec = yaml.safe_load((inputs.EXAMPLES / "quickstart.yaml").read_text())["spec"]
    del spec["datasets"]
    spec["training"] |= {"maxSteps": 6, "loggingSteps": 2}
    return client.train("from-a-list", rows=ROWS, **spec).wait(progress=True, timeout=A_WHILE)


@pytest.mark.timeout(1500)
def test_a_list_of_rows_becomes_a_model(client: Client, trained: Run) -> None:
    status = trained.status
    assert status.phase == "Succeeded"
    assert status.outputs is not None
    assert status.outputs.merged is not None
    assert status.dataset is not None
    assert status.dataset.samples == len(ROWS)
    assert str(trained.why()).startswith(f"from-a-list in namespace {client.namespace}: Succeeded")
    assert "use the result: from-a-list-" in trained.why().next_step


def test_the_logs_of_a_run_tell_stage_attempt_and_rank(trained: Run) -> None:
    merge = list(trained.logs())
    assert merge
    assert {(line.stage, line.attempt, line.rank) for line in merge} == {("merge", 1, 0)}
    train = list(trained.logs(stage="train"))
    assert {line.rank for line in train} == {0, 1}
    assert {line.rank for line in trained.logs(stage="train", rank=1)} == {1}
    assert len(list(trained.logs(stage="train", rank=0, tail=3))) == 3
    with pytest.raises(NotFoundError, match="no train pod of rank 7 has started"):
        list(trained.logs(stage="train", rank=7))


def test_following_the_logs_of_a_run_that_has_ended_ends(trained: Run) -> None:
    assert list(trained.logs(follow=True, stage="prepare")) == list(trained.logs(stage="prepare"))


def test_the_figures_of_a_run_are_a_data_frame(trained: Run) -> None:
    frame = trained.metrics()
    assert list(frame.columns) == ["step", "epoch", "loss", "lr", "eval_loss", "attempt"]
    assert list(frame["step"]) == [2, 4, 6]
    assert frame["loss"].notna().all()
    progress = trained.status.progress
    assert progress is not None
    assert frame["loss"].iloc[-1] == pytest.approx(progress.loss, abs=1e-3)


def test_the_report_of_a_run_is_a_page_of_its_own(trained: Run) -> None:
    page = trained.report()
    assert page.startswith("<!DOCTYPE html>")
    assert "from-a-list: training report" in page


def test_nothing_is_left_of_the_pod_that_read_files(client: Client, trained: Run) -> None:
    assert "⟦" in trained.preview()
    left = client.connection.list("pods", labelSelector="app.kubernetes.io/name=qwensft-client")["items"]
    assert all("deletionTimestamp" in pod["metadata"] for pod in left)


def test_a_name_is_taken_once(client: Client, trained: Run, spec: dict[str, Any]) -> None:
    with pytest.raises(NameExistsError, match="choose another name"):
        client.train(trained.name, rows=ROWS, **spec)
    assert trained.status.phase == "Succeeded"


@pytest.mark.timeout(1500)
def test_a_path_and_a_data_frame_become_the_same_rows(client: Client, spec: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "handbook.csv"
    frame = pandas.DataFrame(ROWS)
    # What is nested is JSON in a CSV file; pandas would write it as Python prints it.
    nested = frame["history"].map(lambda turns: json.dumps(turns) if isinstance(turns, list) else "")
    frame.assign(history=nested).to_csv(path, index=False)
    runs = [client.train("from-a-path", rows=path, **spec), client.train("from-a-frame", rows=frame, **spec)]
    for run in runs:
        client.wait_for_job_status(run.name, {"Training", "Merging", "Succeeded"}, timeout=A_WHILE)
        dataset = run.status.dataset
        assert dataset is not None
        assert dataset.samples == len(ROWS)
        run.delete()


@pytest.mark.timeout(1500)
def test_a_run_that_fails_says_why(client: Client, spec: dict[str, Any]) -> None:
    rows = [*ROWS[:3], {"instruction": "What is missing here?"}]
    run = client.train("bad-row", rows=rows, **spec)
    with pytest.raises(RunFailedError, match="InvalidDataset") as failed:
        run.wait(timeout=A_WHILE)
    page = run.why()
    assert (page.phase, page.reason) == ("Failed", "InvalidDataset")
    assert failed.value.message == page.cause
    assert "row 4" in page.cause
    assert "spec.runPolicy.retry" in page.next_step
    assert any("exit code 78" in line for line in page.pods)
    assert any("InvalidDataset" in line for line in page.events)
    run.delete()


@pytest.mark.timeout(1500)
def test_a_held_run_waits_until_it_is_resumed(client: Client, spec: dict[str, Any]) -> None:
    run = client.train("held", rows=ROWS, **spec, run_policy={"suspend": True})
    client.wait_for_job_status("held", {"Suspended"}, timeout=A_WHILE)
    assert "set spec.runPolicy.suspend to false" in run.why().next_step
    with pytest.raises(WaitTimeoutError, match="it goes on by itself"):
        run.wait(timeout=3)
    run.resume()
    client.wait_for_job_status("held", {"Preparing", "Training", "Merging", "Succeeded"}, timeout=A_WHILE)
    run.suspend()
    client.wait_for_job_status("held", {"Suspended"}, timeout=A_WHILE)
    run.delete()


def test_what_the_server_refuses_leaves_nothing(client: Client, spec: dict[str, Any]) -> None:
    spec["storage"] = {"volume": {"claimName": "base-models"}}
    with pytest.raises(RefusedError) as refused:
        client.connection.create("qwensftjobs", {"metadata": {"name": "Refused"}, "spec": {}})
    assert all("Invalid value: " not in problem for problem in refused.value.problems if "name" in problem)
    assert not any(job.metadata.name == "Refused" for job in client.list_jobs())


@pytest.mark.timeout(1500)
async def test_the_same_can_be_awaited(namespace: str, kubeconfig: Path, spec: dict[str, Any]) -> None:
    client = AsyncClient(namespace=namespace, kubeconfig=kubeconfig)
    run = await client.train("awaited", rows=ROWS, **spec, run_policy={"suspend": True})
    async for job in client.watch_job("awaited", timeout=A_WHILE):
        if job.status.phase == "Suspended":
            break
    assert "Suspended" in str(await run.why())
    await run.delete()
    with pytest.raises(NotFoundError):
        await run.status()
