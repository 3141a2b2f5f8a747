"""Names of modules that a model does not have, or has otherwise than meant."""

from __future__ import annotations

import pytest

from ...conftest import Scene
from .judging import model, refusal, warnings

GPTQ = {"quantization_config": {"quant_method": "gptq", "bits": 4}}
FP8 = {"quantization_config": {"quant_method": "fp8"}}
BNB = {"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}}


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

    def test_tied_output_embeddings_are_no_target_even_where_the_files_store_them(self, job: Scene) -> None:
        model(job, "qwen3", head=True, tie_word_embeddings=True)
        job.train["lora_target"] = "q_proj,lm_head"
        assert "lm_head of Qwen/Qwen3-0.6B is its input embeddings (tie_word_embeddings)" in refusal(job)
