"""What stands in run.yaml, train.yaml and export.yaml, compared with Qwen's page on LLaMA-Factory."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from qwensft.api.v1alpha1.arguments import REFUSED_ARGUMENTS
from qwensft.render import config_map
from qwensft.render.config_map import COLUMNS, TAGS

from .jobs import SPECS, job

# The training command of the page; what is not here is filled in by the trainer, and stands below.
PAGE = {
    "stage": "sft",
    "do_train": True,
    "use_fast_tokenizer": True,
    "template": "qwen",
    "finetuning_type": "lora",
    "lora_target": "q_proj,v_proj",
    "overwrite_cache": True,
    "warmup_steps": 100,
    "weight_decay": 0.1,
    "per_device_train_batch_size": 4,
    "gradient_accumulation_steps": 4,
    "ddp_timeout": 9000,
    "learning_rate": 5e-6,
    "lr_scheduler_type": "cosine",
    "logging_steps": 1,
    "cutoff_len": 4096,
    "save_steps": 1000,
    "plot_loss": True,
    "num_train_epochs": 3.0,
    "bf16": True,
}
PAGE_WITHOUT_A_DEFAULT = {"flash_attn", "model_name_or_path", "dataset"}
FILLED_IN_BY_THE_TRAINER = {"output_dir", "overwrite_output_dir", "resume_from_checkpoint"}
NOT_IN_THIS_VERSION = {"deepspeed"}
PAGE_EXPORT = {"template": "qwen", "finetuning_type": "lora", "export_size": 2, "export_legacy_format": False}


def files(case: str = "lora-1-gpu-hub", stage: str = "train", **spec: Any) -> dict[str, Any]:
    data = config_map(job(case, **spec), stage, 1)["data"]
    return {name: yaml.safe_load(text) for name, text in data.items()}


def train(case: str = "lora-1-gpu-hub", **spec: Any) -> dict[str, Any]:
    arguments: dict[str, Any] = files(case, **spec)["train.yaml"]
    return arguments


def export(case: str = "lora-1-gpu-hub", **spec: Any) -> dict[str, Any]:
    arguments: dict[str, Any] = files(case, "merge", **spec)["export.yaml"]
    return arguments


def run(case: str = "lora-1-gpu-hub", stage: str = "train", **spec: Any) -> dict[str, Any]:
    configuration: dict[str, Any] = files(case, stage, **spec)["run.yaml"]
    return configuration


# train.yaml


def test_an_empty_spec_trains_as_the_page_does() -> None:
    arguments = train(model={"name": "Qwen/Qwen2.5-7B"})
    assert {name: arguments.get(name) for name in PAGE} == PAGE
    assert arguments.keys() >= PAGE_WITHOUT_A_DEFAULT


def test_every_argument_of_the_page_has_its_place() -> None:
    places = PAGE.keys() | PAGE_WITHOUT_A_DEFAULT | FILLED_IN_BY_THE_TRAINER | NOT_IN_THIS_VERSION
    assert places <= train().keys() | REFUSED_ARGUMENTS.keys()


@pytest.mark.parametrize("case", SPECS)
def test_what_differs_between_attempts_is_left_to_the_trainer(case: str) -> None:
    assert not FILLED_IN_BY_THE_TRAINER & train(case).keys()


def test_data_is_read_from_where_prepare_put_it() -> None:
    arguments = train()
    assert arguments["dataset_dir"] == "/workspace/support-0f1e2d3c/data"
    assert arguments["tokenized_path"] == "/workspace/support-0f1e2d3c/data/tokenized"
    assert train("model-and-data-on-a-volume")["dataset"] == "chats,support"


def test_a_downloaded_model_lies_in_the_runs_directory() -> None:
    assert train()["model_name_or_path"] == "/workspace/support-0f1e2d3c/model"


@pytest.mark.parametrize(("path", "expected"), [("models/qwen3", "/model/models/qwen3"), ("", "/model")])
def test_a_model_on_a_volume_is_used_where_it_lies(path: str, expected: str) -> None:
    model = {"name": "Qwen/Qwen3-4B", "source": {"volume": {"claimName": "models", "path": path}}}
    assert train(model=model)["model_name_or_path"] == expected


@pytest.mark.parametrize(
    ("training", "present", "absent"),
    [
        ({"maxSteps": 60}, {"max_steps": 60}, {"num_train_epochs"}),
        ({"epochs": 1.5}, {"num_train_epochs": 1.5}, {"max_steps"}),
        ({"warmupRatio": 0.1}, {"warmup_ratio": 0.1}, {"warmup_steps"}),
        ({"warmupSteps": 0}, {"warmup_steps": 0}, {"warmup_ratio"}),
        ({"precision": "fp16"}, {"fp16": True}, {"bf16"}),
        ({"precision": "fp32"}, {}, {"bf16", "fp16"}),
        ({"gradientCheckpointing": False}, {"disable_gradient_checkpointing": True}, set()),
    ],
)
def test_one_of_two_arguments_is_written(training: dict[str, Any], present: dict[str, Any], absent: set[str]) -> None:
    arguments = train(training=training)
    assert present.items() <= arguments.items()
    assert not absent & arguments.keys()


def test_bf16_on_cpus_is_asked_for() -> None:
    assert train("lora-2-nodes-cpu", training={})["use_cpu"] is True
    assert "use_cpu" not in train()


def test_full_tuning_has_no_adapter_arguments() -> None:
    arguments = train("full-1-node-2-gpus")
    assert arguments["finetuning_type"] == "full"
    assert not [name for name in arguments if "lora" in name]


def test_an_adapter_is_written_out_whole() -> None:
    arguments = train("model-and-data-on-a-volume")
    expected = {
        "lora_rank": 16,
        "lora_alpha": 32,
        "lora_target": "all",
        "additional_target": "embed_tokens",
        "use_rslora": True,
    }
    assert expected.items() <= arguments.items()


def test_thinking_is_written_only_when_it_was_chosen() -> None:
    assert train()["enable_thinking"] is export()["enable_thinking"] is False
    assert "enable_thinking" not in train("full-1-node-2-gpus")


def test_plain_attention_has_another_name_in_llama_factory() -> None:
    assert train(model={"name": "Qwen/Qwen3-8B", "attention": "eager"})["flash_attn"] == "disabled"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5", 5),
        ("0.5", 0.5),
        ("1e-8", 1e-8),
        ("-2E3", -2000.0),
        ("true", True),
        ("null", None),
        ("'5'", "5"),
        ("wandb", "wandb"),
        ("2026-01-02", "2026-01-02"),
        ("2026-13-99", "2026-13-99"),
        ('{"min_lr": 1}', '{"min_lr": 1}'),
        ("[1, 2", "[1, 2"),
        ("[" * 1000, "[" * 1000),
    ],
)
def test_extra_arguments_are_scalars_and_anything_else_is_text(text: str, value: object) -> None:
    arguments = train(extraArguments={"neftune_noise_alpha": text})
    assert arguments["neftune_noise_alpha"] == value
    assert type(arguments["neftune_noise_alpha"]) is type(value)


# export.yaml


def test_an_empty_spec_exports_as_the_page_does() -> None:
    arguments = export(model={"name": "Qwen/Qwen2.5-7B"})
    assert PAGE_EXPORT.items() <= arguments.items()
    assert not {"adapter_name_or_path", "export_dir"} & arguments.keys()


def test_the_export_reads_model_and_template_as_the_training_did() -> None:
    shared = ("model_name_or_path", "template", "trust_remote_code", "use_fast_tokenizer", "enable_thinking")
    assert {name: export()[name] for name in shared} == {name: train()[name] for name in shared}


@pytest.mark.parametrize(
    ("dtype", "name"), [("auto", "auto"), ("bf16", "bfloat16"), ("fp16", "float16"), ("fp32", "float32")]
)
def test_the_number_format_of_the_merge_is_always_written(dtype: str, name: str) -> None:
    assert export(merge={"dtype": dtype})["infer_dtype"] == name


def test_the_export_follows_the_merge_block() -> None:
    arguments = export("full-1-node-2-gpus", merge={"device": "auto", "shardSizeGB": 5})
    assert (arguments["export_device"], arguments["export_size"]) == ("auto", 5)
    assert arguments["finetuning_type"] == "full"


# run.yaml


def test_the_run_knows_its_owner_directory_and_method() -> None:
    configuration = run()
    assert configuration["owner"] == {"uid": job().metadata.uid, "namespace": "team", "name": "support"}
    assert configuration["runDirectory"] == "/workspace/support-0f1e2d3c"
    assert (configuration["onExisting"], configuration["tuning"]) == ("Fail", {"method": "lora"})
    assert configuration["accelerator"] == {"count": 1}


@pytest.mark.parametrize(
    ("source", "download"),
    [
        (None, {"hub": "huggingFace", "repo": "Qwen/Qwen3-8B", "revision": None}),
        ({"huggingFace": {"repo": "me/q"}}, {"hub": "huggingFace", "repo": "me/q", "revision": None}),
        ({"modelScope": {"revision": "v1"}}, {"hub": "modelScope", "repo": "Qwen/Qwen3-8B", "revision": "v1"}),
        ({"volume": {"claimName": "models"}}, None),
    ],
)
def test_a_model_is_downloaded_unless_it_lies_on_a_volume(source: dict[str, Any] | None, download: object) -> None:
    model = {"name": "Qwen/Qwen3-8B"} | ({"source": source} if source else {})
    assert run(model=model)["model"]["download"] == download


def test_only_the_merge_is_told_where_to_merge_to() -> None:
    assert run("full-1-node-2-gpus", "merge")["merge"] == {
        "directory": "/workspace/support-0f1e2d3c/export/hf",
        "verify": "tensors",
        "dtype": "bf16",
    }
    assert "merge" not in run()


def test_every_column_and_tag_is_written_out() -> None:
    chats, rows = run("model-and-data-on-a-volume")["datasets"]
    assert rows["columns"] == COLUMNS["alpaca"]
    assert "tags" not in rows
    assert chats["columns"].keys() == COLUMNS["sharegpt"].keys()
    assert chats["tags"].keys() == {f"{name}_tag" for name in TAGS}


def test_the_users_names_replace_the_usual_ones() -> None:
    chats, _ = run("model-and-data-on-a-volume")["datasets"]
    assert chats["columns"] == {"messages": "messages", "system": "system", "tools": "tools"}
    assert (chats["tags"]["role_tag"], chats["tags"]["function_tag"]) == ("role", "function_call")
    assert (chats["path"], chats["sampleCount"]) == ("/datasets/chats/sft/chats.jsonl", 5000)


def test_names_in_any_script_reach_the_trainer() -> None:
    rows = SPECS["lora-1-gpu-hub"]["datasets"][0] | {"columns": {"prompt": "问题", "response": "回答"}}
    data = config_map(job(datasets=[rows]), "train", 1)["data"]["run.yaml"]
    assert "prompt: 问题" in data
