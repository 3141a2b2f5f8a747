"""report.html is made of what lies on the volume, again and again; and no run fails for it."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest

from qwensft_trainer.contract.config import Run
from qwensft_trainer.reporting import file as report_file
from qwensft_trainer.training import checkpoints

from .conftest import Page

RECORDED = Path(__file__).parents[3] / "upgrades" / "v0.2.0" / "volume"


def recorded(tmp_path: Path, name: str) -> tuple[Run, Path]:
    """The directory that a run of a release left, as this version's merge sees it."""
    (left,) = RECORDED.glob(f"{name}-*")
    volume = tmp_path / "workspace"
    shutil.copytree(left, volume / left.name)
    owner = json.loads((left / ".qwensft-owner.json").read_text())
    document = {
        "owner": {key: owner[key] for key in ("uid", "namespace", "name")},
        "runDirectory": str(volume / left.name),
        "model": {"name": "Qwen/Qwen3-0.6B", "path": "/model"},
        "datasets": [{"name": "facts", "format": "alpaca", "path": "/datasets/facts/f.json"}],
        "tuning": {"method": "lora"},
    }
    return Run.model_validate(document), volume


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_run_that_a_release_left_gets_a_page_of_what_that_release_recorded(tmp_path: Path) -> None:
    run, volume = recorded(tmp_path, "succeeded")
    before = contents(volume)
    told = report_file.leave(run, volume)["report"]
    content = (volume / told["path"]).read_bytes()
    assert told == {
        "path": f"{run.run_directory.name}/report.html",
        "sizeBytes": len(content),
        "digest": f"sha256:{hashlib.sha256(content).hexdigest()}",
    }
    text = Page(content.decode()).text
    merged = json.loads((run.run_directory / "merge.json").read_text())["output"]
    for wanted in ("facts", "sha256:7b73ef8a", merged["digest"], merged["path"], "warmupSteps is 100"):
        assert wanted in text
    assert contents(volume) == before | {volume / told["path"]: content}


def test_a_run_without_a_merge_gets_one_too_and_a_second_time_the_same(tmp_path: Path) -> None:
    run, volume = recorded(tmp_path, "merging")
    first = report_file.leave(run, volume)
    assert first
    assert report_file.leave(run, volume) == first
    assert "Merged by" not in (run.run_directory / "report.html").read_text()


def test_the_curve_of_a_resumed_training_holds_the_steps_of_the_attempts_before(tmp_path: Path) -> None:
    run, volume = recorded(tmp_path, "merging")
    first = run.run_directory / "train" / "1"
    second = run.run_directory / "train" / "2"
    shutil.copytree(first, second)
    lost = [{"current_steps": step, "loss": 9.0} for step in (61, 70)]
    kept = [{"current_steps": step, "loss": 4.0 - step / 50} for step in range(10, 101, 10)]
    (first / "trainer_log.jsonl").write_text("".join(f"{json.dumps(entry)}\n" for entry in kept[:6] + lost))
    (second / "trainer_log.jsonl").write_text("".join(f"{json.dumps(entry)}\n" for entry in kept))
    record = json.loads((second / "attempt.json").read_text())
    (second / "attempt.json").write_text(json.dumps(record | {"resumeStep": 60}))
    trained = json.loads(run.train_result.read_text())
    run.train_result.write_text(json.dumps(trained | {"directory": "train/2"}))
    assert report_file.leave(run, volume)
    text = Page((run.run_directory / "report.html").read_text()).text
    assert "3.8\n" in text
    assert "\n9\n" not in text
    assert "Attempts at the training" in text


def test_attempts_of_another_experiment_are_not_this_ones(tmp_path: Path) -> None:
    run, volume = recorded(tmp_path, "merging")
    other = run.run_directory / "train" / "7"
    shutil.copytree(run.run_directory / "train" / "1", other)
    record = json.loads((other / checkpoints.ATTEMPT_FILE).read_text())
    (other / checkpoints.ATTEMPT_FILE).write_text(json.dumps(record | {"configDigest": "sha256:other"}))
    report_file.leave(run, volume)
    assert "Attempts at the training" not in (run.run_directory / "report.html").read_text()


def test_a_page_that_cannot_be_written_is_a_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, volume = recorded(tmp_path, "succeeded")
    (run.run_directory / "report.html").mkdir()
    assert report_file.leave(run, volume) == {}
    assert "warning: report.html is not written: IsADirectoryError" in capsys.readouterr().out


@pytest.mark.parametrize("record", ['{"metrics": 7}', '{"arguments": "- a"}', '{"arguments": "{"}'])
def test_strange_records_are_a_warning(tmp_path: Path, record: str, capsys: pytest.CaptureFixture[str]) -> None:
    run, volume = recorded(tmp_path, "succeeded")
    run.train_result.write_text(record)
    assert report_file.leave(run, volume) == {}
    assert "warning: report.html is not written" in capsys.readouterr().out


def test_somebodys_own_file_of_that_name_stays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, volume = recorded(tmp_path, "succeeded")
    own = run.run_directory / "report.html"
    own.write_text("<h1>mine</h1>")
    assert report_file.leave(run, volume) == {}
    assert own.read_text() == "<h1>mine</h1>"
    assert "is no report of a run: give it another name" in capsys.readouterr().out


def test_a_link_of_somebodys_is_not_followed_and_stays(tmp_path: Path) -> None:
    run, volume = recorded(tmp_path, "succeeded")
    elsewhere = tmp_path / "elsewhere.html"
    elsewhere.write_text('<meta name="generator" content="qwensft-trainer 0.2.0"/>')
    (run.run_directory / "report.html").symlink_to(elsewhere)
    before = elsewhere.read_text()
    assert report_file.leave(run, volume) == {}
    assert (elsewhere.read_text(), (run.run_directory / "report.html").is_symlink()) == (before, True)


def test_a_directory_that_another_job_has_taken_over_is_left_alone(tmp_path: Path) -> None:
    run, volume = recorded(tmp_path, "succeeded")
    marker = run.run_directory / ".qwensft-owner.json"
    marker.write_text(json.dumps(json.loads(marker.read_text()) | {"uid": "another"}))
    assert report_file.leave(run, volume) == {}
    assert not (run.run_directory / "report.html").exists()
