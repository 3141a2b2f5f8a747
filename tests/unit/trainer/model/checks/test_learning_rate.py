"""A training that runs well and learns nothing is told of before it holds an accelerator."""

from __future__ import annotations

from typing import Any

import pytest

from qwensft_trainer.model.checks import learning_rate

from ...conftest import Scene

DEFAULTS: dict[str, Any] = {
    "learning_rate": 5e-6,
    "lr_scheduler_type": "cosine",
    "warmup_steps": 100,
    "num_train_epochs": 3.0,
    "per_device_train_batch_size": 4,
    "gradient_accumulation_steps": 4,
}


def warnings(scene: Scene, samples: int, method: str = "lora", **arguments: Any) -> list[str]:
    scene.document["tuning"] = {"method": method}
    found = learning_rate.warnings(scene.run, DEFAULTS | arguments, samples)
    assert all(len(warning) <= 200 for warning in found)  # what a termination message has room for
    return found


def test_the_defaults_on_few_rows_get_both_warnings(scene: Scene) -> None:
    warmup, rate = warnings(scene, 60)
    assert "warmupSteps is 100 and the training has 12 steps at most" in warmup
    assert "warmupRatio: 0.05" in warmup
    assert "learningRate is 5e-06, and an adapter hardly learns below 1e-05: 1.0e-4 is usual" in rate


# 34 steps in each of three epochs: the last ones are shorter, and count.
@pytest.mark.parametrize(("samples", "warned"), [(33 * 16, True), (33 * 16 + 1, False)])
def test_steps_are_counted_with_the_last_batches_of_an_epoch(scene: Scene, samples: int, warned: bool) -> None:
    assert bool(warnings(scene, samples, learning_rate=1e-4)) is warned


@pytest.mark.parametrize(("steps", "warned"), [(100, True), (101, False)])
def test_a_given_number_of_steps_counts_instead(scene: Scene, steps: int, warned: bool) -> None:
    assert bool(warnings(scene, 5, learning_rate=1e-4, max_steps=steps)) is warned


@pytest.mark.parametrize(
    "arguments", [{"warmup_steps": 5}, {"warmup_steps": None, "warmup_ratio": 0.1}, {"lr_scheduler_type": "constant"}]
)
def test_a_rate_that_comes_up_is_not_warned_of(scene: Scene, arguments: dict[str, Any]) -> None:
    assert warnings(scene, 60, learning_rate=1e-4, **arguments) == []


@pytest.mark.parametrize("method", ["full", "freeze"])
def test_the_models_own_weights_are_trained_at_low_rates(scene: Scene, method: str) -> None:
    assert warnings(scene, 10_000, method) == []


def test_lora_plus_trains_half_of_the_adapter_at_a_multiple_of_the_rate(scene: Scene) -> None:
    assert warnings(scene, 10_000, loraplus_lr_ratio=16) == []
    assert warnings(scene, 10_000) != []
