"""What another run has left on its volume: an adapter in train/1 of its directory, prepare.json, and whose it is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from qwensft_trainer.base import files
from qwensft_trainer.contract import workspace
from qwensft_trainer.model import fingerprint
from qwensft_trainer.training.checkpoints import NOT_OUTPUT

from .conftest import Scene, safetensors

CONFIG: dict[str, Any] = {
    "peft_type": "LORA",
    "base_model_name_or_path": "/workspace/first-1/model",
    "r": 4,
    "lora_alpha": 8,
    "lora_dropout": 0.05,
    "use_rslora": False,
    "use_dora": False,
    "target_modules": ["q_proj", "v_proj"],
    "modules_to_save": None,
}
# The arguments of a job that goes on with it.
ARGUMENTS: dict[str, Any] = {
    "finetuning_type": "lora",
    "lora_rank": 4,
    "lora_alpha": 8,
    "lora_dropout": 0.05,
    "lora_target": "q_proj,v_proj",
    "use_rslora": False,
}
SHAPES = {"q_proj": (8, 8), "v_proj": (4, 8)}


def write(directory: Path, *, rank: int = 4, shapes: dict[str, tuple[int, int]] = SHAPES, **config: Any) -> None:
    """An adapter of a model of two layers as `models.write` makes it, with what lies beside it."""
    directory.mkdir(parents=True, exist_ok=True)
    tensors: dict[str, tuple[int, ...]] = {}
    for layer in (0, 1):
        for name, (rows, columns) in shapes.items():
            module = f"base_model.model.model.layers.{layer}.self_attn.{name}"
            tensors |= {f"{module}.lora_A.weight": (rank, columns), f"{module}.lora_B.weight": (rows, rank)}
    (directory / "adapter_model.safetensors").write_bytes(safetensors(tensors))
    (directory / "adapter_config.json").write_text(json.dumps(CONFIG | {"r": rank} | config))
    (directory / "tokenizer.json").write_text("{}")
    (directory / "attempt.json").write_text("{}")
    (directory / "checkpoint-1").mkdir(exist_ok=True)


def continues(scene: Scene, **config: Any) -> Path:
    """Make the scene's run train on the adapter of another; returns the directory of that one's result."""
    directory = scene.root / "first" / "first-1" / "train" / "1"
    write(directory, **config)
    prepared = {"base": fingerprint.of(scene.root / "model")}
    (directory.parents[1] / "prepare.json").write_text(json.dumps(prepared))
    (directory.parents[1] / workspace.MARKER).write_text(json.dumps({"uid": "uid-0"}))
    scene.document |= {"version": 4}
    scene.document["model"]["adapter"] = {
        "name": "first",
        "uid": "uid-0",
        "digest": files.manifest_digest(files.manifest_of(directory, exclude=NOT_OUTPUT)),
        "path": str(directory),
    }
    scene.train |= ARGUMENTS | {"adapter_name_or_path": str(scene.run_directory / "data" / "adapter")}
    return directory
