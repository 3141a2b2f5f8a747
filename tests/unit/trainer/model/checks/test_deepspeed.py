"""A DeepSpeed configuration of the user's own is judged in prepare and copied to where training reads it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from qwensft_trainer.contract.errors import PermanentError
from qwensft_trainer.model.checks import deepspeed as deepspeed_config

from ...conftest import UNREADABLE, Scene

AUTO: dict[str, Any] = {
    "train_batch_size": "auto",
    "train_micro_batch_size_per_gpu": "auto",
    "gradient_accumulation_steps": "auto",
    "bf16": {"enabled": "auto"},
    "zero_optimization": {"stage": 2},
}


def own(scene: Scene, configuration: Any) -> None:
    path = scene.root / "ds" / "zero.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(configuration if isinstance(configuration, str) else json.dumps(configuration))
    scene.document["deepspeed"] = {"stage": None, "config": str(path)}


def refusal(scene: Scene) -> str:
    def judge() -> None:
        deepspeed_config.check(scene.run, scene.train)
        deepspeed_config.stage(scene.run)

    with pytest.raises(PermanentError) as caught:
        judge()
    assert caught.value.reason == "InvalidConfig"
    assert "spec.distribution.deepspeed.config" in caught.value.message
    return caught.value.message


def test_without_deepspeed_there_is_no_stage_and_nothing_to_copy(scene: Scene) -> None:
    deepspeed_config.check(scene.run, scene.train)
    deepspeed_config.install(scene.run)
    assert deepspeed_config.stage(scene.run) is None
    assert not (scene.run_directory / "data").exists()


def test_the_typed_fields_say_the_stage_themselves(scene: Scene) -> None:
    scene.document["deepspeed"] = {"stage": 3, "config": "/etc/qwensft/deepspeed.json"}
    assert deepspeed_config.stage(scene.run) == 3
    deepspeed_config.install(scene.run)
    assert not (scene.run_directory / "data").exists()


@pytest.mark.parametrize(("zero", "stage"), [({"stage": 2}, 2), ({}, 0), (None, 0)])
def test_the_stage_of_an_own_file_is_read(scene: Scene, zero: Any, stage: int) -> None:
    own(
        scene,
        {key: value for key, value in AUTO.items() if key != "zero_optimization"}
        | ({"zero_optimization": zero} if zero is not None else {}),
    )
    assert deepspeed_config.stage(scene.run) == stage


def test_an_own_file_is_copied_as_it_is(scene: Scene) -> None:
    own(scene, AUTO)
    deepspeed_config.check(scene.run, scene.train)
    deepspeed_config.install(scene.run)
    assert json.loads((scene.run_directory / "data" / "deepspeed.json").read_text()) == AUTO


def test_zero_3_gathers_the_weights_it_saves(scene: Scene) -> None:
    own(scene, AUTO | {"zero_optimization": {"stage": 3}})
    deepspeed_config.install(scene.run)
    copied = json.loads((scene.run_directory / "data" / "deepspeed.json").read_text())
    assert copied["zero_optimization"]["stage3_gather_16bit_weights_on_model_save"] is True


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("{", "no valid JSON"),
        ("[1]", "must hold a JSON object"),
        ('{"zero_optimization": {"stage": 4}}', "must be 0, 1"),
    ],
)
def test_a_file_that_is_no_configuration_is_refused(scene: Scene, content: str, expected: str) -> None:
    own(scene, content if "stage" not in content else AUTO | json.loads(content))
    assert expected in refusal(scene)


def test_a_missing_key_of_the_config_map_is_named(scene: Scene) -> None:
    own(scene, AUTO)
    (scene.root / "ds" / "zero.json").unlink()
    assert "the key zero.json of the ConfigMap cannot be read" in refusal(scene)


def test_numbers_that_contradict_the_spec_are_named_with_both_values(scene: Scene) -> None:
    scene.train |= {"per_device_train_batch_size": 4, "bf16": True}
    optimizer = {"type": "AdamW", "params": {"lr": 0.1}}
    own(scene, AUTO | {"train_micro_batch_size_per_gpu": 2, "bf16": {"enabled": False}, "optimizer": optimizer})
    message = refusal(scene)
    for part in (
        "train_micro_batch_size_per_gpu is 2, but spec.training.perDeviceTrainBatchSize is 4",
        "bf16.enabled is False, but spec.training.precision is True",
        "optimizer.params.lr is 0.1, but spec.training.learningRate is 5e-06",
        '"auto"',
    ):
        assert part in message


def test_the_same_numbers_as_the_spec_are_no_contradiction(scene: Scene) -> None:
    scene.train |= {"per_device_train_batch_size": 4, "bf16": True}
    own(scene, AUTO | {"train_micro_batch_size_per_gpu": 4, "bf16": {"enabled": True}})
    deepspeed_config.check(scene.run, scene.train)


def test_a_configuration_without_a_batch_size_is_refused(scene: Scene) -> None:
    own(scene, {"zero_optimization": {"stage": 1}})
    assert "train_micro_batch_size_per_gpu" in refusal(scene)


def test_a_file_that_cannot_be_read_now_is_no_bad_one(scene: Scene) -> None:
    scene.document["deepspeed"] = {"stage": None, "config": str(UNREADABLE)}
    with pytest.raises(OSError, match="Input/output error"):
        deepspeed_config.check(scene.run, scene.train)
