"""The formulas against what was measured, and against exact counts of real models."""

from itertools import pairwise
from typing import Any

import pytest

from qwensft.estimate.architectures import Architecture, known
from qwensft.estimate.memory import Footprint, footprint
from qwensft.estimate.verdict import MARGIN

from ...operator.plan.builders import job

# Qwen's README, "Profiling of Memory and Speed": one A100, FlashAttention-2, batch size 1, LoRA of rank 64 on every
# linear layer; GB at these lengths. 72B with ZeRO-3 on four GPUs and full tuning of 7B on two: per GPU.
LENGTHS = (256, 512, 1024, 2048, 4096, 8192)
FIRST_QWEN = {
    "1.8B": Architecture(2048, 24, 16, 16, 5504),
    "7B": Architecture(4096, 32, 32, 32, 11008),
    "14B": Architecture(5120, 40, 40, 40, 13696, vocabulary=152_064),
    "72B": Architecture(8192, 80, 64, 64, 24576, vocabulary=152_064),
}
MEASURED = {
    ("1.8B", "lora"): (6.7, 7.4, 8.4, 11.0, 16.2, 21.8),
    ("7B", "lora"): (20.1, 20.4, 21.5, 23.8, 29.7, 36.6),
    ("14B", "lora"): (34.6, 35.1, 35.3, 37.4, 42.5, 55.2),
    ("1.8B", "lora with embeddings"): (13.7, 14.0, 14.0, 15.1, 19.7, 27.7),
    ("7B", "lora with embeddings"): (33.7, 34.1, 35.2, 35.1, 39.2, 48.5),
    ("14B", "lora with embeddings"): (51.2, 51.1, 51.5, 54.1, 56.8, 67.7),
    ("1.8B", "qlora"): (5.8, 6.0, 6.6, 7.8, 10.2, 15.8),
    ("7B", "qlora"): (11.5, 11.5, 12.3, 13.9, 16.9, 23.5),
    ("14B", "qlora"): (18.7, 18.4, 18.9, 19.9, 23.0, 27.9),
    ("72B", "qlora"): (61.4, 61.4, 62.9, 64.1, 68.0, 75.6),
    ("72B", "lora with ZeRO-3"): (53.9, 54.4, 55.7, 57.2, 62.3, 72.3),
    ("7B", "full with ZeRO-3"): (69.6, 74.0, 81.0),
    ("1.8B", "full with ZeRO-3"): (43.5, 43.5, 43.5, 43.5, 47.1, 48.3),
}
ERROR = {  # the greatest, of an estimate against what was measured, before the margin
    "lora": (-0.11, 0.07),
    "lora with embeddings": (0.14, 0.37),
    "qlora": (-0.14, 0.31),
    "lora with ZeRO-3": (-0.12, 0.01),
    "full with ZeRO-3": (-0.16, 0.08),
}


def needs(name: str = "Qwen/Qwen3-8B", /, longest: int | None = None, **spec: Any) -> Footprint:
    built = job(**({"model": {"name": name}, "distribution": {}} | spec))
    needed = footprint(built.spec, shape(name), longest)
    assert needed is not None
    return needed


def shape(name: str = "Qwen/Qwen3-8B") -> Architecture:
    model = known(name)
    assert model is not None
    return model


def published(size: str, method: str, length: int) -> Footprint:
    kind, _, more = method.partition(" with ")
    tuning: dict[str, Any] = {"method": kind}
    if kind != "full":
        tuning["lora"] = {"rank": 64, "targets": ["all"]}
    if more == "embeddings":
        tuning["lora"] |= {"additionalTargets": ["embed_tokens", "lm_head"]}
    count = {("72B", "lora"): 4, ("7B", "full"): 2}.get((size, kind), 1)
    built = job(
        tuning=tuning,
        training={"perDeviceTrainBatchSize": 1, "cutoffLen": length},
        worker={"accelerator": {"count": count}},
        distribution={"deepspeed": {"stage": 3}} if more == "ZeRO-3" else {},
    )
    needed = footprint(built.spec, FIRST_QWEN[size])
    assert needed is not None
    return needed


@pytest.mark.parametrize(("size", "method"), MEASURED, ids=[" ".join(key) for key in MEASURED])
def test_measured_trainings_are_met_within_the_documented_error(size: str, method: str) -> None:
    low, high = ERROR[method]
    for length, measured in zip(LENGTHS, MEASURED[size, method], strict=False):
        error = published(size, method, length).device / 1e9 / measured - 1
        assert low <= error <= high, f"{length} tokens: {error:+.0%}"


@pytest.mark.parametrize(("size", "method"), MEASURED, ids=[" ".join(key) for key in MEASURED])
def test_with_the_margin_no_measured_training_needs_more_than_estimated(size: str, method: str) -> None:
    for length, measured in zip(LENGTHS, MEASURED[size, method], strict=False):
        assert MARGIN * published(size, method, length).device / 1e9 >= measured, f"{length} tokens"


