"""A model from a hub: complete or not there, at the commit that the run began with."""

from __future__ import annotations

import shutil

import pytest
from tests.hubs.fixtures import RunningHub

from qwensft_trainer.contract.errors import EXIT_PERMANENT, EXIT_RETRYABLE
from qwensft_trainer.model import source as model_source

from ..conftest import Scene, safetensors
from .obtaining import change, failure, model_of


def test_a_downloaded_model_is_complete_without_other_formats(scene: Scene, served: RunningHub) -> None:
    model_source.provide(scene.run)
    names = {path.name for path in model_of(scene).iterdir()}
    assert names == {"config.json", "tokenizer.json", "model.safetensors", ".qwensft-model.json"}


def test_a_downloaded_model_is_not_asked_for_again(scene: Scene, served: RunningHub) -> None:
    model_source.provide(scene.run)
    asked = len(served.requests)
    model_source.provide(scene.run)
    assert len(served.requests) == asked


def test_a_download_appears_complete_or_not_at_all(scene: Scene, served: RunningHub) -> None:
    served.fault(status=404, path="config.json", times=100)
    error = failure(scene)
    assert error.exit_code == EXIT_RETRYABLE
    assert not model_of(scene).exists()
    served.fault()
    model_source.provide(scene.run)
    assert (model_of(scene) / "config.json").is_file()


def test_a_run_keeps_the_commit_it_began_with(scene: Scene, served: RunningHub) -> None:
    model_source.provide(scene.run)
    before = (model_of(scene) / "model.safetensors").read_bytes()
    change(served)
    model_source.provide(scene.run)
    assert (model_of(scene) / "model.safetensors").read_bytes() == before


def test_a_run_whose_commit_is_to_be_had_no_longer_is_told_so(scene: Scene, served: RunningHub) -> None:
    model_source.provide(scene.run)
    change(served)
    shutil.rmtree(model_of(scene))
    error = failure(scene)
    assert (error.reason, error.exit_code) == ("InvalidModel", EXIT_PERMANENT)
    assert "spec.model.source.huggingFace.revision" in error.message or "has changed on the hub" in error.message


def test_a_file_that_went_missing_is_fetched_alone(scene: Scene, served: RunningHub) -> None:
    model_source.provide(scene.run)
    (model_of(scene) / "tokenizer.json").unlink()
    served.requests.clear()
    model_source.provide(scene.run)
    assert (model_of(scene) / "tokenizer.json").is_file()
    assert served.asked_for("tokenizer.json")
    assert not served.asked_for("model.safetensors")


def test_another_revision_in_the_same_directory_is_another_model(scene: Scene, served: RunningHub) -> None:
    model_source.provide(scene.run)
    change(served)
    (served.root / "models" / "Qwen" / "Qwen3-0.6B" / ".revisions").write_text("v2\n")
    scene.document["model"]["download"]["revision"] = "v2"
    model_source.provide(scene.run)
    assert (model_of(scene) / "model.safetensors").read_bytes() == safetensors({"weight": (8, 8)})


def test_the_token_of_the_environment_opens_a_private_model(
    scene: Scene, served: RunningHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    (served.root / "models" / "Qwen" / "Qwen3-0.6B" / ".private").write_text("good-token\n")
    error = failure(scene)
    assert (error.reason, error.exit_code) == ("InvalidModel", EXIT_PERMANENT)
    assert f"spec.model.source.{scene.document['model']['download']['hub']}.tokenSecretRef" in error.message
    assert "spec.model.name" in error.message
    monkeypatch.setenv("HF_TOKEN", "good-token\n")  # as a Secret made from a file has it
    monkeypatch.setenv("MODELSCOPE_API_TOKEN", "good-token\n")
    model_source.provide(scene.run)
    assert (model_of(scene) / "config.json").is_file()


def test_a_token_that_no_header_can_carry_is_refused_before_the_hub_is_asked(
    scene: Scene, served: RunningHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "first-half\nsecond-half")
    monkeypatch.setenv("MODELSCOPE_API_TOKEN", "first-half\nsecond-half")
    error = failure(scene)
    assert (error.reason, error.exit_code) == ("InvalidConfig", EXIT_PERMANENT)
    assert f"spec.model.source.{scene.document['model']['download']['hub']}.tokenSecretRef" in error.message
    assert "half" not in error.message
    assert served.requests == []
