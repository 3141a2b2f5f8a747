"""What a quantised base cannot do, and what cannot be quantised."""

from __future__ import annotations

from typing import Any

import pytest

from qwensft_trainer.contract.errors import PermanentError
from qwensft_trainer.model.checks import chain as model_checks

from ...conftest import Scene
from .judging import model, quantize, refusal, warnings, zero

GPTQ = {"quantization_config": {"quant_method": "gptq", "bits": 4}}
FP8 = {"quantization_config": {"quant_method": "fp8"}}
BNB = {"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}}


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
