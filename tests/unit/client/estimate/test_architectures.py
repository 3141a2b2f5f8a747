"""Shapes of models, by their name and by what the prepare stage reports."""

from dataclasses import replace
from typing import Any

import pytest

from qwensft.estimate.architectures import described, known

# As Qwen's model cards tell, in billions.
PUBLISHED = {
    "Qwen/Qwen2-0.5B-Instruct": 0.494,
    "Qwen/Qwen2.5-0.5B": 0.494,
    "Qwen/Qwen2.5-1.5B-Instruct": 1.544,
    "Qwen/Qwen2.5-Math-1.5B": 1.544,
    "Qwen/Qwen2.5-3B-Instruct": 3.086,
    "Qwen/Qwen2.5-7B-Instruct-1M": 7.616,
    "Qwen/Qwen2.5-Coder-14B": 14.77,
    "Qwen/Qwen2.5-32B-Instruct": 32.76,
    "Qwen/QwQ-32B": 32.76,
    "Qwen/Qwen2.5-72B-Instruct": 72.71,
    "Qwen/Qwen3-0.6B-Base": 0.596,
    "Qwen/Qwen3-1.7B": 1.721,
    "Qwen/Qwen3-4B-Thinking-2507": 4.022,
    "Qwen/Qwen3-8B": 8.191,
    "Qwen/Qwen3-14B": 14.77,
    "Qwen/Qwen3-32B": 32.76,
    "Qwen/Qwen3-30B-A3B-Instruct-2507": 30.53,
    "Qwen/Qwen3-Coder-30B-A3B-Instruct": 30.53,
    "Qwen/Qwen3-235B-A22B": 235.09,
    "Qwen/Qwen3-Coder-480B-A35B-Instruct": 480.2,
    "Qwen/Qwen2-VL-2B-Instruct": 2.209,
    "Qwen/Qwen2.5-VL-3B-Instruct": 3.755,
    "Qwen/Qwen2.5-VL-7B-Instruct": 8.292,
    "Qwen/Qwen2.5-VL-72B-Instruct": 73.41,
    "Qwen/QVQ-72B-Preview": 73.41,
    "Qwen/Qwen3-VL-4B-Instruct": 4.438,
    "Qwen/Qwen3-VL-8B-Thinking": 8.767,
    "Qwen/Qwen3-VL-30B-A3B-Instruct": 31.07,
}

REPORTED: dict[str, Any] = {
    "hiddenSize": 4096,
    "layers": 36,
    "heads": 32,
    "kvHeads": 8,
    "headDim": 128,
    "intermediateSize": 12288,
    "vocabSize": 151936,
    "tied": False,
    "experts": None,
    "moeIntermediateSize": None,
    "parameters": 8_190_735_360,
}


@pytest.mark.parametrize(("name", "billions"), PUBLISHED.items(), ids=PUBLISHED)
def test_a_shape_has_as_many_parameters_as_the_model_is_known_for(name: str, billions: float) -> None:
    model = known(name)
    assert model is not None
    assert model.parameters / 1e9 == pytest.approx(billions, rel=2e-3)


@pytest.mark.parametrize(
    "name",
    [
        "Qwen/Qwen3-Embedding-8B",
        "Qwen/Qwen3-9B",
        "Qwen/Qwen2-57B-A14B-Instruct",
        "Qwen/Qwen3-Next-80B-A3B-Instruct",
        "Qwen/Qwen3.5-9B",
        "team/support-model",
        "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B",
    ],
)
def test_a_model_that_is_not_in_the_table_is_not_guessed(name: str) -> None:
    assert known(name) is None


def test_the_owner_does_not_matter_as_mirrors_keep_names() -> None:
    assert known("mirror/Qwen3-8B") == known("Qwen/Qwen3-8B") == known("Qwen3-8B")


@pytest.mark.parametrize(
    ("name", "stored"),
    [
        ("Qwen/Qwen3-32B-AWQ", 0.516),
        ("Qwen/Qwen2.5-72B-Instruct-GPTQ-Int4", 0.516),
        ("Qwen/Qwen2.5-72B-Instruct-GPTQ-Int8", 1.03),
        ("Qwen/Qwen3-32B-FP8", 2.0),
        ("Qwen/Qwen3-32B", 2.0),
    ],
)
def test_a_quantised_checkpoint_is_told_by_its_name(name: str, stored: float) -> None:
    model = known(name)
    assert model is not None
    assert model.weight_bytes == stored


def test_what_prepare_reports_is_the_model_of_that_name() -> None:
    named, found = known("Qwen/Qwen3-8B"), described(REPORTED, "Qwen/Qwen3-8B")
    assert named is not None
    assert found is not None
    assert found.matrices == named.matrices
    assert found.embeddings == named.embeddings
    assert found.parameters == REPORTED["parameters"]


def test_parameters_beyond_the_decoder_belong_to_the_vision_tower() -> None:
    found = described(REPORTED | {"parameters": 8_766_000_000}, "team/eyes")
    assert found is not None
    assert found.vision == pytest.approx(576e6, rel=0.01)


def test_a_mixture_of_experts_has_all_of_them() -> None:
    facts = {"hiddenSize": 2048, "layers": 48, "kvHeads": 4, "experts": 128, "moeIntermediateSize": 768}
    found = described(REPORTED | facts | {"parameters": 30_532_122_624}, "team/experts")
    assert found is not None
    assert found.parameters == 30_532_122_624
    assert replace(found, vision=0) == known("Qwen/Qwen3-30B-A3B")
    assert found.vision < 0.001 * found.parameters


@pytest.mark.parametrize(
    "facts",
    [{"hiddenSize": None}, {"layers": 0}, {"heads": "32"}, {"experts": -1}, {"parameters": None}],
    ids=lambda facts: next(iter(facts)),
)
def test_a_report_without_a_sensible_figure_is_no_shape(facts: dict[str, Any]) -> None:
    assert described(REPORTED | facts, "Qwen/Qwen3-8B") is None
