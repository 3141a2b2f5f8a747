"""DeepSpeed's configuration: what the typed fields become, and where a configuration of the user's is read."""

from __future__ import annotations

import json
from typing import Any

import pytest

from qwensft.api.v1alpha1 import Stage
from qwensft_operator.render import config_map

from .jobs import job, run

ON_CPU = {"device": "cpu", "pin_memory": True}


def configuration(**deepspeed: Any) -> dict[str, Any]:
    full = job("full-1-node-2-gpus", distribution={"deepspeed": deepspeed})
    written: dict[str, Any] = json.loads(config_map(full, Stage.TRAIN, 1)["data"]["deepspeed.json"])
    return written


def zero(**deepspeed: Any) -> dict[str, Any]:
    section: dict[str, Any] = configuration(**deepspeed)["zero_optimization"]
    return section


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_what_training_arguments_say_is_said_there_alone(stage: int) -> None:
    written = configuration(stage=stage)
    filled_in = {
        "train_batch_size",
        "train_micro_batch_size_per_gpu",
        "gradient_accumulation_steps",
        "gradient_clipping",
    }
    assert {written[name] for name in filled_in} == {"auto"}
    assert (written["fp16"]["enabled"], written["bf16"]["enabled"]) == ("auto", "auto")
    # transformers makes both from its own arguments, such as learning_rate and lr_scheduler_type.
    assert {"optimizer", "scheduler"}.isdisjoint(written)


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_the_stage_is_the_one_asked_for(stage: int) -> None:
    assert zero(stage=stage)["stage"] == stage


@pytest.mark.parametrize("stage", [0, 1, 2])
def test_buckets_have_a_size_where_the_model_is_whole(stage: int) -> None:
    section = zero(stage=stage)
    assert section["allgather_bucket_size"] == section["reduce_bucket_size"] == 500_000_000
    assert not [name for name in section if name.startswith("stage3")]


def test_a_sharded_model_is_saved_whole() -> None:
    section = zero(stage=3)
    assert section["stage3_gather_16bit_weights_on_model_save"] is True
    # By the model's width, which transformers knows.
    buckets = ("reduce_bucket_size", "stage3_prefetch_bucket_size", "stage3_param_persistence_threshold")
    assert {section[name] for name in buckets} == {"auto"}


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_the_optimizer_moves_to_the_host_when_asked(stage: int) -> None:
    assert zero(stage=stage, offloadOptimizer=True)["offload_optimizer"] == ON_CPU
    assert "offload_optimizer" not in zero(stage=stage)


def test_the_weights_move_to_the_host_when_asked() -> None:
    section = zero(stage=3, offloadOptimizer=True, offloadParameters=True)
    assert (section["offload_param"], section["offload_optimizer"]) == (ON_CPU, ON_CPU)
    assert "offload_param" not in zero(stage=3, offloadOptimizer=True)


def test_numbers_are_written_as_whole_numbers() -> None:
    text = config_map(job(distribution={"deepspeed": {"stage": 2}}), Stage.TRAIN, 1)["data"]["deepspeed.json"]
    assert '"reduce_bucket_size": 500000000,' in text


def test_prepare_and_train_are_given_the_configuration_and_the_merge_is_not() -> None:
    rendered = job(distribution={"deepspeed": {"stage": 3}})
    present = {stage: "deepspeed.json" in config_map(rendered, stage, 1)["data"] for stage in Stage}
    assert present == {Stage.PREPARE: True, Stage.TRAIN: True, Stage.MERGE: False}


def test_there_is_no_configuration_without_deepspeed_or_with_the_users() -> None:
    assert "deepspeed.json" not in config_map(job(), Stage.TRAIN, 1)["data"]
    assert "deepspeed.json" not in config_map(job("every-source"), Stage.TRAIN, 1)["data"]


@pytest.mark.parametrize(
    ("deepspeed", "section"),
    [
        ({"stage": 3}, {"stage": 3, "config": "/etc/qwensft/deepspeed.json"}),
        ({"stage": 0}, {"stage": 0, "config": "/etc/qwensft/deepspeed.json"}),
        ({"config": {"name": "zero", "key": "a.json"}}, {"stage": None, "config": "/etc/qwensft-deepspeed/a.json"}),
    ],
)
def test_prepare_is_told_the_stage_or_the_file_to_look_into(deepspeed: dict[str, Any], section: dict[str, Any]) -> None:
    assert run(distribution={"deepspeed": deepspeed})["deepspeed"] == section | {"ranks": 1}


def test_the_number_of_ranks_is_that_of_all_nodes() -> None:
    rendered = run(
        distribution={"deepspeed": {"stage": 3}, "nodes": 2}, worker={"accelerator": {"count": 4}},
        training={"precision": "bf16"},
    )  # fmt: skip
    assert rendered["deepspeed"]["ranks"] == 8


def test_a_run_without_deepspeed_says_nothing_of_it() -> None:
    assert "deepspeed" not in run()
