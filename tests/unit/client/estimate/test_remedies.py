"""What is advised fits, is a valid spec, and costs no more than needed."""

from typing import Any

import pytest

from qwensft.api.v1alpha1 import Spec
from qwensft.estimate.architectures import known
from qwensft.estimate.memory import footprint
from qwensft.estimate.remedies import remedies

from ...operator.plan.builders import job

ONE_GPU: dict[str, Any] = {"distribution": {}}
EIGHT_GPUS: dict[str, Any] = {"distribution": {}, "worker": {"accelerator": {"count": 8}}}


def advice(name: str, gigabytes: float, longest: int | None = None, **spec: Any) -> list[str]:
    model = known(name)
    assert model is not None
    shape = model

    def fits(changed: Spec) -> bool:
        needed = footprint(changed, shape, longest)
        return needed is not None and needed.device <= gigabytes * 1e9

    built = job(**({"model": {"name": name}} | spec)).spec
    assert not fits(built), "nothing to advise on"
    return remedies(built, fits, longest)


def test_a_smaller_batch_keeps_the_examples_per_step() -> None:
    told = advice("Qwen/Qwen3-8B", 30, **ONE_GPU)
    assert told[0] == "training.perDeviceTrainBatchSize: 1 and training.gradientAccumulationSteps: 16"


def test_what_costs_only_time_comes_first() -> None:
    training = {"perDeviceTrainBatchSize": 1, "gradientCheckpointing": False}
    told = advice("Qwen/Qwen3-8B", 40, training=training, **ONE_GPU)
    assert told[0] == "training.gradientCheckpointing: true"


def test_of_several_lengths_the_longest_that_fits_is_told() -> None:
    training = {"perDeviceTrainBatchSize": 1, "cutoffLen": 32768, "ligerKernel": True}
    assert "training.cutoffLen: 16384" in advice("Qwen/Qwen3-8B", 27, training=training, **ONE_GPU)


def test_a_length_that_no_example_reaches_is_not_told() -> None:
    training = {"perDeviceTrainBatchSize": 1}
    told = advice("Qwen/Qwen3-8B", 20, longest=900, training=training, **ONE_GPU)
    assert "training.cutoffLen: 512" in told
    assert not any("1024" in way or "2048" in way for way in told)


def test_full_tuning_on_several_gpus_is_sharded_before_it_is_given_up() -> None:
    told = advice("Qwen/Qwen3-8B", 75, tuning={"method": "full"}, **EIGHT_GPUS)
    assert told == ["distribution.deepspeed: {stage: 3}", "tuning.method: lora"]


def test_states_are_offloaded_where_sharding_is_not_enough() -> None:
    told = advice(
        "Qwen/Qwen3-32B", 75, tuning={"method": "full"}, training={"perDeviceTrainBatchSize": 1}, **EIGHT_GPUS
    )
    assert told[0] == "distribution.deepspeed: {stage: 3, offloadOptimizer: true, offloadParameters: true}"


def test_changes_that_are_not_enough_alone_are_told_together_and_no_more_than_needed() -> None:
    assert advice("Qwen/Qwen2.5-72B-Instruct", 65, **ONE_GPU) == [
        "training.perDeviceTrainBatchSize: 1 and training.gradientAccumulationSteps: 16 and tuning.method: qlora"
    ]


def test_a_change_that_the_api_refuses_spoils_no_combination() -> None:
    """ZeRO-3 would come before the shorter examples, but PiSSA stands against it."""
    tuning: dict[str, Any] = {"lora": {"pissa": True}}
    (told,) = advice("Qwen/Qwen3-14B", 33, tuning=tuning, training={"cutoffLen": 16384}, distribution={"nodes": 2})
    assert told.startswith("training.perDeviceTrainBatchSize: 1 and ")
    assert told.endswith(" and training.cutoffLen: 2048")


def test_what_the_api_refuses_is_not_advised() -> None:
    told = advice("Qwen/Qwen3-30B-A3B", 60, training={"perDeviceTrainBatchSize": 1, "ligerKernel": True}, **ONE_GPU)
    assert not any("qlora" in way for way in told), "bitsandbytes does not reach experts"


def test_dora_stays_dora_on_a_quantised_base() -> None:
    tuning = {"method": "dora", "lora": {"targets": ["all"]}}
    told = advice("Qwen/Qwen3-8B", 20, tuning=tuning, training={"perDeviceTrainBatchSize": 1}, **ONE_GPU)
    assert told[0] == "tuning.quantization: {bits: 4}"


def test_a_frozen_models_block_goes_with_its_method() -> None:
    told = advice(
        "Qwen/Qwen3-8B",
        30,
        tuning={"method": "freeze", "freeze": {"trainableLayers": 8}},
        training={"perDeviceTrainBatchSize": 1},
        **ONE_GPU,
    )
    assert "tuning.method: lora" in told


@pytest.mark.parametrize("name", ["Qwen/Qwen3-235B-A22B", "Qwen/Qwen3-32B"])
def test_a_model_beyond_all_measures_gets_no_false_hope(name: str) -> None:
    assert advice(name, 8, **ONE_GPU) == []