@pytest.mark.parametrize(
    ("model", "targets", "more", "counted"),
    [
        ("Qwen/Qwen3-8B", ["q_proj", "v_proj"], {}, 7_667_712),
        ("Qwen/Qwen3-8B", ["all"], {}, 43_646_976),
        ("Qwen/Qwen3-8B", ["q_proj"], {"additionalTargets": ["embed_tokens", "lm_head"]}, 1_249_378_304),
        ("Qwen/Qwen3-0.6B", ["self_attn.q_proj", "self_attn.v_proj"], {}, 2_293_760),
        ("Qwen/Qwen2.5-72B-Instruct", ["all"], {}, 210_534_400),
        # transformers 5 holds all experts in one tensor: adapters reach attention alone.
        ("Qwen/Qwen3-30B-A3B", ["all"], {}, 13_369_344),
    ],
)
def test_adapters_have_as_many_parameters_as_peft_counts(
    model: str, targets: list[str], more: dict[str, Any], counted: int
) -> None:
    needed = needs(model, tuning={"lora": {"rank": 16, "targets": targets, **more}})
    assert needed.states == 16 * counted


def test_dora_trains_a_vector_more_per_adapter() -> None:
    needed = needs(tuning={"method": "dora", "lora": {"rank": 16, "targets": ["all"]}})
    assert needed.states == 16 * 45_047_808  # counted with PEFT


@pytest.mark.parametrize(
    ("model", "method", "counted"),
    [
        # Saved tensors per token and layer, in bytes, counted with transformers 5.5.4 and PEFT 0.18 on the meta device.
        ("Qwen/Qwen3-8B", "full", 215_208),
        ("Qwen/Qwen3-8B", "lora", 188_808),
        ("Qwen/Qwen3-0.6B", "full", 71_784),
        ("Qwen/Qwen3-0.6B", "lora", 61_768),
        ("Qwen/Qwen2.5-7B", "full", 225_288),
        ("Qwen/Qwen2.5-7B", "lora", 211_176),
    ],
)
def test_activations_without_checkpointing_are_what_autograd_saves(model: str, method: str, counted: int) -> None:
    training = {"perDeviceTrainBatchSize": 1, "gradientCheckpointing": False}
    tuning: dict[str, Any] = {"method": method} | ({"lora": {"targets": ["all"]}} if method == "lora" else {})
    activations = needs(model, tuning=tuning, training=training).activations
    loss = 4096 * 12 * shape(model).vocabulary
    assert (activations - loss) / (4096 * shape(model).layers) == pytest.approx(counted, rel=0.12)


def test_the_identity_matrices_of_dora_are_counted() -> None:
    def inside(length: int) -> float:
        lora = {"rank": 16, "targets": ["all"]}
        training = {"perDeviceTrainBatchSize": 1, "cutoffLen": length, "ligerKernel": True}
        stored = length * 36 * 2 * 4096
        return needs(tuning={"method": "dora", "lora": lora}, training=training).activations - stored

    per_token = (inside(4096) - inside(512)) / (4096 - 512)
    assert per_token == pytest.approx(344_456, rel=0.02)  # counted on the meta device, as above
    assert inside(512) - 512 * per_token == pytest.approx(504.7e6, rel=0.01)


def test_examples_shorter_than_the_limit_need_less_unless_they_are_packed() -> None:
    assert needs(longest=1000).activations == needs(training={"cutoffLen": 1000}).activations
    assert needs(longest=9000) == needs()
    assert needs(longest=1000, training={"packing": True}) == needs(training={"packing": True})


def test_liger_does_without_the_logits_but_not_in_an_evaluation() -> None:
    plain, fused = needs(), needs(training={"ligerKernel": True})
    assert fused.activations < plain.activations / 3
    evaluated = needs(training={"ligerKernel": True}, evaluation={"fraction": 0.1})
    assert evaluated.activations > 3 * fused.activations
    small = needs(training={"ligerKernel": True}, evaluation={"fraction": 0.1, "batchSize": 1})
    assert small.activations == fused.activations


def test_an_evaluation_with_larger_batches_can_be_the_peak() -> None:
    assert needs(evaluation={"fraction": 0.1}) == needs()
    assert needs(evaluation={"fraction": 0.1, "batchSize": 8}).activations > needs().activations


def test_eager_attention_keeps_a_square_of_scores() -> None:
    training = {"perDeviceTrainBatchSize": 1, "gradientCheckpointing": False}
    plain, eager = (
        needs(model={"name": "Qwen/Qwen3-8B", "attention": kernel}, training=training) for kernel in ("sdpa", "eager")
    )
    assert eager.activations - plain.activations == 36 * 10 * 32 * 4096**2


FULL: dict[str, Any] = {"tuning": {"method": "full"}, "worker": {"accelerator": {"count": 8}}}


def test_each_zero_stage_shards_more() -> None:
    plain = needs(**FULL).device
    staged = [needs(**FULL, distribution={"deepspeed": {"stage": stage}}).device for stage in range(4)]
    assert all(more > less for more, less in pairwise([plain, *staged]))


def test_more_nodes_take_sharded_states_only() -> None:
    def states(stage: int, nodes: int) -> float:
        return needs(**FULL, distribution={"nodes": nodes, "deepspeed": {"stage": stage}}).states

    assert states(3, 2) == states(3, 1) / 2
    assert states(0, 2) == states(0, 1)


