"""How well accelerators are used follows from the matrices that a token meets."""

from __future__ import annotations

from typing import Any

import pytest

from qwensft_trainer.model.architecture import Architecture
from qwensft_trainer.training.efficiency import flops_per_token, peak_flops

BF16 = {"bf16": True}


def model(*, tied: bool = True, experts: int = 0, **more: tuple[int, ...]) -> Architecture:
    """Two layers of 10 x 10 and 10 x 20, a vocabulary of 100; further tensors by name."""
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (100, 10), "model.norm.weight": (10,)}
    for layer in range(2):
        shapes[f"model.layers.{layer}.self_attn.q_proj.weight"] = (10, 10)
        for expert in range(experts or 1):
            name = f"mlp.experts.{expert}.up_proj" if experts else "mlp.up_proj"
            shapes[f"model.layers.{layer}.{name}.weight"] = (20, 10)
    if not tied:
        shapes["lm_head.weight"] = (100, 10)
    config: dict[str, Any] = {"num_hidden_layers": 2, "tie_word_embeddings": tied}
    if experts:
        config |= {"num_experts": experts, "num_experts_per_tok": 2}
    return Architecture(config, {name: {"dtype": "BF16", "shape": shape} for name, shape in (shapes | more).items()})


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize(
    ("arguments", "passes"),
    [
        ({"finetuning_type": "full"}, 6),
        ({"finetuning_type": "lora"}, 4),
        ({"finetuning_type": "freeze", "freeze_trainable_layers": 1}, 4),  # forward, and both of one layer of two
        ({"finetuning_type": "freeze", "freeze_trainable_layers": -1}, 5),  # gradients pass through both
    ],
)
def test_each_weight_costs_as_often_as_it_is_multiplied(tied: bool, arguments: dict[str, Any], passes: int) -> None:
    assert flops_per_token(model(tied=tied), BF16 | arguments) == passes * (2 * (100 + 200) + 1000)


def test_of_a_mixture_the_chosen_experts_count() -> None:
    assert flops_per_token(model(experts=8), BF16) == 4 * (2 * (100 + 2 * 200) + 1000)


def test_what_no_token_of_text_meets_is_left_out() -> None:
    more: dict[str, Any] = {"visual.blocks.0.attn.qkv.weight": (30, 10), "mtp.layers.0.mlp.up_proj.weight": (20, 10)}
    assert flops_per_token(model(**more), BF16) == flops_per_token(model(), BF16)


def test_the_peak_is_that_of_16_bit_numbers_alone() -> None:
    assert flops_per_token(model(), {"finetuning_type": "lora"}) is None
    assert peak_flops("NVIDIA H200") == 989e12
    assert peak_flops("NVIDIA H100 PCIe") == 756e12
    assert peak_flops("Radeon") is None
    assert peak_flops(None) is None
