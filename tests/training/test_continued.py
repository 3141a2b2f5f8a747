"""A run that trains on the adapter of another: from its very weights, to one adapter that is added to the base once."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch  # type: ignore[import-not-found, unused-ignore]
from safetensors.torch import load_file  # type: ignore[import-not-found, unused-ignore]

from qwensft_trainer.merging import files as merged_files
from qwensft_trainer.merging import planning, streaming, verification

from .gang import Training


@pytest.fixture(scope="module")
def first(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Training:
    training = Training(tmp_path_factory.mktemp("first")).prepared(model)
    training.train(1)
    return training


@pytest.fixture(scope="module")
def other_base(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same model, where the second run has it."""
    return Path(shutil.copytree(model, tmp_path_factory.mktemp("other") / "model"))


@pytest.fixture(scope="module")
def second(other_base: Path, first: Training, tmp_path_factory: pytest.TempPathFactory) -> Training:
    training = Training(tmp_path_factory.mktemp("second"), uid="uid-2", trained_on=first.result).prepared(other_base)
    training.train(1)
    return training


def test_it_begins_with_the_very_weights(model: Path, first: Training, tmp_path: Path) -> None:
    """Nothing is learnt at a rate of 0: what comes out is what went in."""
    still = Training(tmp_path, uid="uid-3", trained_on=first.result, arguments={"learning_rate": 0.0}).prepared(model)
    still.train(1)
    assert still.weights() == first.weights()


def test_it_has_learnt_more_and_names_its_own_base(first: Training, second: Training, other_base: Path) -> None:
    assert second.weights() != first.weights()
    was, config = (json.loads((run.result / "adapter_config.json").read_text()) for run in (first, second))
    assert config["base_model_name_or_path"] == str(other_base)
    for settled in ("r", "lora_alpha", "lora_dropout", "use_dora", "use_rslora", "modules_to_save"):
        assert config[settled] == was[settled]
    assert set(config["target_modules"]) == set(was["target_modules"])


def test_a_worker_that_is_killed_costs_no_bit(model: Path, first: Training, second: Training, tmp_path: Path) -> None:
    killed = Training(tmp_path, uid="uid-2", trained_on=first.result).prepared(model)
    killed.die()
    killed.train(2)
    assert killed.weights() == second.weights()


def test_the_merge_adds_what_it_has_become_and_nothing_twice(model: Path, second: Training, tmp_path: Path) -> None:
    """What a plain computation gives, but for the order of sums; and right by peft's own layers."""
    merged = tmp_path / "merged"
    merged.mkdir()
    plan = planning.plan(model, second.result, lora=True, dtype=None, shard_bytes=None)
    streaming.write(plan, merged, digest="1")
    for path in model.iterdir():
        if not (merged / path.name).exists():
            (merged / path.name).write_bytes(path.read_bytes())
    merged_files.write_manifest(merged, {})
    base, adapter = load_file(model / "model.safetensors"), load_file(second.result / "adapter_model.safetensors")
    for name, found in load_file(merged / "model.safetensors").items():
        module = f"base_model.model.{name.removesuffix('.weight')}"
        plain = base[name]
        if f"{module}.lora_A.weight" in adapter:
            plain = plain + 2 * (adapter[f"{module}.lora_B.weight"] @ adapter[f"{module}.lora_A.weight"])
        assert torch.allclose(found, plain, rtol=0, atol=1e-7), name
    checks = verification.verify(
        model,
        second.result,
        merged,
        lora=True,
        dtype=None,
        untied=plan.untied,
        rows=plan.rows,
        level="full",
        data=second.directory / "data",
        trust=False,
    )
    assert checks["changed"] == 14
