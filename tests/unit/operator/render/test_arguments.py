"""What stands in train.yaml and export.yaml, compared with Qwen's page on LLaMA-Factory."""

from __future__ import annotations

from typing import Any

import pytest

from qwensft.api.v1alpha1 import Stage
from qwensft.api.v1alpha1.arguments import REFUSED_ARGUMENTS
from qwensft_operator.render import config_map

from .jobs import SPECS, example, export, load, train

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
PAGE_EXPORT = {"template": "qwen", "finetuning_type": "lora", "export_size": 2, "export_legacy_format": False}


# train.yaml


def test_an_empty_spec_trains_as_the_page_does() -> None:
    arguments = train(model={"name": "Qwen/Qwen2.5-7B"})
    assert {name: arguments.get(name) for name in PAGE} == PAGE
    assert arguments.keys() >= PAGE_WITHOUT_A_DEFAULT


def test_the_example_of_the_page_trains_and_exports_as_the_page_does() -> None:
    rendered = {stage: config_map(example("qwen-page"), Stage(stage), 1)["data"] for stage in ("train", "merge")}
    arguments = load(rendered["train"]["train.yaml"])
    assert {name: arguments.get(name) for name in PAGE} == PAGE
    assert (arguments["dataset"], arguments["deepspeed"]) == ("your-dataset", "/etc/qwensft/deepspeed.json")
    assert PAGE_EXPORT.items() <= load(rendered["merge"]["export.yaml"]).items()


def test_every_argument_of_the_page_has_its_place() -> None:
    rendered = train(distribution={"deepspeed": {"stage": 2}}).keys()
    assert rendered >= PAGE.keys() | PAGE_WITHOUT_A_DEFAULT | {"deepspeed"}
    assert REFUSED_ARGUMENTS.keys() >= FILLED_IN_BY_THE_TRAINER


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
        ("!!bool a", "!!bool a"),
        ("!!int ''", "!!int ''"),
        ("!!timestamp a", "!!timestamp a"),
    ],
)
def test_extra_arguments_are_scalars_and_anything_else_is_text(text: str, value: object) -> None:
    arguments = train(extraArguments={"neftune_noise_alpha": text})
    assert arguments["neftune_noise_alpha"] == value
    assert type(arguments["neftune_noise_alpha"]) is type(value)


# Methods.


@pytest.mark.parametrize(
    ("tuning", "expected"),
    [
        ({"method": "full"}, {"finetuning_type": "full"}),
        (
            {"method": "freeze"},
            {"finetuning_type": "freeze", "freeze_trainable_layers": 2, "freeze_trainable_modules": "all"},
        ),
        (
            {"method": "freeze", "freeze": {"trainableLayers": -3, "extraModules": ["norm", "lm_head"]}},
            {"freeze_trainable_layers": -3, "freeze_extra_modules": "norm,lm_head"},
        ),
        (
            {"method": "freeze", "freeze": {"trainableModules": ["mlp", "self_attn"]}},
            {"freeze_trainable_modules": "mlp,self_attn"},
        ),
        (
            {"method": "qlora"},
            {
                "finetuning_type": "lora",
                "quantization_method": "bnb",
                "quantization_bit": 4,
                "quantization_type": "nf4",
                "double_quantization": True,
            },
        ),
        (
            {"method": "qlora", "quantization": {"type": "fp4", "doubleQuantization": False}},
            {"quantization_type": "fp4", "double_quantization": False},
        ),
        ({"method": "qlora", "quantization": {"bits": 8}}, {"quantization_method": "bnb", "quantization_bit": 8}),
        ({"method": "qlora", "quantization": {"method": "hqq"}}, {"quantization_method": "hqq", "quantization_bit": 4}),
        (
            {"method": "qlora", "quantization": {"method": "eetq", "bits": 8}},
            {"quantization_method": "eetq", "quantization_bit": 8},
        ),
        ({"method": "dora"}, {"finetuning_type": "lora", "use_dora": True, "lora_rank": 8}),
        ({"method": "dora", "quantization": {}}, {"use_dora": True, "quantization_bit": 4}),
        ({"lora": {"rslora": True}}, {"use_rslora": True}),
        ({"lora": {"pissa": True}}, {"pissa_init": True}),
        ({"lora": {"loraPlusRatio": 16}}, {"loraplus_lr_ratio": 16}),
        (
            {"vision": {"freezeTower": False}},
            {"freeze_vision_tower": False, "freeze_multi_modal_projector": True, "freeze_language_model": False},
        ),
    ],
)  # fmt: skip
def test_a_method_becomes_its_arguments(tuning: dict[str, Any], expected: dict[str, Any]) -> None:
    model = {"name": "Qwen/Qwen2.5-VL-7B-Instruct"} if "vision" in tuning else {"name": "Qwen/Qwen3-8B"}
    assert expected.items() <= train(model=model, tuning=tuning).items()


@pytest.mark.parametrize(
    ("tuning", "foreign"),
    [
        ({"method": "full"}, ("lora", "freeze", "quantization", "pissa", "dora")),
        ({"method": "freeze"}, ("lora", "quantization", "pissa", "dora")),
        ({"method": "lora"}, ("freeze", "quantization", "pissa", "dora", "loraplus", "additional_target")),
        ({"method": "qlora", "quantization": {"bits": 8}}, ("quantization_type", "double_quantization", "dora")),
        ({"method": "qlora", "quantization": {"method": "hqq"}}, ("quantization_type", "double_quantization")),
        ({"method": "dora"}, ("quantization", "pissa")),
    ],
)
def test_nothing_of_another_method_is_written(tuning: dict[str, Any], foreign: tuple[str, ...]) -> None:
    # enable_thinking and the like are no method's.
    arguments = train(model={"name": "Qwen/Qwen3-8B"}, tuning=tuning)
    assert [name for name in arguments if any(part in name for part in foreign)] == []


