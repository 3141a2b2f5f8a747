"""A model directory is checked for everything training needs before anything reads it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from qwensft_trainer import model_source
from qwensft_trainer.errors import EXIT_PERMANENT, EXIT_RETRYABLE, StageError

from .conftest import Scene, safetensors, write_model


def failure(scene: Scene) -> StageError:
    with pytest.raises(StageError) as caught:
        model_source.provide(scene.description)
    return caught.value


def test_a_complete_model_passes(scene: Scene) -> None:
    model_source.provide(scene.description)


def test_vocabulary_and_merges_are_a_tokenizer_too(scene: Scene) -> None:
    model = scene.root / "model"
    (model / "tokenizer.json").unlink()
    (model / "vocab.json").touch()
    (model / "merges.txt").touch()
    model_source.provide(scene.description)


def test_all_missing_parts_are_named_with_the_field_to_set(scene: Scene) -> None:
    model = scene.root / "model"
    for path in list(model.iterdir()):
        path.unlink()
    error = failure(scene)
    assert (error.reason, error.exit_code) == ("InvalidModel", EXIT_PERMANENT)
    for part in ("config.json", "a tokenizer", "model.safetensors", "spec.model.source.volume"):
        assert part in error.message


def test_a_path_without_a_directory_is_named(scene: Scene) -> None:
    scene.run["model"]["path"] = str(scene.root / "modle")
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


class Hub:
    """Stands in for huggingface_hub: a download that writes a model, or fails."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[dict[str, Any]] = []
        self.error: str | None = None
        hub, errors = ModuleType("huggingface_hub"), ModuleType("huggingface_hub.errors")
        for name in ("GatedRepoError", "RepositoryNotFoundError", "RevisionNotFoundError"):
            setattr(errors, name, type(name, (Exception,), {}))
        hub.snapshot_download = self.download  # type: ignore[attr-defined]
        self.errors = errors
        monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
        monkeypatch.setitem(sys.modules, "huggingface_hub.errors", errors)

    def download(self, repo: str, *, local_dir: Path, **options: Any) -> None:
        self.asked.append({"repo": repo, "local_dir": local_dir, **options})
        if self.error:
            raise getattr(self.errors, self.error, ConnectionError)("boom")
        local_dir.rmdir()
        write_model(local_dir)


@pytest.fixture
def hub(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> Hub:
    scene.run["model"] |= {
        "path": str(scene.run_directory / "model"),
        "download": {"hub": "huggingFace", "repo": "Qwen/Qwen3-0.6B", "revision": "main"},
    }
    scene.run_directory.mkdir()
    return Hub(monkeypatch)


def test_a_download_appears_complete_or_not_at_all(scene: Scene, hub: Hub) -> None:
    hub.error = "ConnectionError"
    error = failure(scene)
    assert (error.reason, error.exit_code) == ("DownloadFailed", EXIT_RETRYABLE)
    assert not (scene.run_directory / "model").exists()
    hub.error = None
    model_source.provide(scene.description)
    assert (scene.run_directory / "model" / "config.json").is_file()
    assert hub.asked[-1]["revision"] == "main"


def test_a_downloaded_model_is_not_downloaded_again(scene: Scene, hub: Hub) -> None:
    model_source.provide(scene.description)
    model_source.provide(scene.description)
    assert len(hub.asked) == 1


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        ("GatedRepoError", "tokenSecretRef"),
        ("RepositoryNotFoundError", "spec.model.source.huggingFace.repo"),
        ("RevisionNotFoundError", "spec.model.source.huggingFace.revision"),
    ],
)
def test_what_trying_again_cannot_mend_is_permanent(scene: Scene, hub: Hub, error: str, expected: str) -> None:
    hub.error = error
    found = failure(scene)
    assert (found.reason, found.exit_code) == ("InvalidModel", EXIT_PERMANENT)
    assert expected in found.message
