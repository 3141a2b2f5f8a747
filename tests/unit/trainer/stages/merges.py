"""A merge in this process, of what, and who stands in for transformers, LLaMA-Factory and the verification."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from qwensft_trainer.contract.stage import Result
from qwensft_trainer.merging import adapter
from qwensft_trainer.model import source
from qwensft_trainer.stages import merge

from ..conftest import Scene
from ..merging.safetensors import save

QUERY, KEY, NORM = (f"model.layers.0.{name}.weight" for name in ("q_proj", "k_proj", "norm"))
NAMES = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
BASE: dict[str, dict[str, Any]] = {
    NAMES[0]: {QUERY: np.ones((4, 6)), NORM: np.ones(6)},
    NAMES[1]: {KEY: np.ones((4, 6))},
}


class Call:
    """Calls in this process; `asked` holds the function and the arguments by name of every call."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Mapping[str, Any]]] = []

    def __call__(self, function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        self.asked.append((function.__name__, named))
        return function(*arguments, **named)


def learns(scene: Scene, **config: Any) -> None:
    plain = {"peft_type": "LORA", "r": 1, "lora_alpha": 2}
    (scene.run_directory / "train" / "1" / adapter.CONFIG).write_text(json.dumps(plain | config))


def verifies(monkeypatch: pytest.MonkeyPatch, checks: Mapping[str, Any] | Exception) -> None:
    def verify(*_: Any, **__: Any) -> Mapping[str, Any]:
        if isinstance(checks, Exception):
            raise checks
        return checks

    monkeypatch.setattr(merge, "_verify", verify)


def exports(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """LLaMA-Factory's export writes a model of its own layout; returns the dtypes that it is asked for."""
    dtypes: list[str] = []

    def export(completed: Mapping[str, Any]) -> None:
        dtypes.append(completed["infer_dtype"])
        tensors = {name: values + 1 for part in BASE.values() for name, values in part.items()}
        save(Path(completed["export_dir"]) / source.SINGLE, tensors)

    monkeypatch.setattr("qwensft_trainer.merging.export.export", export)
    return dtypes


def run(scene: Scene, **export_arguments: Any) -> Result:
    context = scene.context
    (context.config / "export.yaml").write_text(yaml.safe_dump({"template": "qwen3"} | export_arguments))
    return merge.main(context)


def rests(scene: Scene) -> list[str]:
    return sorted(path.name for path in scene.run_directory.iterdir() if path.name.startswith(".merged"))


def merged(scene: Scene) -> Path:
    return scene.run_directory / "merged"
