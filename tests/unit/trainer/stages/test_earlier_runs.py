"""onExisting: Resume in the directory of a run by an earlier version, which recorded no contents of its files."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest

from qwensft_trainer.contract import workspace
from qwensft_trainer.contract.digest import Experiment, configuration_digest
from qwensft_trainer.contract.errors import PermanentError
from qwensft_trainer.model import source as model_source
from qwensft_trainer.stages import prepare
from qwensft_trainer.training import checkpoints

from .. import models
from ..conftest import Scene

RESUMED = "train/1/checkpoint-60"


def sha256(value: Any) -> str:
    """As trainers before contents counted have computed it."""
    return "sha256:" + hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


@pytest.fixture
def rows(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The mounted file of a job that takes over the directory of another, made by an earlier version."""
    path = scene.add_dataset("support", [{"instruction": "Hi", "output": "Hello"}])
    models.write(scene.root / "model", "qwen3")

    def tokenise(*_: Any) -> tuple[dict[str, Any], list[str], dict[str, Any]]:
        (scene.run_directory / "data" / "tokenized").mkdir(parents=True, exist_ok=True)
        return {"samples": 1, "tokens": 12}, [], {}

    monkeypatch.setattr(prepare, "tokenise", tokenise)
    monkeypatch.setattr(prepare, "forbid_hub_access", lambda: None)
    scene.train |= {
        "lr_scheduler_type": "cosine", "warmup_steps": 0, "num_train_epochs": 3.0, "per_device_train_batch_size": 1,
        "gradient_accumulation_steps": 1,
    }  # fmt: skip
    workspace.claim(scene.run)
    leave(scene, path)
    scene.document |= {"onExisting": "Resume", "owner": scene.document["owner"] | {"uid": "uid-2"}}
    return path


def leave(scene: Scene, rows: Path, **rendered: Any) -> None:
    """What that version has left: a checkpoint, and what it prepared. `rendered`: more of its train.yaml."""
    digest = configuration_digest(scene.run, scene.train | rendered)
    found = rows.stat()
    looks = {"support": [found.st_size, found.st_mtime_ns], "deepspeed": None}
    inputs = sha256({"configuration": digest, "files": looks})
    (scene.run_directory / "prepare.json").write_text(json.dumps({"inputs": inputs, "configDigest": digest}))
    folder = scene.run_directory / RESUMED
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "trainer_state.json").write_text(json.dumps({"global_step": 60, "max_steps": 100}))
    attempt = {"ownerUid": "uid-1", "configDigest": digest, "attempt": 1, "nodes": 1}
    (folder.parent / "attempt.json").write_text(json.dumps(attempt))


def found(scene: Scene) -> str | None:
    """The checkpoint that the job's training goes on from, as its train stage sees it."""
    recorded = json.loads((scene.run_directory / "prepare.json").read_text())
    experiment = Experiment.of(scene.run, scene.train, recorded["contents"])
    newest, _ = checkpoints.newest(scene.run_directory / "train", experiment)
    return None if newest is None else str(newest.path.relative_to(scene.run_directory))


def test_rows_of_the_same_size_and_time_are_gone_on_with(scene: Scene, rows: Path) -> None:
    prepare.main(scene.context)
    assert found(scene) == RESUMED


def test_what_that_version_rendered_more_does_not_make_it_another_training(scene: Scene, rows: Path) -> None:
    leave(scene, rows, include_num_input_tokens_seen=True)
    prepare.main(scene.context)
    assert found(scene) == RESUMED


def test_another_argument_does(scene: Scene, rows: Path) -> None:
    leave(scene, rows, learning_rate=1e-3)
    with pytest.raises(PermanentError, match="holds a run with other inputs"):
        prepare.main(scene.context)


def test_a_preparation_that_was_killed_after_it_took_the_directory_over_goes_on(
    scene: Scene, rows: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(model_source, "provide", lambda _: pytest.fail("killed"))
        with pytest.raises(BaseException, match="killed"):
            prepare.main(scene.context)
    prepare.main(scene.context)
    assert found(scene) == RESUMED


@pytest.mark.parametrize("change", ["mounted anew, as a ConfigMap is", "another row"])
def test_rows_that_may_be_others_are_refused_with_what_to_do(scene: Scene, rows: Path, change: str) -> None:
    if change == "another row":
        rows.write_text(rows.read_text().replace("Hello", "Howdy"))
    os.utime(rows)
    before = (scene.run_directory / "prepare.json").read_text()
    with pytest.raises(PermanentError, match="earlier version") as caught:
        prepare.main(scene.context)
    assert caught.value.reason == "OutputExists"
    assert "create an empty file .qwensft-same-rows" in caught.value.message
    assert (scene.run_directory / "prepare.json").read_text() == before, "nothing of that run was touched"


def test_a_person_may_say_that_the_rows_are_the_same(scene: Scene, rows: Path) -> None:
    os.utime(rows)
    (scene.run_directory / ".qwensft-same-rows").touch()
    prepare.main(scene.context)
    assert found(scene) == RESUMED
    assert not (scene.run_directory / ".qwensft-same-rows").exists(), "it was said of these rows"


def test_a_finished_run_of_the_same_rows_is_the_result(scene: Scene, rows: Path) -> None:
    attempt = json.loads((scene.run_directory / "train" / "1" / "attempt.json").read_text())
    (scene.run_directory / "train.json").write_text(json.dumps(attempt | {"metrics": {}, "outputs": {}}))
    prepare.main(scene.context)
    recorded = json.loads((scene.run_directory / "train.json").read_text())
    contents = json.loads((scene.run_directory / "prepare.json").read_text())["contents"]
    assert Experiment.of(scene.run, scene.train, contents).owns(recorded)
