"""Whatever happens in a stage, the exit code and the termination message tell it."""

from __future__ import annotations

import errno
import importlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from tests.hubs import huggingface
from tests.hubs.fixtures import running

from qwensft_trainer import cli
from qwensft_trainer.base.log import log
from qwensft_trainer.contract import memory
from qwensft_trainer.contract.errors import Interrupted, StageError, invalid_model
from qwensft_trainer.contract.stage import Result, StageContext
from qwensft_trainer.model import source as model_source
from qwensft_trainer.stages import prepare

from . import models
from .conftest import UNREADABLE, Scene


@pytest.fixture(autouse=True)
def restored_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", os.environ.copy())


def run(scene: Scene, stage: str = "prepare", *, rewrite: bool = True) -> tuple[int, dict[str, Any]]:
    """Run a stage on the scene; with `rewrite` its configuration files are written anew before."""
    if rewrite:
        _ = scene.context
    code = cli.main([stage, *scene.arguments])
    return code, json.loads((scene.root / "termination-log").read_text())


def test_an_invalid_dataset_ends_with_78_and_the_row(scene: Scene) -> None:
    models.write(scene.root / "model", "qwen3")
    scene.add_dataset("support", [{"instruction": "Hi"}])
    os.environ["QWENSFT_ATTEMPT"] = "3"
    code, message = run(scene)
    assert code == message["exitCode"] == 78
    assert (message["outcome"], message["stage"], message["attempt"]) == ("Failed", "prepare", 3)
    assert message["reason"] == "InvalidDataset"
    assert "row 1: field 'output' is missing" in message["message"]


@pytest.mark.parametrize(("stage", "field"), [("prepare", "prepare"), ("train", "worker"), ("merge", "merge")])
def test_a_limit_below_what_any_stage_takes_is_told_before_all_else(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, stage: str, field: str
) -> None:
    """A LimitRange's default, of a container that says nothing; that there is no model either is told afterwards."""
    monkeypatch.setattr(memory, "memory_limit", lambda: 64 * 2**20)
    code, message = run(scene, stage)
    assert (code, message["reason"]) == (1, "OutOfMemory")
    assert "may use 64 MiB of memory" in message["message"]
    assert f"raise the memory limit in spec.{field}.resources" in message["message"]
    assert "LimitRange" in message["message"]