def test_the_trainer_converts_a_pissa_adapter_itself() -> None:
    assert "pissa_convert" not in train(tuning={"lora": {"pissa": True}})


# Model and data.


def test_a_template_that_only_the_files_tell_is_left_to_prepare() -> None:
    model = {"name": "team/our-own", "source": {"volume": {"claimName": "models"}}}
    assert "template" not in train(model=model)
    assert "template" not in export(model=model)
    assert train(model=model | {"template": "qwen3_vl"})["template"] == "qwen3_vl"


def test_new_tokens_are_known_to_training_and_merge() -> None:
    model = {"name": "Qwen/Qwen3-8B", "addTokens": ["<a>", "<b>"], "addSpecialTokens": ["<|c|>"]}
    expected = {"add_tokens": "<a>,<b>", "add_special_tokens": "<|c|>", "resize_vocab": True}
    assert expected.items() <= train(model=model).items()
    assert expected.items() <= export(model=model).items()
    assert not expected.keys() & (train().keys() | export().keys())


@pytest.mark.parametrize(
    ("further", "trained"),
    [([], "embed_tokens,lm_head"), (["norm"], "embed_tokens,lm_head,norm"), (["lm_head"], "embed_tokens,lm_head")],
)
def test_an_adapter_trains_the_rows_of_new_tokens(further: list[str], trained: str) -> None:
    model = {"name": "Qwen/Qwen3-8B", "addTokens": ["<a>"]}
    assert train(model=model, tuning={"lora": {"additionalTargets": further}})["additional_target"] == trained


# Evaluation.


def test_without_evaluation_nothing_is_evaluated() -> None:
    assert [name for name in train() if "eval" in name or name == "val_size"] == []


def test_samples_alone_change_no_argument() -> None:
    assert train(evaluation={"samples": 4}) == train()
    assert train(evaluation={"fraction": 0.05, "samples": 4}) == train(evaluation={"fraction": 0.05})


def test_a_fraction_is_held_out_and_measured_whenever_a_checkpoint_is_saved() -> None:
    arguments = train(evaluation={"fraction": 0.05}, training={"saveSteps": 200, "perDeviceTrainBatchSize": 3})
    expected = {
        "do_eval": True,
        "eval_strategy": "steps",
        "eval_steps": 200,
        "val_size": 0.05,
        "per_device_eval_batch_size": 3,
    }
    assert expected.items() <= arguments.items()
    assert "eval_dataset" not in arguments


def test_evaluation_sets_are_named_and_trained_on_by_nobody() -> None:
    arguments = train("every-source")
    assert arguments["eval_dataset"] == "held-out,url-public"
    assert not {"held-out", "url-public"} & set(arguments["dataset"].split(","))
    assert (arguments["eval_steps"], arguments["per_device_eval_batch_size"]) == (50, 2)
    assert "val_size" not in arguments


# Precision and speed.


def test_pure_bf16_takes_the_place_of_mixed_precision() -> None:
    arguments = train(training={"precision": "pure_bf16"})
    assert arguments["pure_bf16"] is True
    assert "bf16" not in arguments


def test_packing_and_kernels_are_switched_on() -> None:
    arguments = train(training={"packing": True, "neatPacking": True, "ligerKernel": True})
    assert {"packing": True, "neat_packing": True, "enable_liger_kernel": True}.items() <= arguments.items()


# DeepSpeed.


def test_deepspeed_on_cpus_finds_them_itself() -> None:
    arguments = train("lora-2-nodes-cpu", distribution={"nodes": 2, "deepspeed": {"stage": 2}})
    assert arguments["deepspeed"] == "/etc/qwensft/deepspeed.json"
    assert "use_cpu" not in arguments  # transformers refuses both together


def test_the_users_deepspeed_configuration_is_read_from_where_prepare_put_it() -> None:
    assert train("every-source")["deepspeed"] == "/workspace/support-0f1e2d3c/data/deepspeed.json"


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
    arguments = export("full-1-node-2-gpus", merge={"engine": "llamafactory", "device": "auto", "shardSizeGB": 5})
    assert (arguments["export_device"], arguments["export_size"]) == ("auto", 5)
    assert arguments["finetuning_type"] == "full"


@pytest.mark.parametrize(
    ("tuning", "kind"),
    [
        ({"method": "full"}, "full"),
        ({"method": "freeze"}, "freeze"),
        ({"method": "lora"}, "lora"),
        ({"method": "qlora"}, "lora"),
        ({"method": "dora", "quantization": {}}, "lora"),
        ({"lora": {"pissa": True}}, "lora"),
    ],
)
def test_every_method_is_merged_into_the_base_as_its_files_hold_it(tuning: dict[str, Any], kind: str) -> None:
    arguments = export(tuning=tuning)
    assert arguments["finetuning_type"] == kind
    assert [name for name in arguments if "quantization" in name or "dora" in name or "pissa" in name] == []
