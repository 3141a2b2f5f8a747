"""Templates inferred from model names: the names are LLaMA-Factory's own table of Qwen text models."""

import re

import pytest

from qwensft.api.v1alpha1 import infer_template
from qwensft.api.v1alpha1.families import FAMILIES, family_pattern

KNOWN = {
    "qwen": [
        "Qwen2-0.5B", "Qwen2-72B", "Qwen2-57B-A14B", "Qwen2-7B-Instruct", "Qwen2-57B-A14B-Instruct-GPTQ-Int4",
        "Qwen2-0.5B-Instruct-AWQ", "Qwen2-Math-1.5B", "Qwen2-Math-72B-Instruct", "Qwen2.5-0.5B", "Qwen2.5-32B-Instruct",
        "Qwen2.5-14B-Instruct-1M", "Qwen2.5-72B-Instruct-GPTQ-Int8", "Qwen2.5-Coder-32B", "Qwen2.5-Coder-7B-Instruct",
        "Qwen2.5-Math-7B", "QwQ-32B", "QwQ-32B-Preview",
    ],
    "qwen3": [
        "Qwen3-0.6B", "Qwen3-0.6B-Base", "Qwen3-8B", "Qwen3-32B-AWQ", "Qwen3-8B-FP8", "Qwen3-30B-A3B",
        "Qwen3-30B-A3B-Base",
        "Qwen3-235B-A22B-GPTQ-Int4", "Qwen3-4B-Thinking-2507", "Qwen3-235B-A22B-Thinking-2507",
        "Qwen3-Next-80B-A3B-Thinking",
    ],
    "qwen3_nothink": [
        "Qwen3-4B-Instruct-2507", "Qwen3-30B-A3B-Instruct-2507", "Qwen3-235B-A22B-Instruct-2507-FP8",
        "Qwen3-Next-80B-A3B-Instruct", "Qwen3-Coder-30B-A3B-Instruct",
    ],
}  # fmt: skip
UNKNOWN = [
    "Qwen2-VL-7B-Instruct", "Qwen2.5-VL-72B-Instruct", "Qwen3-VL-8B-Thinking", "QVQ-72B-Preview", "Qwen2-Audio-7B",
    "Qwen2.5-Omni-7B", "Qwen3-Omni-30B-A3B-Instruct", "Qwen3.5-4B", "Qwen3-8B-support", "Llama-3.1-8B", "Qwen3", "",
    "Qwen3-8B\n",
]  # fmt: skip


@pytest.mark.parametrize(("template", "name"), [(template, name) for template in KNOWN for name in KNOWN[template]])
def test_a_text_model_tells_its_template(template: str, name: str) -> None:
    assert infer_template(f"Qwen/{name}") == template
    assert infer_template(name) == template


@pytest.mark.parametrize("name", UNKNOWN)
def test_any_other_name_tells_none(name: str) -> None:
    assert infer_template(f"Qwen/{name}") is None


def test_no_name_belongs_to_two_families() -> None:
    for names in KNOWN.values():
        for name in names:
            assert sum(bool(re.fullmatch(family_pattern(template), name)) for template in FAMILIES) == 1
