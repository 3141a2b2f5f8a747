"""LLaMA-Factory's arguments are completed with what only the pod knows, and with nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from qwensft_trainer.contract import arguments
from qwensft_trainer.contract.errors import PermanentError

from ..conftest import Scene

OUTPUT = Path("/workspace/run/train/2")


def training(scene: Scene, resume: Path | None = None) -> dict[str, Any]:
    return arguments.training_arguments(scene.train, scene.run, output=OUTPUT, resume=resume)


def test_training_keeps_what_the_operator_wrote(scene: Scene) -> None:
    assert scene.train.items() <= training(scene).items()


def test_a_fresh_start_and_a_resume_differ_in_the_checkpoint_only(scene: Scene) -> None:
    fresh, resumed = training(scene), training(scene, Path("/workspace/run/train/1/checkpoint-8"))
    assert resumed == fresh | {"resume_from_checkpoint": "/workspace/run/train/1/checkpoint-8"}
    assert fresh["output_dir"] == str(OUTPUT)


def test_a_nan_loss_stays_visible(scene: Scene) -> None:
    assert training(scene)["logging_nan_inf_filter"] is False


def test_a_template_that_prepare_found_completes_what_the_operator_could_not_know(scene: Scene) -> None:
    del scene.train["template"]
    scene.run_directory.mkdir()
    (scene.run_directory / "prepare.json").write_text('{"template": "qwen3_nothink"}')
    assert training(scene)["template"] == "qwen3_nothink"
    assert export(scene, template=None)["template"] == "qwen3_nothink"


def test_the_template_of_the_spec_is_kept(scene: Scene) -> None:
    scene.run_directory.mkdir()
    (scene.run_directory / "prepare.json").write_text('{"template": "qwen3_nothink"}')
    assert training(scene)["template"] == "qwen3"


def test_a_volume_that_names_no_template_is_refused(scene: Scene) -> None:
    del scene.train["template"]
    with pytest.raises(PermanentError) as caught:
        training(scene)
    assert caught.value.reason == "PreparationMissing"
    assert "spec.model.template" in caught.value.message


def test_deepspeed_on_cpus_finds_them_by_itself(scene: Scene) -> None:
    scene.train |= {"deepspeed": "/etc/qwensft/deepspeed.json", "use_cpu": True}
    completed = training(scene)
    assert "use_cpu" not in completed
    assert completed["deepspeed"] == "/etc/qwensft/deepspeed.json"
    assert completed["dataloader_pin_memory"] is False


def test_the_cpu_is_asked_for_only_without_accelerators(scene: Scene) -> None:
    assert training(scene)["use_cpu"] is True
    scene.document["accelerator"] = {"count": 8}
    assert "use_cpu" not in training(scene)


def test_the_preparation_pod_needs_no_accelerator(scene: Scene) -> None:
    scene.document["accelerator"] = {"count": 8}
    scene.train |= {"bf16": True, "deepspeed": "/etc/ds.json", "pure_bf16": True, "cutoff_len": 128}
    scene.train |= {"quantization_bit": 4, "quantization_method": "bnb", "double_quantization": True}
    scene.train |= {"adapter_name_or_path": "/workspace/run/data/adapter"}
    completed = arguments.tokenising_arguments(
        scene.train, scene.run, output=Path("/o"), cache=Path("/c"), tokenized=Path("/t")
    )
    assert not {"bf16", "deepspeed", "pure_bf16", "quantization_bit", "quantization_method"} & completed.keys()
    assert "adapter_name_or_path" not in completed
    assert completed["use_cpu"] is True
    assert completed["tokenized_path"] == "/t"
    assert completed["cutoff_len"] == 128
    assert completed["learning_rate"] == 5e-6


def training_with(scene: Scene, more: dict[str, Any]) -> dict[str, Any]:
    scene.train |= more
    return training(scene)


def export(scene: Scene, **given: Any) -> dict[str, Any]:
    return arguments.export_arguments(
        {"template": "qwen3", "model_name_or_path": "/model"} | given,
        scene.run,
        trained=Path("/workspace/run/train/1"),
        export_to=Path("/workspace/run/.merged.partial"),
        dtype="bf16",
    )


def test_a_lora_export_merges_the_adapter_into_the_base(scene: Scene) -> None:
    completed = export(scene, quantization_bit=4, quantization_method="bnb")
    assert completed["model_name_or_path"] == str(scene.run.model.path)
    assert completed["adapter_name_or_path"] == "/workspace/run/train/1"
    assert completed["infer_dtype"] == "bfloat16"
    assert not {"quantization_bit", "quantization_method"} & completed.keys()


def test_tokens_added_for_training_are_added_for_the_export(scene: Scene) -> None:
    added = {"add_tokens": "<a>,<b>", "add_special_tokens": "<s>", "resize_vocab": True}
    assert added.items() <= export(scene, **added).items()
    assert added.items() <= {**training_with(scene, added)}.items()


@pytest.mark.parametrize("method", ["full", "freeze"])
def test_an_export_of_a_tuned_model_takes_it_without_an_adapter(scene: Scene, method: str) -> None:
    scene.document["tuning"] = {"method": method}
    completed = export(scene, adapter_name_or_path="/left/over")
    assert completed["model_name_or_path"] == "/workspace/run/train/1"
    assert completed["finetuning_type"] == method
    assert "adapter_name_or_path" not in completed


def test_the_format_transformers_no_longer_writes_is_refused(scene: Scene) -> None:
    with pytest.raises(PermanentError, match="export_legacy_format"):
        export(scene, export_legacy_format=True)


@pytest.mark.parametrize(
    ("precision", "dtype"),
    [({"bf16": True}, "bfloat16"), ({"pure_bf16": True}, "bfloat16"), ({"fp16": True}, "float16"), ({}, "auto")],
)
def test_answers_are_computed_as_the_training_was_by_the_base_without_an_adapter(
    scene: Scene, precision: dict[str, Any], dtype: str
) -> None:
    trained = {key: value for key, value in scene.train.items() if key != "bf16"} | precision
    given = arguments.generation_arguments(trained | {"adapter_name_or_path": "/a", "quantization_bit": 4}, scene.run)
    assert given == trained | {
        "infer_dtype": dtype,
        "model_name_or_path": str(scene.run.model.path),
        "quantization_bit": 4,
        "template": "qwen3",
    }