def test_sigterm_ends_a_stage_at_once_and_is_told(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    def asked_to_stop(_: StageContext) -> Result:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(10)
        raise AssertionError("the stage went on")

    monkeypatch.setattr(prepare, "main", asked_to_stop)
    code, message = run(scene)
    assert code == message["exitCode"] == 143
    assert (message["outcome"], message["reason"]) == ("Interrupted", "Interrupted")


def test_sigterm_in_a_library_that_hides_what_it_catches_is_told_all_the_same(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load_tokenizer() -> None:  # as LLaMA-Factory's does
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(10)
        except Exception as error:
            raise invalid_model("Failed to load tokenizer.") from error

    def load(_: StageContext) -> Result:
        load_tokenizer()
        raise AssertionError("the stage went on")

    monkeypatch.setattr(prepare, "main", load)
    code, message = run(scene)
    assert (code, message["outcome"], message["reason"]) == (143, "Interrupted", "Interrupted")


def test_sigterm_where_python_drops_exceptions_is_asked_again(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    class Resource:
        def __del__(self) -> None:
            os.kill(os.getpid(), signal.SIGTERM)

    def load(_: StageContext) -> Result:
        Resource()
        time.sleep(10)
        raise AssertionError("the stage went on")

    monkeypatch.setattr(prepare, "main", load)
    code, message = run(scene)
    assert (code, message["outcome"]) == (143, "Interrupted")


@pytest.mark.parametrize(
    ("error", "code", "reason"),
    [
        (invalid_model("no"), 78, "InvalidModel"),
        (StageError("DownloadFailed", "later"), 1, "DownloadFailed"),
        (Interrupted("stop"), 143, "Interrupted"),
        (OSError(errno.ENOSPC, "No space left on device", "/workspace/x"), 1, "DiskFull"),
        (PermissionError(errno.EACCES, "Permission denied", "/workspace"), 1, "PreparationFailed"),
        (MemoryError(), 1, "OutOfMemory"),
        (KeyError("surprise"), 1, "PreparationFailed"),
    ],
)
def test_every_kind_of_failure_has_its_exit_code(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, reason: str
) -> None:
    def fail(_: StageContext) -> Result:
        raise error

    monkeypatch.setattr(prepare, "main", fail)
    found, message = run(scene)
    assert (found, message["exitCode"], message["reason"]) == (code, code, reason)
    assert message["outcome"] == ("Interrupted" if code == 143 else "Failed")


@pytest.mark.parametrize("name", ["etc/run.yaml", "etc/train.yaml", "model/config.json", "model/model.safetensors"])
def test_a_volume_in_trouble_is_no_bad_model_and_no_bad_configuration(
    scene: Scene, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_source, "MOUNT", Path("/"))  # else the link in place of a file would lead out of it
    models.write(scene.root / "model", "qwen3")
    scene.add_dataset("support", [{"instruction": "Hi", "output": "Hello"}])
    _ = scene.context
    (scene.root / name).unlink()
    (scene.root / name).symlink_to(UNREADABLE)
    code, message = run(scene, rewrite=False)
    assert (code, message["reason"]) == (1, "PreparationFailed")
    assert "Input/output error" in message["message"]
    assert "look at the storage" in message["message"]


def test_the_rank_is_told_in_training_only(scene: Scene) -> None:
    os.environ["NODE_RANK"] = "3"
    assert run(scene, "train")[1]["rank"] == 3
    assert "rank" not in run(scene, "prepare")[1]


def test_a_broken_configuration_ends_with_78(scene: Scene) -> None:
    scene.document["model"] = {}
    assert run(scene, "merge")[0] == 78


def test_a_token_is_shown_nowhere(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail(_: StageContext) -> Result:
        token = os.environ["HF_TOKEN"]
        log(f"sending {token}")
        raise RuntimeError(f"the client says {token}") from ValueError(f"Illegal header value b'Bearer {token}\\n'")

    os.environ["HF_TOKEN"] = "hf_abcdefgh\n"  # noqa: S105
    monkeypatch.setattr(prepare, "main", fail)
    _, message = run(scene)
    assert message["message"] == "RuntimeError: the client says [redacted]"
    shown = "".join(capfd.readouterr())
    assert "Traceback" in shown
    assert "hf_abcdefgh" not in shown


def test_a_process_with_a_broken_token_shows_no_part_of_it(scene: Scene, tmp_path: Path) -> None:
    scene.add_dataset("support", [{"instruction": "Hi", "output": "Hello"}])
    (tmp_path / "hub" / "models").mkdir(parents=True)
    with running(huggingface, tmp_path / "hub") as hub:
        scene.document["model"]["download"] = {"hub": "huggingFace", "repo": "Qwen/Qwen3-0.6B", "endpoint": hub.url}
        _ = scene.context
        ended = subprocess.run(
            [sys.executable, "-m", "qwensft_trainer.cli", "prepare", *scene.arguments],
            env=os.environ | {"HF_TOKEN": "first-half\nsecond-half"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
            check=False,
        )
    told = (scene.root / "termination-log").read_text()
    assert (ended.returncode, json.loads(told)["exitCode"]) == (78, 78)
    assert "spec.model.source.huggingFace.tokenSecretRef" in told
    assert "half" not in ended.stdout + told


def test_an_unknown_stage_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["fly"])
    assert "invalid choice" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("stage", "number", "code"),
    [
        ("prepare", errno.EACCES, 78),
        ("train", errno.EACCES, 78),
        ("merge", errno.EACCES, 78),
        ("prepare", errno.EROFS, 1),  # failing storage turns so, and may be mended
        ("train", errno.EROFS, 1),
        ("merge", errno.EROFS, 1),
    ],
)
def test_a_volume_that_may_not_be_written_ends_the_run_with_the_fix(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, stage: str, number: int, code: int
) -> None:
    told = _ended_by(scene, monkeypatch, stage, OSError(number, os.strerror(number), str(scene.root / "workspace/run")))
    assert (told["exitCode"], told["reason"]) == (code, "VolumeAccessDenied")


@pytest.mark.parametrize(("stage", "code"), [("prepare", 78), ("train", 1), ("merge", 1)])
def test_another_volume_than_the_run_s_ends_the_run_before_anything_was_done_with_it(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, stage: str, code: int
) -> None:
    monkeypatch.setattr(Path, "is_mount", lambda place: str(place) in ("/", "/model", str(scene.root)))
    told = _ended_by(scene, monkeypatch, stage, PermissionError(errno.EACCES, "Permission denied", "/model/a.json"))
    assert (told["exitCode"], told["reason"]) == (code, "VolumeAccessDenied")


@pytest.mark.parametrize("stage", ["train", "merge"])
def test_a_library_that_tells_of_it_in_words_of_its_own_is_understood(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    monkeypatch.setattr("qwensft_trainer.contract.access._refuses_files", lambda _: True)
    told = _ended_by(scene, monkeypatch, stage, RuntimeError(f"File {scene.root}/workspace/x.pt cannot be opened."))
    assert (told["exitCode"], told["reason"]) == (78, "VolumeAccessDenied")


def test_an_error_that_came_of_it_is_tried_again(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    error = RuntimeError("cannot export")
    error.__cause__ = PermissionError(errno.EACCES, "Permission denied", str(scene.root / "workspace/run"))
    told = _ended_by(scene, monkeypatch, "merge", error)
    assert (told["exitCode"], told["reason"]) == (1, "VolumeAccessDenied")
    assert "cannot export" in told["message"]


@pytest.mark.parametrize("kind", [StageError, Interrupted])
def test_how_far_a_stage_was_is_told_when_it_ends_before_its_time(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, kind: type[StageError] | type[Interrupted]
) -> None:
    error = kind("OutOfMemory", "too small") if issubclass(kind, StageError) else kind("saved")
    error.metrics = {"step": 40}
    assert _ended_by(scene, monkeypatch, "train", error)["metrics"] == {"step": 40}


def _ended_by(scene: Scene, monkeypatch: pytest.MonkeyPatch, stage: str, error: BaseException) -> dict[str, Any]:
    def main(_: StageContext) -> Result:
        raise error

    monkeypatch.setattr(importlib.import_module(f"qwensft_trainer.stages.{stage}"), "main", main)
    return run(scene, stage)[1]
