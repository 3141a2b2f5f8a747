"""LLaMA-Factory's arguments are completed with what only the pod knows, and with nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from qwensft_trainer import arguments
from qwensft_trainer.errors import PermanentError

from .conftest import Scene

OUTPUT = Path("/workspace/run/train/2")


def training(scene: Scene, resume: Path | None = None) -> dict[str, Any]:
    return arguments.training_arguments(scene.train, scene.description, output=OUTPUT, resume=resume)


def test_training_keeps_what_the_operator_wrote(scene: Scene) -> None:
    assert scene.train.items() <= training(scene).items()


def test_a_fresh_start_and_a_resume_differ_in_the_checkpoint_only(scene: Scene) -> None:
    fresh, resumed = training(scene), training(scene, Path("/workspace/run/train/1/checkpoint-8"))
    assert resumed == fresh | {"resume_from_checkpoint": "/workspace/run/train/1/checkpoint-8"}
    assert fresh["output_dir"] == str(OUTPUT)


def test_a_nan_loss_stays_visible(scene: Scene) -> None:
    assert training(scene)["logging_nan_inf_filter"] is False


def test_the_cpu_is_asked_for_only_without_accelerators(scene: Scene) -> None:
    assert training(scene)["use_cpu"] is True
    scene.run["accelerator"] = {"count": 8}
    assert "use_cpu" not in training(scene)


def test_the_preparation_pod_needs_no_accelerator(scene: Scene) -> None:
    scene.run["accelerator"] = {"count": 8}
    scene.train |= {"bf16": True, "deepspeed": {"zero_optimization": {}}, "pure_bf16": True, "cutoff_len": 128}
    completed = arguments.tokenising_arguments(
        scene.train, scene.description, output=Path("/o"), cache=Path("/c"), tokenized=Path("/t")
    )
    assert not {"bf16", "deepspeed", "pure_bf16"} & completed.keys()
    assert completed["use_cpu"] is True
    assert completed["tokenized_path"] == "/t"
    assert completed["cutoff_len"] == 128
    assert completed["learning_rate"] == 5e-6


def export(scene: Scene, **given: Any) -> dict[str, Any]:
    return arguments.export_arguments(
        {"template": "qwen3", "model_name_or_path": "/model"} | given,
        scene.description,
        trained=Path("/workspace/run/train/1"),
        export_to=Path("/workspace/run/.merged.partial"),
        dtype="bf16",
    )


def test_a_lora_export_merges_the_adapter_into_the_base(scene: Scene) -> None:
    completed = export(scene, quantization_bit=4)
    assert completed["model_name_or_path"] == str(scene.description.model.path)
    assert completed["adapter_name_or_path"] == "/workspace/run/train/1"
    assert completed["infer_dtype"] == "bfloat16"
    assert "quantization_bit" not in completed


def test_a_full_export_takes_the_trained_model_without_an_adapter(scene: Scene) -> None:
    scene.run["tuning"] = {"method": "full"}
    completed = export(scene, adapter_name_or_path="/left/over")
    assert completed["model_name_or_path"] == "/workspace/run/train/1"
    assert completed["finetuning_type"] == "full"
    assert "adapter_name_or_path" not in completed


def test_the_format_transformers_no_longer_writes_is_refused(scene: Scene) -> None:
    with pytest.raises(PermanentError, match="export_legacy_format"):
        export(scene, export_legacy_format=True)


def test_flash_attention_without_its_package_is_refused_with_the_fix() -> None:
    with pytest.raises(PermanentError) as caught:
        arguments.check_attention({"flash_attn": "fa2"})
    assert caught.value.reason == "InvalidConfig"
    assert "spec.model.attention" in caught.value.message
    assert "trainer-flash-attn" in caught.value.message


@pytest.mark.parametrize("attention", ["auto", "sdpa", "disabled", None])
def test_other_kinds_of_attention_need_no_package(attention: str | None) -> None:
    arguments.check_attention({"flash_attn": attention})
