"""What a model cannot do is said in prepare, with the change to make, and not by eight accelerators later."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from qwensft_trainer.contract.errors import PermanentError
from qwensft_trainer.model.checks import chain as model_checks
from qwensft_trainer.model.checks import checked_job

from ... import models
from ...conftest import Scene

GPTQ = {"quantization_config": {"quant_method": "gptq", "bits": 4}}
FP8 = {"quantization_config": {"quant_method": "fp8"}}
BNB = {"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}}


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


def model(job: Scene, model_type: str, **options: Any) -> None:
    for path in (job.root / "model").iterdir():
        path.unlink()
    models.write(job.root / "model", model_type, **options)


def warnings(job: Scene) -> list[str]:
    found = model_checks.check(job.run, job.train)
    assert all(len(warning) <= 300 for warning in found)  # what a termination message has room for
    return found


def refusal(job: Scene, reason: str = "InvalidConfig") -> str:
    with pytest.raises(PermanentError) as caught:
        warnings(job)
    assert caught.value.reason == reason
    return caught.value.message


def zero(job: Scene, stage: int) -> None:
    job.document["deepspeed"] = {"stage": stage, "config": "/etc/qwensft/deepspeed.json"}


def quantize(job: Scene, *, bits: int = 4, method: str = "bnb", **more: Any) -> None:
    job.document["tuning"] = {"method": "lora", "quantization": {"bits": bits, "method": method}} | more


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


class TestQuantisedBase:
    @pytest.mark.parametrize("method", ["full", "freeze"])
    def test_its_weights_are_not_trained(self, job: Scene, method: str) -> None:
        model(job, "qwen3", **FP8)
        job.document["tuning"] = {"method": method}
        message = refusal(job, "InvalidModel")
        assert "is quantised already (fp8, by config.json)" in message
        assert "bf16 model" in message

    def test_it_is_not_quantised_again(self, job: Scene) -> None:
        model(job, "qwen3", **BNB)
        quantize(job)
        assert "cannot be quantised again" in refusal(job)

    def test_an_adapter_trains_on_it_when_its_package_is_there(self, job: Scene, packages: set[str]) -> None:
        model(job, "qwen3", **GPTQ)
        message = refusal(job)
        assert "needs gptqmodel and optimum, absent here" in message
        assert "spec.worker.image" in message
        packages.update({"gptqmodel", "optimum"})
        assert warnings(job) == []

    def test_awq_needs_what_llama_factory_and_what_transformers_ask_for(self, job: Scene, packages: set[str]) -> None:
        model(job, "qwen3", quantization_config={"quant_method": "awq", "bits": 4})
        packages.add("awq")
        assert "needs gptqmodel, absent here" in refusal(job)
        packages.add("gptqmodel")
        assert warnings(job) == []

    def test_it_is_not_merged_with_an_adapter(self, job: Scene) -> None:
        model(job, "qwen3", **BNB)
        assert warnings(job) == []
        job.document["mergePlanned"] = True
        message = refusal(job, "InvalidModel")
        assert "bf16 base" in message
        assert "spec.merge.enabled" in message
        with pytest.raises(PermanentError, match="bf16 base"):
            model_checks.require_mergeable(job.run)

    def test_a_plain_base_is_mergeable(self, job: Scene) -> None:
        job.document["mergePlanned"] = True
        assert warnings(job) == []
        model_checks.require_mergeable(job.run)

    @pytest.mark.parametrize(
        ("change", "expected"),
        [
            ({"tuning": {"method": "lora", "pissa": True}}, "pissa needs the bf16 model"),
            ({"tuning": {"method": "lora", "dora": True}}, "DoRA needs a bf16 or bitsandbytes model"),
            ({"deepspeed": {"stage": 3, "config": "/etc/ds.json"}}, "ZeRO-3 cannot shard"),
        ],
    )
    def test_what_does_not_work_on_it_is_refused(self, job: Scene, change: dict[str, Any], expected: str) -> None:
        model(job, "qwen3", **GPTQ)
        job.document |= change
        assert expected in refusal(job)

    def test_its_vocabulary_does_not_grow(self, job: Scene) -> None:
        model(job, "qwen3", **FP8)
        job.train["resize_vocab"] = True
        assert "spec.model.addTokens" in refusal(job)


class TestQuantisation:
    def test_bnb_passes(self, job: Scene) -> None:
        quantize(job)
        assert warnings(job) == []

    @pytest.mark.parametrize(("method", "bits"), [("hqq", 4), ("eetq", 8)])
    def test_a_package_that_the_image_lacks_is_named(
        self, job: Scene, packages: set[str], method: str, bits: int
    ) -> None:
        quantize(job, bits=bits, method=method)
        message = refusal(job)
        for part in (f"needs {method}", "spec.tuning.quantization.method to bnb", "spec.worker.image"):
            assert part in message
        packages.update({method, "kernels"})
        assert warnings(job) == []

    @pytest.mark.parametrize("model_type", ["qwen2_moe", "qwen3_moe", "qwen3_next", "qwen3_vl_moe", "qwen3_5_moe"])
    def test_mixtures_of_experts_gain_nothing(self, job: Scene, model_type: str) -> None:
        model(job, model_type)
        quantize(job)
        message = refusal(job)
        assert "mixture of experts" in message
        assert "spec.tuning.method to lora" in message

    @pytest.mark.parametrize(("method", "bits"), [("bnb", 8), ("hqq", 4), ("eetq", 8)])
    def test_zero_3_takes_4_bit_bnb_only(self, job: Scene, method: str, bits: int) -> None:
        quantize(job, bits=bits, method=method)
        zero(job, 3)
        assert f"not with {bits}-bit {method}" in refusal(job)
        quantize(job)
        assert warnings(job) == []

    def test_dora_takes_bnb_only(self, job: Scene) -> None:
        quantize(job, method="hqq", dora=True)
        assert "set spec.tuning.quantization.method to bnb" in refusal(job)
        quantize(job, dora=True)
        assert warnings(job) == []

    @pytest.mark.parametrize(("argument", "field"), [("fp8", "extraArguments.fp8"), ("resize_vocab", "addTokens")])
    def test_what_does_not_go_with_it_is_refused(self, job: Scene, argument: str, field: str) -> None:
        quantize(job)
        job.train[argument] = True
        assert field in refusal(job)


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


class TestModules:
    def test_a_target_that_matches_nothing_is_named_with_what_there_is(self, job: Scene) -> None:
        job.train["lora_target"] = "q_proj,query,W_pack"
        message = refusal(job)
        assert "spec.tuning.lora.targets: query, W_pack matches no module" in message
        assert "down_proj, gate_proj, k_proj, o_proj, q_proj, up_proj, v_proj" in message

    @pytest.mark.parametrize("target", ["all", "self_attn.q_proj", "gate_proj, o_proj"])
    def test_targets_match_by_the_end_of_the_name(self, job: Scene, target: str) -> None:
        job.train["lora_target"] = target
        assert warnings(job) == []

    def test_experts_are_out_of_reach(self, job: Scene) -> None:
        model(job, "qwen3_moe")
        job.train["lora_target"] = "q_proj,up_proj"
        assert "up_proj matches no module" in refusal(job)
        job.train["lora_target"] = "all"
        (warning,) = warnings(job)
        assert "k_proj, o_proj, q_proj, v_proj, but not the experts" in warning

    def test_additional_targets_exist(self, job: Scene) -> None:
        job.train["additional_target"] = "embed_token"
        message = refusal(job)
        assert "embed_token is no module" in message
        assert "embed_tokens" in message

    def test_additional_targets_on_tied_embeddings_are_a_warning(self, job: Scene) -> None:
        job.train["additional_target"] = "embed_tokens,lm_head"
        assert "additional target embed_tokens and lm_head" in warnings(job)[0]
        model(job, "qwen3", head=True)
        assert warnings(job) == []

    def test_new_tokens_need_their_rows_trained(self, job: Scene) -> None:
        model(job, "qwen3", head=True)
        job.train |= {"resize_vocab": True, "additional_target": "norm"}
        assert "contain embed_tokens and lm_head" in refusal(job)
        job.train["additional_target"] = "norm,embed_tokens,lm_head"
        assert warnings(job) == []

    def test_no_more_layers_are_trained_than_there_are(self, job: Scene) -> None:
        job.document["tuning"] = {"method": "freeze"}
        for count in (2, -2):
            job.train["freeze_trainable_layers"] = count
            assert warnings(job) == []
        job.train["freeze_trainable_layers"] = -3
        message = refusal(job)
        assert "trainableLayers is 3" in message
        assert "has 2 layers" in message

    @pytest.mark.parametrize(
        ("argument", "good", "there"),
        [
            ("freeze_trainable_modules", "mlp,self_attn", "all, input_layernorm, mlp, self_attn"),
            ("freeze_extra_modules", "embed_tokens", "embed_tokens, norm"),
        ],
    )
    def test_modules_to_train_exist(self, job: Scene, argument: str, good: str, there: str) -> None:
        job.document["tuning"] = {"method": "freeze"}
        job.train[argument] = good
        assert warnings(job) == []
        job.train[argument] = f"{good},attention"
        message = refusal(job)
        assert "attention is no such module" in message
        assert f"There are {there}." in message


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
