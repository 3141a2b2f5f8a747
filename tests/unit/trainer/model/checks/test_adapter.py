"""An adapter that is trained on: the job has to say what its files say, on the base that it was trained on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from qwensft_trainer.training import continued

from ... import adapters
from ...conftest import Scene
from .judging import quantize, refusal, warnings


@pytest.fixture
def source(job: Scene) -> Path:
    return adapters.continues(job)


@pytest.fixture
def second(job: Scene, source: Path) -> Scene:
    """A run that trains on the adapter of another, which prepare has copied."""
    continued.provide(job.run)
    return job


def test_a_job_that_says_the_same_goes_on(second: Scene) -> None:
    assert warnings(second) == []


def test_the_base_may_be_quantised_while_it_is_trained_on(second: Scene) -> None:
    quantize(second)
    assert warnings(second) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"lora_rank": 8}, "set spec.tuning.lora.rank to 4 (it is 8)"),
        ({"lora_alpha": 16}, "set spec.tuning.lora.alpha to 8 (it is 16)"),
        ({"lora_dropout": 0.0}, "set spec.tuning.lora.dropout to 0.05 (it is 0)"),
        ({"use_rslora": True}, "set spec.tuning.lora.rslora to false (it is true)"),
        ({"lora_target": "q_proj"}, "set spec.tuning.lora.targets to [q_proj, v_proj] (it is [q_proj])"),
        (
            {"lora_target": "all"},
            "targets to [q_proj, v_proj] (it is [down_proj, gate_proj, k_proj, o_proj, q_proj, up_proj, v_proj])",
        ),
        ({"additional_target": "norm"}, "set spec.tuning.lora.additionalTargets to [] (it is [norm])"),
    ],
)
def test_what_differs_is_told_with_what_to_set(second: Scene, arguments: dict[str, Any], words: str) -> None:
    second.train |= arguments
    message = refusal(second)
    assert "The adapter of QwenSFTJob first can be trained on only as it is. Create this QwenSFTJob anew: " in message
    assert words in message


def test_all_that_differs_is_told_at_once(second: Scene) -> None:
    second.train |= {"lora_rank": 8, "lora_alpha": 16}
    second.document["tuning"]["dora"] = True
    assert refusal(second).endswith(
        "set spec.tuning.method to lora or qlora; set spec.tuning.lora.rank to 4 (it is 8); "
        "set spec.tuning.lora.alpha to 8 (it is 16)."
    )


def test_every_layer_is_reached_by_the_single_name_all(job: Scene) -> None:
    every = {"q_proj": (8, 8), "k_proj": (4, 8), "v_proj": (4, 8), "o_proj": (8, 8)}
    adapters.continues(job, shapes=every)
    continued.provide(job.run)
    job.train["lora_target"] = "q_proj,k_proj,v_proj,o_proj"
    assert warnings(job) == []
    job.train["lora_target"] = "all"
    assert "targets to [k_proj, o_proj, q_proj, v_proj]" in refusal(job)


def test_the_alpha_that_pissa_and_rslora_leave_cannot_be_asked_for(job: Scene) -> None:
    adapters.continues(job, lora_alpha=11.31, use_rslora=True)
    continued.provide(job.run)
    assert "begin with its merged model (spec.model.source.run), as its alpha is no whole number" in refusal(job)


def test_another_base_is_refused(second: Scene) -> None:
    weights = second.root / "model" / "model.safetensors"
    whole = bytearray(weights.read_bytes())
    whole[-2] ^= 1
    weights.write_bytes(whole)
    message = refusal(second, "InvalidModel")
    assert "is not the base that the adapter of QwenSFTJob first was trained on: its weights are others" in message


def test_a_base_of_which_nothing_was_recorded_is_warned_of(second: Scene, source: Path) -> None:
    (source.parents[1] / "prepare.json").write_text(json.dumps({"template": "qwen3"}))
    (warning,) = warnings(second)
    assert "cannot be told: its directory holds no record of it" in warning


def test_a_directory_that_another_run_has_taken_over_meanwhile_tells_nothing_of_the_base(
    second: Scene, source: Path
) -> None:
    directory = source.parents[1]
    (directory / "prepare.json").write_text(json.dumps({"base": "sha256:of-another-base"}))
    assert "its weights are others" in refusal(second, "InvalidModel")
    (directory / ".qwensft-owner.json").write_text(json.dumps({"uid": "uid-9"}))
    (warning,) = warnings(second)
    assert "or belongs to another run by now" in warning


def test_a_base_of_other_sizes_is_refused_whatever_was_recorded(job: Scene) -> None:
    directory = adapters.continues(job, shapes={"q_proj": (8, 16), "v_proj": (4, 8)})
    (directory.parents[1] / "prepare.json").unlink()
    continued.provide(job.run)
    assert "model.layers.0.self_attn.q_proj has the shape [8, 8] there" in refusal(job, "InvalidModel")


def test_files_that_are_no_adapter_are_told(job: Scene, source: Path) -> None:
    job.run.adapter_directory.mkdir(parents=True)
    assert "adapter_model.safetensors of QwenSFTJob first cannot be read" in refusal(job, "InvalidModel")
