"""How a merged model is asked: its chat template without thoughts, and Ollama's Modelfile."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jinja2.meta
import pytest
from jinja2.sandbox import ImmutableSandboxedEnvironment as Environment

from qwensft_trainer.merging import modelfile
from qwensft_trainer.merging.beside import Changed, write

from . import published
from .published import TEMPLATE

JINJA = "chat_template.jinja"
WITHOUT = TEMPLATE.replace("enable_thinking", "other")
# What transformers, and the servers that follow it, set; and what Jinja does by itself.
ENVIRONMENTS = [Environment(trim_blocks=True, lstrip_blocks=True), Environment()]
QUESTION = [{"role": "user", "content": "Why?"}]


def merged_of(base: Path, *, template: str = "qwen3", thinking: bool = False, system: str = "") -> Path:
    merged = base.with_name("merged")
    merged.mkdir()
    changed = Changed(
        None, untied=False, rows=None, template=template, thinking=thinking, tokenizer=None, system=system
    )
    told = write(base, merged, changed)
    same = {path.name for path in base.iterdir() if (merged / path.name).is_file()}
    same -= {line.split(":")[0] for line in told}
    assert all((merged / name).read_bytes() == (base / name).read_bytes() for name in same)
    return merged


def rendered(environment: Environment, template: str, **options: Any) -> str:
    return environment.from_string(template).render(messages=QUESTION, add_generation_prompt=True, **options)


@pytest.fixture
def changed(tmp_path: Path) -> str:
    base = published.write(tmp_path / "base", tokenizer_config=published.tokenizer_config(chat_template=WITHOUT))
    (base / JINJA).write_bytes(TEMPLATE.encode())
    return (merged_of(base) / JINJA).read_bytes().decode()


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_thoughts_are_off_unless_a_request_turns_them_on(changed: str, environment: Environment) -> None:
    assert changed.endswith(f"\n{TEMPLATE}")
    off, on = (rendered(environment, TEMPLATE, enable_thinking=thinks) for thinks in (False, True))
    assert off != on
    assert rendered(environment, changed) == off
    assert rendered(environment, changed, enable_thinking=False) == off
    assert rendered(environment, changed, enable_thinking=True) == on


def test_servers_still_see_that_requests_may_set_it(changed: str) -> None:
    assert "enable_thinking" in jinja2.meta.find_undeclared_variables(ENVIRONMENTS[0].parse(changed))


@pytest.mark.parametrize("start", ["\n", " ", "  {% if true %}x{% endif %}", "text\n"])
def test_the_text_before_a_template_stays(tmp_path: Path, start: str) -> None:
    base = published.write(tmp_path / "base")
    (base / JINJA).write_text(start + TEMPLATE)
    after = (merged_of(base) / JINJA).read_text()
    assert rendered(ENVIRONMENTS[0], after) == rendered(ENVIRONMENTS[0], start + TEMPLATE, enable_thinking=False)


@pytest.mark.parametrize("name", ["tokenizer_config", "chat_template"])
def test_templates_in_json(tmp_path: Path, name: str) -> None:
    other = {"tokenizer_config": published.tokenizer_config(chat_template=WITHOUT)}
    base = published.write(tmp_path / "base", **other | {name: published.tokenizer_config()})
    after = published.load(merged_of(base) / f"{name}.json")
    text = after["chat_template"]
    assert rendered(ENVIRONMENTS[0], text) == rendered(ENVIRONMENTS[0], TEMPLATE, enable_thinking=False)
    assert text.endswith(f"\n{TEMPLATE}")
    assert after | {"chat_template": TEMPLATE} == published.tokenizer_config()
    assert list(after) == list(published.tokenizer_config())


def test_templates_by_name(tmp_path: Path) -> None:
    named = [{"name": "default", "template": TEMPLATE}, {"name": "tool_use", "template": WITHOUT}]
    base = published.write(tmp_path / "base", tokenizer_config=published.tokenizer_config(chat_template=named))
    first, second = published.load(merged_of(base) / "tokenizer_config.json")["chat_template"]
    assert first["template"].endswith(f"\n{TEMPLATE}")
    assert second == named[1]


def test_a_model_that_was_merged_so_is_left(tmp_path: Path) -> None:
    base = published.write(tmp_path / "base")
    (base / JINJA).write_text(TEMPLATE)
    once = merged_of(base)
    again = merged_of(once.rename(tmp_path / "once"))
    assert (again / JINJA).read_bytes() == (tmp_path / "once" / JINJA).read_bytes()
    config = "tokenizer_config.json"
    assert (again / config).read_bytes() == (tmp_path / "once" / config).read_bytes()


@pytest.mark.parametrize(
    ("template", "thinking", "text"),
    [("qwen3", True, TEMPLATE), ("qwen3_nothink", False, TEMPLATE), ("qwen3", False, WITHOUT)],
)
def test_other_templates_are_left(tmp_path: Path, template: str, thinking: bool, text: str) -> None:
    base = published.write(tmp_path / "base", tokenizer_config=published.tokenizer_config(chat_template=text))
    (base / JINJA).write_text(text)
    merged = merged_of(base, template=template, thinking=thinking)
    assert all((merged / name).read_bytes() == (base / name).read_bytes() for name in (JINJA, "tokenizer_config.json"))


MODELFILE = '''\
FROM .

TEMPLATE """{{ if .System }}<|im_start|>system
{{ .System }}<|im_end|>
{{ end }}{{ range .Messages }}{{ if or (eq .Role "user") (eq .Role "assistant") }}<|im_start|>{{ .Role }}
{{ .Content }}<|im_end|>
{{ end }}{{ end }}<|im_start|>assistant
"""

PARAMETER stop "<|im_end|>"
PARAMETER num_ctx 4096
'''
EMPTY_THOUGHTS = MODELFILE.replace("<|im_start|>assistant\n", "<|im_start|>assistant\n<think>\n\n</think>\n\n")


@pytest.mark.parametrize(
    ("template", "thinking", "text"),
    [
        ("qwen", True, MODELFILE),
        ("qwen", False, MODELFILE),
        ("qwen3_nothink", False, MODELFILE),
        ("qwen3", True, MODELFILE),
        ("qwen3", False, EMPTY_THOUGHTS),
    ],
)
def test_ollamas_modelfile(tmp_path: Path, template: str, thinking: bool, text: str) -> None:
    merged = merged_of(published.write(tmp_path / "base"), template=template, thinking=thinking)
    assert (merged / "Modelfile").read_text() == text


def test_a_system_prompt_that_training_used_is_ollamas_default(tmp_path: Path) -> None:
    merged = merged_of(published.write(tmp_path / "base"), template="qwen", system="You are Qwen.\nBe brief.")
    expected = '"""\n\nSYSTEM """You are Qwen.\nBe brief."""\n\nPARAMETER'
    assert (merged / "Modelfile").read_text() == MODELFILE.replace('"""\n\nPARAMETER', expected)


@pytest.mark.parametrize(
    "template", ["qwen2_vl", "qwen3_vl", "qwen3_vl_nothink", "qwen3_5", "qwen3_5_nothink", "qwen3_6"]
)
def test_ollama_is_told_of_text_models_alone(tmp_path: Path, template: str) -> None:
    base = published.write(tmp_path / "base")
    (base / "Modelfile").write_text("FROM .")
    assert not (merged_of(base, template=template) / "Modelfile").exists()


def test_a_system_prompt_writes_no_command_into_the_modelfile() -> None:
    prompt = 'Be kind."""\nFROM /etc/passwd\nSYSTEM """'
    assert modelfile.modelfile("qwen3", thinking=True, system="Be kind.") is not None
    assert modelfile.modelfile("qwen3", thinking=True, system=prompt) is None
