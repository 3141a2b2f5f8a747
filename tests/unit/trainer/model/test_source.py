"""A model directory is checked for everything training needs before anything reads it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable

import pytest

from qwensft_trainer.contract.errors import EXIT_PERMANENT
from qwensft_trainer.model import source as model_source

from ..conftest import Scene, safetensors
from .obtaining import failure


def test_a_complete_model_passes(scene: Scene) -> None:
    model_source.provide(scene.run)


def test_vocabulary_and_merges_are_a_tokenizer_too(scene: Scene) -> None:
    model = scene.root / "model"
    (model / "tokenizer.json").unlink()
    (model / "vocab.json").touch()
    (model / "merges.txt").touch()
    model_source.provide(scene.run)


def test_all_missing_parts_are_named_with_the_field_to_set(scene: Scene) -> None:
    model = scene.root / "model"
    for path in list(model.iterdir()):
        path.unlink()
    error = failure(scene)
    assert (error.reason, error.exit_code) == ("InvalidModel", EXIT_PERMANENT)
    for part in ("config.json", "a tokenizer", "model.safetensors", "spec.model.source.volume"):
        assert part in error.message


def test_a_path_without_a_directory_is_named(scene: Scene) -> None:
    scene.document["model"]["path"] = str(scene.root / "modle")
    assert "There is no model directory" in failure(scene).message
    assert "modle" in failure(scene).message


def test_a_missing_shard_of_the_index_is_named(scene: Scene) -> None:
    model = scene.root / "model"
    (model / "model.safetensors").rename(model / "model-00001-of-00002.safetensors")
    weight_map = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (model / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    assert "lacks model-00002-of-00002.safetensors" in failure(scene).message


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (lambda data: data[:-1], "is cut off"),
        (lambda data: data[:20], "is not a readable safetensors file"),
        (lambda data: b"<html>not found</html>", "is not a readable safetensors file"),
        (lambda data: b"", "is not a readable safetensors file"),
    ],
)
def test_a_damaged_weight_file_is_found_by_its_header(
    scene: Scene, damage: Callable[[bytes], bytes], expected: str
) -> None:
    (scene.root / "model" / "model.safetensors").write_bytes(damage(safetensors({"weight": (64, 64)})))
    assert expected in failure(scene).message


def test_a_file_beside_the_weights_that_lies_elsewhere_is_refused(scene: Scene) -> None:
    (scene.root / "model" / "README.md").symlink_to("/proc/self/environ")
    error = failure(scene)
    assert (error.reason, error.exit_code) == ("InvalidModel", EXIT_PERMANENT)
    assert "README.md leads out of" in error.message


def test_a_snapshot_of_the_hubs_own_cache_links_to_files_of_its_volume(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    volume = scene.root / "volume"
    (volume / "snapshots").mkdir(parents=True)
    (scene.root / "model").rename(volume / "blobs")
    (volume / "snapshots" / "abc").mkdir()
    for path in (volume / "blobs").iterdir():
        (volume / "snapshots" / "abc" / path.name).symlink_to(f"../../blobs/{path.name}")
    monkeypatch.setattr(model_source, "MOUNT", volume)
    scene.document["model"]["path"] = str(volume / "snapshots" / "abc")
    model_source.provide(scene.run)
    (volume / "latest").symlink_to("/usr/lib")
    scene.document["model"]["path"] = str(volume / "latest")
    assert "latest leads out of" in failure(scene).message


def test_an_adapter_that_transformers_would_put_on_the_base_is_refused(scene: Scene) -> None:
    (scene.root / "model" / "adapter_config.json").write_text("{}")
    message = failure(scene).message
    assert "holds adapter_config.json: transformers 5.5.4 would put that adapter on the model" in message
    assert "Merge it into the model first" in message


def test_a_pipe_beside_the_weights_is_not_waited_for(scene: Scene) -> None:
    os.mkfifo(scene.root / "model" / "tokenizer_config.json")
    assert "tokenizer_config.json is neither a file nor a directory" in failure(scene).message


@pytest.mark.parametrize("name", ["../other/model.safetensors", "/model/model.safetensors", "model.bin", 7, None])
def test_an_index_names_weights_of_its_own_directory(scene: Scene, name: object) -> None:
    (scene.root / "model" / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": name}}))
    assert "names weights that are no .safetensors file in its directory" in failure(scene).message
