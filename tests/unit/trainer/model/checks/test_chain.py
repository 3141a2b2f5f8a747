"""What a model cannot do is said in prepare, with the change to make, and not by eight accelerators later."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ... import models
from ...conftest import Scene
from .judging import model, refusal, warnings, zero

GPTQ = {"quantization_config": {"quant_method": "gptq", "bits": 4}}
FP8 = {"quantization_config": {"quant_method": "fp8"}}
BNB = {"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}}


def test_an_ordinary_job_passes_without_a_word(job: Scene) -> None:
    assert warnings(job) == []


@pytest.mark.parametrize(
    "model_type",
    ["qwen2", "qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_5", "qwen3_next", "qwen2_moe", "qwen3_moe"],
)
def test_every_family_passes(job: Scene, packages: set[str], model_type: str) -> None:
    packages.add("fla")
    model(job, model_type)
    assert not [warning for warning in warnings(job) if "chat template" not in warning]


def test_thinking_needs_a_template_that_thinks(job: Scene) -> None:
    job.train["enable_thinking"] = False
    assert warnings(job) == []
    model(job, "qwen2")
    assert "spec.model.enableThinking is set, but the model's template, qwen," in refusal(job)


def test_a_template_that_does_not_fit_the_chat_template_is_a_warning(job: Scene) -> None:
    job.document["model"]["template"] = "qwen3_nothink"
    assert "spec.model.template: qwen3 fits" in warnings(job)[0]


class TestVision:
    def test_a_vision_language_model_needs_its_image_processor(self, job: Scene) -> None:
        model(job, "qwen2_5_vl")
        (job.root / "model" / "preprocessor_config.json").unlink()
        assert "lacks preprocessor_config.json or processor_config.json" in refusal(job, "InvalidModel")
        (job.root / "model" / "processor_config.json").touch()
        assert warnings(job) == []

    def test_vision_settings_are_refused_for_a_text_model(self, job: Scene) -> None:
        job.train["freeze_vision_tower"] = False
        assert "spec.tuning.vision is for vision-language models" in refusal(job)
        model(job, "qwen2_5_vl")
        assert warnings(job) == []

    def test_something_has_to_be_left_to_train(self, job: Scene) -> None:
        model(job, "qwen2_5_vl")
        job.train["freeze_language_model"] = True
        assert "nothing is left to train" in refusal(job)

    def test_a_frozen_tower_offers_no_targets(self, job: Scene) -> None:
        model(job, "qwen2_5_vl")
        job.train["lora_target"] = "qkv"
        message = refusal(job)
        assert "qkv matches no module" in message
        assert "q_proj" in message
        job.train["freeze_vision_tower"] = False
        assert warnings(job) == []

    def test_a_frozen_language_model_offers_none_either(self, job: Scene) -> None:
        model(job, "qwen2_5_vl")
        job.train |= {"freeze_language_model": True, "freeze_vision_tower": False}
        assert "q_proj, v_proj matches no module" in refusal(job)


class TestDeepSpeed:
    @pytest.mark.parametrize(
        ("argument", "field"),
        [
            ("pissa_init", "spec.tuning.lora.pissa"),
            ("use_unsloth", "spec.extraArguments.use_unsloth"),
        ],
    )
    def test_what_zero_3_refuses(self, job: Scene, argument: str, field: str) -> None:
        job.train[argument] = True
        zero(job, 2)
        assert warnings(job) == []
        zero(job, 3)
        assert field in refusal(job)

    def test_the_stage_of_an_own_file_counts_as_well(self, job: Scene, tmp_path: Path) -> None:
        path = tmp_path / "own.json"
        path.write_text('{"train_micro_batch_size_per_gpu": "auto", "zero_optimization": {"stage": 3}}')
        job.document["deepspeed"] = {"stage": None, "config": str(path)}
        job.train["pissa_init"] = True
        assert "ZeRO-3" in refusal(job)

    @pytest.mark.parametrize(
        ("argument", "field"),
        [
            ("use_galore", "spec.extraArguments.use_galore"),
            ("use_apollo", "spec.extraArguments.use_apollo"),
            ("pure_bf16", "spec.training.precision: pure_bf16"),
        ],
    )
    def test_what_no_stage_takes(self, job: Scene, argument: str, field: str) -> None:
        job.train[argument] = True
        assert warnings(job) == []
        zero(job, 0)
        assert field in refusal(job)

    @pytest.mark.parametrize("precision", ["bf16", "fp16"])
    def test_on_cpus_it_computes_in_fp32(self, job: Scene, precision: str) -> None:
        job.document["accelerator"] = {"count": 0}
        zero(job, 2)
        assert warnings(job) == []
        job.train[precision] = True
        assert "spec.training.precision to fp32" in refusal(job)

    def test_a_mixture_of_experts_under_zero_3_is_a_warning(self, job: Scene) -> None:
        model(job, "qwen3_moe")
        zero(job, 2)
        assert warnings(job) == []
        zero(job, 3)
        assert "ZeRO-2 is the safer choice" in warnings(job)[0]


def test_samples_beyond_the_models_positions_are_a_warning(job: Scene) -> None:
    job.train["cutoff_len"] = 8192
    (warning,) = warnings(job)
    for part in ("cutoffLen 8192", "4096 positions", "rope_scaling"):
        assert part in warning


class TestPackages:
    def test_flash_attention_without_its_package_is_refused(self, job: Scene, packages: set[str]) -> None:
        job.train["flash_attn"] = "fa2"
        message = refusal(job)
        assert "spec.model.attention" in message
        assert "trainer-flash-attn" in message
        packages.add("flash_attn")
        assert warnings(job) == []

    @pytest.mark.parametrize("attention", ["auto", "sdpa", "disabled", None])
    def test_other_kinds_of_attention_need_no_package(self, job: Scene, attention: str | None) -> None:
        job.train["flash_attn"] = attention
        assert warnings(job) == []

    def test_flash_attention_of_hybrid_models_needs_one_more(self, job: Scene, packages: set[str]) -> None:
        packages.add("flash_attn")
        model(job, "qwen3_5")
        job.train["flash_attn"] = "fa2"
        assert "flash-linear-attention" in refusal(job)

    def test_liger_without_its_package_is_refused(self, job: Scene, packages: set[str]) -> None:
        job.train["enable_liger_kernel"] = True
        assert warnings(job) == []
        packages.remove("liger_kernel")
        assert "spec.training.ligerKernel" in refusal(job)

    def test_liger_needs_accelerators(self, job: Scene) -> None:
        job.train["enable_liger_kernel"] = True
        job.document["accelerator"] = {"count": 0}
        assert "spec.training.ligerKernel needs accelerators" in refusal(job)

    def test_liger_does_nothing_for_some_models(self, job: Scene) -> None:
        model(job, "qwen3_vl")
        job.train["enable_liger_kernel"] = True
        assert "ligerKernel does nothing for models of type qwen3_vl" in warnings(job)[0]


def test_a_model_that_always_thinks_cannot_be_trained_without(job: Scene) -> None:
    model(job, "qwen3", chat=models.THINKING)
    job.train["enable_thinking"] = True
    assert warnings(job) == []
    job.train["enable_thinking"] = False
    assert "always thinks by its chat template, and cannot be asked otherwise" in refusal(job)


def test_linear_attention_keeps_no_packed_rows_apart_and_wants_its_package(job: Scene, packages: set[str]) -> None:
    model(job, "qwen3_next")
    assert any("slow and take more memory without the package flash-linear-attention" in one for one in warnings(job))
    packages.add("fla")
    assert not any("flash-linear-attention" in one for one in warnings(job))
    job.train["neat_packing"] = True
    assert "spec.training.neatPacking cannot keep packed rows apart" in refusal(job)


@pytest.mark.parametrize(
    ("ends", "targets", "expected"),
    [
        (151643, "", True),
        ([151643], "", True),
        ([151645, 151643], "", False),
        (151643, "embed_tokens,lm_head", False),
    ],
)
def test_a_base_model_may_not_learn_to_end_its_answers(job: Scene, ends: Any, targets: str, expected: bool) -> None:
    model(job, "qwen2")
    (job.root / "model" / "generation_config.json").write_text(json.dumps({"eos_token_id": ends}))
    job.train["additional_target"] = targets
    assert any("it may not learn to end its answers" in one for one in warnings(job)) == expected
