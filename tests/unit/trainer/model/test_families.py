"""The template follows from config.json and the chat template, and a template that does not fit is refused."""

from __future__ import annotations

import json

import pytest

from qwensft_trainer.contract.errors import PermanentError
from qwensft_trainer.model import families

from .. import models
from ..conftest import Scene


def resolve(scene: Scene, model_type: str, *, chat: str | None = models.HYBRID, asked: str | None = None) -> str:
    models.write(scene.root / "model", model_type, chat=chat)
    scene.document["model"]["template"] = asked
    return families.resolve_template(scene.run)


def refusal(scene: Scene, model_type: str, *, chat: str | None = models.HYBRID, asked: str | None = None) -> str:
    with pytest.raises(PermanentError) as caught:
        resolve(scene, model_type, chat=chat, asked=asked)
    assert caught.value.reason == "InvalidModel"
    return caught.value.message


@pytest.mark.parametrize(
    ("model_type", "chat", "template"),
    [
        ("qwen2", models.CHATML, "qwen"),  # Qwen2.5
        ("qwen2", models.THINKING, "qwen"),  # QwQ
        ("qwen2_moe", models.CHATML, "qwen"),
        ("qwen3", models.HYBRID, "qwen3"),
        ("qwen3", None, "qwen3"),  # a base model without a chat template
        ("qwen3", models.THINKING, "qwen3"),  # Thinking-2507
        ("qwen3", models.CHATML, "qwen3_nothink"),  # Instruct-2507
        ("qwen3_moe", models.HYBRID, "qwen3"),
        ("qwen3_moe", models.CHATML, "qwen3_nothink"),  # Coder, too
        ("qwen3_next", models.THINKING, "qwen3"),
        ("qwen3_next", models.CHATML, "qwen3_nothink"),
        ("qwen2_vl", models.CHATML, "qwen2_vl"),
        ("qwen2_5_vl", models.CHATML, "qwen2_vl"),
        ("qwen3_vl", models.CHATML, "qwen3_vl_nothink"),
        ("qwen3_vl", models.THINKING, "qwen3_vl"),
        ("qwen3_vl_moe", models.THINKING, "qwen3_vl"),
        ("qwen3_5", models.HYBRID, "qwen3_5"),
        ("qwen3_5_moe", models.HYBRID, "qwen3_5"),
        ("qwen3_5", models.CHATML, "qwen3_5_nothink"),
        ("qwen3_5", models.PRESERVING, "qwen3_6"),
    ],
)
def test_the_template_is_told_by_the_model_and_its_chat_template(
    scene: Scene, model_type: str, chat: str | None, template: str
) -> None:
    assert resolve(scene, model_type, chat=chat) == template


@pytest.mark.parametrize(
    ("model_type", "asked"),
    [("qwen3", "qwen3_nothink"), ("qwen3_vl", "qwen3_vl"), ("qwen3_5", "qwen3_6"), ("qwen2", "qwen")],
)
def test_a_template_of_the_same_generation_may_be_asked_for(scene: Scene, model_type: str, asked: str) -> None:
    assert resolve(scene, model_type, asked=asked) == asked


@pytest.mark.parametrize(
    ("model_type", "asked", "fitting"),
    [
        ("qwen2", "qwen3", "qwen"),
        ("qwen3", "qwen", "qwen3 or qwen3_nothink"),
        ("qwen3", "qwen3_vl", "qwen3 or qwen3_nothink"),
        ("qwen2_5_vl", "qwen", "qwen2_vl"),
        ("qwen3_5", "qwen3_vl", "qwen3_5 or qwen3_5_nothink or qwen3_6"),
    ],
)
def test_a_template_of_another_generation_is_refused_with_the_one_that_fits(
    scene: Scene, model_type: str, asked: str, fitting: str
) -> None:
    message = refusal(scene, model_type, asked=asked)
    for part in (f"The template is {asked}", f"of type {model_type}", f"needs {fitting}.", "spec.model.template"):
        assert part in message


@pytest.mark.parametrize("model_type", ["llama", "qwen2_audio", ""])
def test_other_models_are_refused_by_type(scene: Scene, model_type: str) -> None:
    message = refusal(scene, model_type, asked="qwen3")
    assert f"'{model_type}'" in message
    assert "spec.model.source" in message


def test_a_chat_template_of_strangers_is_not_guessed_at(scene: Scene) -> None:
    message = refusal(scene, "qwen2", chat=models.LLAMA)
    assert "Set spec.model.template to qwen" in message
    assert resolve(scene, "qwen2", chat=models.LLAMA, asked="qwen") == "qwen"


def test_the_chat_template_is_found_wherever_transformers_puts_it(scene: Scene) -> None:
    model = scene.root / "model"
    models.write(model, "qwen3", chat=None)
    assert families.chat_template(model) is None
    several = [{"name": "tool_use", "template": "tools"}, {"name": "default", "template": "plain"}]
    (model / "tokenizer_config.json").write_text(json.dumps({"chat_template": several}))
    assert families.chat_template(model) == "plain"
    (model / "chat_template.json").write_text(json.dumps({"chat_template": "of the processor"}))
    assert families.chat_template(model) == "of the processor"
    (model / "chat_template.jinja").write_text("alone")
    assert families.chat_template(model) == "alone"


@pytest.mark.parametrize(
    ("template", "chat", "expected"),
    [
        ("qwen3", models.CHATML, "template: qwen3_nothink fits"),
        ("qwen3_nothink", models.HYBRID, "template: qwen3 fits"),
    ],
)
def test_a_template_that_thinks_otherwise_than_the_model_is_doubted(
    scene: Scene, template: str, chat: str, expected: str
) -> None:
    models.write(scene.root / "model", "qwen3", chat=chat)
    (doubt,) = families.doubts(template, scene.root / "model")
    assert expected in doubt


@pytest.mark.parametrize(
    ("model_type", "template", "chat"),
    [("qwen3", "qwen3", models.HYBRID), ("qwen3", "qwen3", None), ("qwen2", "qwen", models.THINKING)],
)
def test_a_template_that_fits_is_not_doubted(scene: Scene, model_type: str, template: str, chat: str | None) -> None:
    models.write(scene.root / "model", model_type, chat=chat)
    assert families.doubts(template, scene.root / "model") == []
