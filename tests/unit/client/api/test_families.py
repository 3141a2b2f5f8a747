"""Families recognised by name: LLaMA-Factory's own table of Qwen models, and what is published beside it."""

import re
from pathlib import Path

import pytest
import yaml

from qwensft.api.v1alpha1 import infer_template
from qwensft.api.v1alpha1.families import (
    FAMILIES,
    REASONING,
    VISION,
    family_pattern,
    find_family,
    is_mixture_of_experts,
    is_pre_quantised,
)
from qwensft.api.v1alpha1.model import Template

REPOSITORY = Path(__file__).parents[4]
TABLE: dict[str, list[str]] = yaml.safe_load(
    (Path(__file__).parent / "data" / "llamafactory_models.yaml").read_text(encoding="utf-8")
)
WITHOUT_AUDIO = {template: names for template, names in TABLE.items() if not re.search("audio|omni", template)}
PUBLISHED_BESIDE_IT = {
    "qwen3": ["Qwen3-8B-FP8", "Qwen3-235B-A22B-Thinking-2507-FP8"],
    "qwen3_nothink": [
        "Qwen3-235B-A22B-Instruct-2507-FP8", "Qwen3-Coder-30B-A3B-Instruct", "Qwen3-Coder-480B-A35B-Instruct-FP8",
        "Qwen3-Coder-Next", "Qwen3-Coder-Next-Base",
    ],
    "qwen3_vl": ["Qwen3-VL-8B-Thinking-FP8"],
    "qwen3_vl_nothink": ["Qwen3-VL-235B-A22B-Instruct-FP8"],
    "qwen3_5": ["Qwen3.5-397B-A17B-FP8", "Qwen3.5-27B-GPTQ-Int4"],
    "qwen3_6": ["Qwen3.6-27B", "Qwen3.6-35B-A3B-FP8"],
}  # fmt: skip
UNKNOWN = [
    *(name for template in sorted(TABLE.keys() - WITHOUT_AUDIO.keys()) for name in TABLE[template]),
    "Qwen3-8B-support", "Llama-3.1-8B", "Qwen3", "", "Qwen3-8B\n", "Qwen3-Embedding-0.6B", "Qwen2.5-Math-PRM-7B",
    "Qwen3-VL-8B", "qwen3-8b",
]  # fmt: skip


@pytest.mark.parametrize(
    ("template", "name"), [(template, name) for template, names in WITHOUT_AUDIO.items() for name in names]
)
def test_a_model_of_llamafactorys_table_gets_the_template_of_the_table(template: str, name: str) -> None:
    assert infer_template(name) == template


@pytest.mark.parametrize(
    ("template", "name"), [(template, name) for template, names in PUBLISHED_BESIDE_IT.items() for name in names]
)
def test_a_model_beside_the_table_gets_the_template_of_its_relatives(template: str, name: str) -> None:
    assert infer_template(f"Qwen/{name}") == template
    assert infer_template(name) == template
    assert infer_template(f"hub.example.com/mirror/{name}") == template


@pytest.mark.parametrize("name", UNKNOWN)
def test_any_other_name_tells_none(name: str) -> None:
    assert infer_template(name) is None


def test_no_name_belongs_to_two_families() -> None:
    for names in [*WITHOUT_AUDIO.values(), *PUBLISHED_BESIDE_IT.values()]:
        for name in names:
            assert sum(bool(re.fullmatch(family_pattern([family]), name)) for family in FAMILIES) == 1, name


def test_every_family_has_a_template_of_the_api() -> None:
    templates = set(Template.__args__)  # type: ignore[attr-defined]
    assert {family.template for family in FAMILIES} <= templates
    assert {*REASONING, *VISION} <= templates
    assert {*REASONING, *VISION} < templates


@pytest.mark.parametrize(
    ("name", "thinking", "vision", "context"),
    [
        ("Qwen/Qwen2.5-Math-7B", "never", False, 4_096),
        ("Qwen/Qwen3-8B", "switchable", False, 32_768),
        ("Qwen/Qwen3-8B-Base", "not trained", False, 32_768),
        ("Qwen/Qwen3-30B-A3B-Thinking-2507", "always", False, 262_144),
        ("Qwen/QVQ-72B-Preview", "always", True, 32_768),
        ("Qwen/Qwen3.5-4B", "switchable", True, 262_144),
    ],
)
def test_a_family_tells_what_users_need_to_know(name: str, thinking: str, vision: bool, context: int) -> None:
    family = find_family(name)
    assert family is not None
    assert (family.thinking, family.vision, family.context) == (thinking, vision, context)


def test_only_families_that_can_think_have_a_template_that_thinks() -> None:
    for family in FAMILIES:
        assert (family.template in REASONING) <= (family.thinking != "never"), family.title


@pytest.mark.parametrize(
    ("name", "experts", "pre_quantised"),
    [
        ("Qwen/Qwen3-30B-A3B", True, False),
        ("Qwen/Qwen3-30B-A3B-GPTQ-Int4", True, True),
        ("Qwen2-57B-A14B-Instruct", True, False),
        ("Qwen/Qwen3-Next-80B-A3B-Thinking", True, False),
        ("Qwen/Qwen3-Coder-Next", True, False),
        ("Qwen/Qwen3-VL-235B-A22B-Instruct-FP8", True, False),
        ("Qwen/Qwen3-8B", False, False),
        ("Qwen/Qwen3-8B-AWQ", False, True),
        ("acme/Qwen-A3B", False, False),
    ],
)
def test_a_name_tells_experts_and_quantised_weights(name: str, experts: bool, pre_quantised: bool) -> None:
    assert (is_mixture_of_experts(name), is_pre_quantised(name)) == (experts, pre_quantised)


def test_the_page_on_models_has_a_row_for_every_family() -> None:
    page = (REPOSITORY / "docs" / "models.md").read_text(encoding="utf-8")
    for family in FAMILIES:
        sees = "images, videos" if family.vision else "text"
        row = f"| {family.title} | `{family.template}` | {family.context:,} | {family.thinking} | {sees} |"
        assert row in page
