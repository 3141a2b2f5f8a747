"""What tests of models from hubs do: change the hub, share a cache, look at what is there, catch the failure."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.hubs.fixtures import RunningHub

from qwensft_trainer.contract.errors import StageError
from qwensft_trainer.model import source as model_source

from ..conftest import Scene, safetensors


def failure(scene: Scene) -> StageError:
    with pytest.raises(StageError) as caught:
        model_source.provide(scene.run)
    return caught.value


def change(served: RunningHub) -> None:
    """The hub's branch moves on."""
    model = served.root / "models" / "Qwen" / "Qwen3-0.6B"
    (model / "model.safetensors").write_bytes(safetensors({"weight": (8, 8)}))


def model_of(scene: Scene) -> Path:
    return scene.run_directory / "model"


def share(scene: Scene) -> Path:
    """Let the run use a cache volume."""
    scene.document["model"]["cache"] = str(scene.root / "cache")
    return scene.root / "cache"


def entries(cache: Path) -> list[Path]:
    return [path for path in cache.glob("*/Qwen--Qwen3-0.6B/*") if not path.name.startswith(".")]


def second_job(scene: Scene) -> None:
    scene.document |= {"runDirectory": str(scene.root / "workspace" / "second")}
    scene.document["model"]["path"] = str(scene.run_directory / "model")
