"""The process that reports is started beside the workers, and is no matter to the training, whatever becomes of it."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from qwensft_trainer.contract.config import Run
from qwensft_trainer.contract.errors import Interrupted, StageError
from qwensft_trainer.contract.stage import LINES_FILE, TOLD_FILE, TRACKERS_FILE
from qwensft_trainer.trackers import lines, process
from qwensft_trainer.trackers.child import subject_of
from qwensft_trainer.trackers.process import Reporting

ARGUMENTS = {"learning_rate": 1e-4, "lora_rank": 8, "dataset_dir": "/workspace/run/data", "report_to": "none"}
# A tracker whose library the development tools lack: the process says so and ends.
WANDB = {"runName": "support-8b", "group": "support", "wandb": {"project": "ml", "mode": "offline"}}


def run(tmp_path: Path, trackers: dict[str, Any] | None) -> Run:
    directory = tmp_path / "volume" / "run"
    directory.mkdir(parents=True)
    document: dict[str, Any] = {
        "owner": {"uid": "0f0f-1", "namespace": "team", "name": "support-8b"},
        "runDirectory": directory,
        "model": {"name": "Qwen/Qwen3-8B", "path": "/model"},
        "tuning": {"method": "lora"},
    }
    return Run.model_validate(document | ({"trackers": trackers} if trackers else {}))


def begun(tmp_path: Path, trackers: dict[str, Any] | None) -> Reporting:
    reporting = Reporting(tmp_path, tmp_path / "volume", lambda: False)
    reporting.begin(run(tmp_path, trackers), ARGUMENTS, 2, 40, 8)
    return reporting


def test_a_run_without_trackers_starts_nothing_and_logs_nothing(tmp_path: Path) -> None:
    with begun(tmp_path, None) as reporting:
        assert not (tmp_path / LINES_FILE).exists()
    assert reporting.metrics() == {}


def test_the_process_is_told_which_run_it_reports(tmp_path: Path) -> None:
    with begun(tmp_path, WANDB):
        assert (tmp_path / LINES_FILE).exists()  # the workers look for it
        subject = subject_of(json.loads((tmp_path / TRACKERS_FILE).read_text())["subject"])
    assert subject.identity == {"namespace": "team", "name": "support-8b", "uid": "0f0f-1", "attempt": "2"}
    assert (subject.step, subject.run_name, subject.place) == (40, "support-8b", "/run")
    assert subject.parameters == {"model": "Qwen/Qwen3-8B", "processes": 8, "learning_rate": 1e-4, "lora_rank": 8}


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (None, "Succeeded"),
        (StageError("TrainingFailed", "of CUDA"), "Failed"),
        (Interrupted("asked to"), "Interrupted"),
    ],
)
def test_the_end_is_left_in_the_file_and_the_error_goes_on(
    tmp_path: Path, error: BaseException | None, outcome: str
) -> None:
    reporting = begun(tmp_path, WANDB)
    raised = None
    try:
        with reporting:
            if error is not None:
                raise error
    except BaseException as caught:
        raised = caught
    assert raised is error
    assert lines.Lines(tmp_path / LINES_FILE).next().outcome == outcome


def test_a_process_that_does_not_end_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "_ENDING_SECONDS", 0.5)
    monkeypatch.setattr(sys, "executable", "/bin/sh")
    (sleeper := tmp_path / "sleep.sh").write_text("sleep 600")
    monkeypatch.setattr(process, "_MODULE", (str(sleeper),))
    began = time.monotonic()
    with begun(tmp_path, WANDB):
        pass
    assert time.monotonic() - began < 60


def test_a_process_that_has_ended_before_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(process, "_MODULE", ("-c", "raise SystemExit(9)"))
    with begun(tmp_path, WANDB) as reporting:
        assert reporting._process is not None
        reporting._process.wait()
    assert "the process that reports has ended before (exit code 9)" in capsys.readouterr().out


def test_what_was_told_goes_into_the_report(tmp_path: Path) -> None:
    with begun(tmp_path, WANDB) as reporting:
        entry = {"name": "wandb", "url": "https://wandb/runs/0f0f-1", "run_id": "0f0f-1", "undelivered": 3}
    (tmp_path / TOLD_FILE).write_text(json.dumps({"trackers": [entry]}))
    told = {"name": "wandb", "url": "https://wandb/runs/0f0f-1", "runId": "0f0f-1", "undelivered": 3}
    assert reporting.metrics() == {"trackers": [told]}
