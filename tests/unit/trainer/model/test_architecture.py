"""A model's shape is read from config.json and the headers of its weight files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from qwensft_trainer.model.architecture import Architecture, describe

from .. import models
from ..conftest import safetensors


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "model"


def test_a_dense_model_is_described(directory: Path) -> None:
    models.write(directory, "qwen3", head_dim=2)
    assert describe(directory) == {
        "hiddenSize": 8,
        "layers": 2,
        "heads": 4,
        "kvHeads": 2,
        "headDim": 2,
        "intermediateSize": 16,
        "vocabSize": 10,
        "tied": True,
        "experts": None,
        "moeIntermediateSize": None,
        "parameters": 2 * models.PARAMETERS_OF_A_LAYER + 80 + 8,
    }


def test_an_output_layer_of_its_own_counts(directory: Path) -> None:
    models.write(directory, "qwen2", head=True)
    assert describe(directory)["tied"] is False
    assert describe(directory)["parameters"] == 2 * models.PARAMETERS_OF_A_LAYER + 80 + 8 + 80


def test_a_tied_output_layer_in_the_files_counts_once(directory: Path) -> None:
    models.write(directory, "qwen2", head=True, tie_word_embeddings=True)
    assert describe(directory)["tied"] is True
    assert describe(directory)["parameters"] == 2 * models.PARAMETERS_OF_A_LAYER + 80 + 8


def test_a_mixture_of_experts_has_experts(directory: Path) -> None:
    models.write(directory, "qwen3_moe")
    assert describe(directory)["experts"] == 2
    assert describe(directory)["moeIntermediateSize"] == 6


def test_a_vision_language_model_has_a_language_model_inside(directory: Path) -> None:
    models.write(directory, "qwen3_vl")
    described = describe(directory)
    assert (described["hiddenSize"], described["layers"], described["headDim"]) == (8, 2, 2)
    tower = 8 * 3 * 2 * 4 * 4 + 24 * 8 + 8 + 64
    assert described["parameters"] == 2 * models.PARAMETERS_OF_A_LAYER + 80 + 8 + tower


@pytest.mark.parametrize(
    ("quantization", "dtype", "packed", "beside", "each"),
    [
        ({"quant_method": "gptq", "bits": 4}, "I32", "q_proj.qweight", ("q_proj.scales", "q_proj.qzeros"), 8),
        ({"quant_method": "awq", "bits": 4}, "I32", "q_proj.qweight", ("q_proj.scales",), 8),
        (
            {"quant_method": "bitsandbytes", "load_in_4bit": True},
            "U8",
            "q_proj.weight",
            ("q_proj.weight.absmax", "q_proj.weight.quant_state.bitsandbytes__nf4"),
            2,
        ),
        ({"quant_method": "fp8"}, "F8_E4M3", "q_proj.weight", ("q_proj.weight_scale_inv",), 1),
    ],
)
def test_quantised_weights_count_as_what_they_stand_for(
    directory: Path, *, quantization: dict[str, Any], dtype: str, packed: str, beside: tuple[str, ...], each: int
) -> None:
    models.write(directory, "qwen2", quantization_config=quantization)
    config = {"model_type": "qwen2", "quantization_config": quantization}
    tensors = {packed: {"dtype": dtype, "shape": [4, 8]}} | {name: {"dtype": "F16", "shape": [3]} for name in beside}
    architecture = Architecture(config, tensors)
    assert architecture.parameters == 4 * 8 * each
    assert architecture.linear_modules == {"q_proj"}
    assert Architecture.read(directory).quantization == quantization["quant_method"]


def test_what_the_configuration_does_not_say_is_left_open(directory: Path) -> None:
    models.write(directory, "qwen2")
    (directory / "config.json").write_text('{"model_type": "qwen2"}')
    described = describe(directory)
    assert described["hiddenSize"] is None
    assert described["headDim"] is None


def test_shards_are_read_as_one(directory: Path) -> None:
    models.write(directory, "qwen2")
    (directory / "model.safetensors").unlink()
    weight_map = {}
    for number, name in enumerate(("a.weight", "b.weight")):
        file = f"model-0000{number}-of-00002.safetensors"
        (directory / file).write_bytes(safetensors({name: (3, 3)}))
        weight_map[name] = file
    (directory / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    assert describe(directory)["parameters"] == 18


def test_lora_reaches_linear_layers_but_neither_experts_nor_their_router(directory: Path) -> None:
    models.write(directory, "qwen3_moe", head=True)
    leaves = {name.rpartition(".")[2] for name in Architecture.read(directory).linear_modules}
    assert leaves == {"q_proj", "k_proj", "v_proj", "o_proj", "lm_head"}


def test_lora_reaches_no_embeddings_and_nothing_that_is_not_loaded() -> None:
    names = ("model.embed_tokens", "visual.pos_embed", "mtp.fc", "mtp.layers.0.mlp.up_proj")
    tensors = {f"{name}.weight": {"dtype": "BF16", "shape": [8, 8]} for name in names}
    up = {"model.layers.0.mlp.up_proj.weight": {"dtype": "BF16", "shape": [16, 8]}}
    assert Architecture({"model_type": "qwen3_5"}, tensors | up).linear_modules == {"model.layers.0.mlp.up_proj"}


def test_stretched_positions_count(directory: Path) -> None:
    stretching = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 4096}
    models.write(directory, "qwen3")
    before = Architecture.read(directory).positions
    models.write(directory, "qwen3", rope_scaling=stretching)
    assert (before, Architecture.read(directory).positions) == (4096, 16384)