def test_offloading_moves_states_and_weights_to_the_host() -> None:
    stage3 = {"stage": 3}
    plain = needs(**FULL, distribution={"deepspeed": stage3})
    optimiser = needs(**FULL, distribution={"deepspeed": stage3 | {"offloadOptimizer": True}})
    both = needs(**FULL, distribution={"deepspeed": stage3 | {"offloadOptimizer": True, "offloadParameters": True}})
    assert plain.states > optimiser.states > both.states == 0
    assert plain.host < optimiser.host < both.host
    parameters = 8.19e9
    assert both.host - plain.host == pytest.approx(1.5 * 18 * parameters, rel=0.01)
    halved = needs(
        **FULL,
        distribution={"nodes": 2, "deepspeed": stage3 | {"offloadOptimizer": True, "offloadParameters": True}},
    )
    assert both.host - halved.host == pytest.approx(1.5 * 9 * parameters, rel=0.01)


def test_zero_3_shards_frozen_weights_too() -> None:
    worker = {"accelerator": {"count": 4}}
    alone, sharded = needs(worker=worker), needs(worker=worker, distribution={"deepspeed": {"stage": 3}})
    assert sharded.weights == alone.weights / 4


def test_processes_that_train_together_hold_a_bucket_of_gradients_more() -> None:
    one = needs(tuning={"method": "full"})
    assert needs(**FULL).states - one.states == pytest.approx(4 * 8.19e9, rel=0.01)


def test_pure_bf16_halves_the_states() -> None:
    mixed, pure = (
        needs(tuning={"method": "full"}, training={"precision": precision}).states
        for precision in ("bf16", "pure_bf16")
    )
    assert pure < mixed / 2


@pytest.mark.parametrize(
    ("quantization", "per_weight"),
    [
        ({}, 0.516),
        ({"doubleQuantization": False}, 0.5625),
        ({"bits": 8}, 1.0),
        ({"method": "hqq"}, 0.5625),
        ({"method": "hqq", "bits": 8}, 1.0625),
        ({"method": "eetq", "bits": 8}, 1.0),
    ],
    ids=str,
)
def test_quantised_weights_take_their_bits_and_constants(quantization: dict[str, Any], per_weight: float) -> None:
    model = shape()
    weights = needs(tuning={"method": "qlora", "quantization": quantization}).weights
    assert weights == per_weight * (model.parameters - model.embeddings) + 2 * model.embeddings


def test_a_checkpoint_that_is_quantised_already_takes_its_stored_size() -> None:
    assert needs("Qwen/Qwen3-32B-AWQ").weights < needs("Qwen/Qwen3-32B").weights / 3


def test_freezing_all_but_two_layers_trains_two_layers() -> None:
    model = shape()
    two = needs(tuning={"method": "freeze"})
    assert two.states == 18 * 2 * model.layer
    assert two.weights == 2 * (model.parameters - 2 * model.layer)
    mlp = needs(tuning={"method": "freeze", "freeze": {"trainableModules": ["mlp"], "extraModules": ["lm_head"]}})
    assert mlp.states == 18 * (2 * model.mlp + model.embedding)


def test_training_the_first_layers_keeps_the_activations_of_all_above_them() -> None:
    last, first = (needs(tuning={"method": "freeze", "freeze": {"trainableLayers": n}}) for n in (2, -2))
    assert first.states == last.states
    assert first.activations > 3 * last.activations


def test_of_a_vision_model_only_the_parts_asked_for_are_trained() -> None:
    name = "Qwen/Qwen2.5-VL-7B-Instruct"
    model = shape(name)
    language = needs(name, tuning={"method": "full"})
    tower = needs(name, tuning={"method": "full", "vision": {"freezeTower": False, "freezeLanguageModel": True}})
    everything = needs(name, tuning={"method": "full", "vision": {"freezeTower": False}})
    assert language.states == 18 * model.language
    assert language.weights == 2 * model.vision
    assert tower.states == 18 * model.vision
    assert everything.states == 18 * model.parameters
    assert everything.weights == 0


def test_added_tokens_have_the_embeddings_trained() -> None:
    model = shape()
    added = needs(model={"name": "Qwen/Qwen3-8B", "addTokens": ["<note>"]})
    assert added.states - needs().states == 16 * 2 * model.embedding


def test_on_cpus_all_memory_is_the_hosts() -> None:
    cpu = {"accelerator": {"count": 0}}
    one = needs("Qwen/Qwen3-0.6B", worker=cpu)
    assert one.device == 0
    two = needs("Qwen/Qwen3-0.6B", worker=cpu, distribution={"processesPerNode": 2})
    assert two.host > 1.9 * one.host
    exact = needs("Qwen/Qwen3-0.6B", worker=cpu, training={"precision": "fp32"})
    assert exact.host > one.host


def test_a_deepspeed_configuration_of_the_users_is_not_guessed() -> None:
    model = shape()
    own = job(distribution={"deepspeed": {"config": {"name": "mine", "key": "ds.json"}}})
    assert footprint(own.spec, model) is None
