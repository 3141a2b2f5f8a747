"""A job whose model and packages tests may change before it is judged."""

from __future__ import annotations

import pytest

from qwensft_trainer.model.checks import chain as model_checks
from qwensft_trainer.model.checks import checked_job

from ... import models
from ...conftest import Scene


@pytest.fixture(autouse=True)
def packages(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The optional packages of the image; tests may add to them or take away."""
    there = {"bitsandbytes", "liger_kernel"}
    for module in (model_checks, checked_job):
        monkeypatch.setattr(module, "has_package", lambda name: name in there)
    monkeypatch.setattr("qwensft_trainer.model.checks.quantization.has_package", lambda name: name in there)
    return there


@pytest.fixture
def job(scene: Scene) -> Scene:
    """A LoRA run on Qwen3 on accelerators."""
    models.write(scene.root / "model", "qwen3")
    scene.document["accelerator"] = {"count": 8}
    scene.document["model"]["template"] = None
    scene.train |= {"finetuning_type": "lora", "lora_target": "q_proj,v_proj", "cutoff_len": 2048}
    return scene
