"""Which of LLaMA-Factory's templates a Qwen model needs, told by its config.json and its chat template.

The names and what they stand for are LLaMA-Factory's (llamafactory/data/template.py). What one cannot do: ADR 0086.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from qwensft_trainer.base import files
from qwensft_trainer.contract.config import Run
from qwensft_trainer.contract.errors import invalid_model

VISION: Final = frozenset({"qwen2_vl", "qwen3_vl", "qwen3_vl_nothink", "qwen3_5", "qwen3_5_nothink", "qwen3_6"})
"""Templates whose models read images and videos."""

REASONING: Final = frozenset({"qwen3", "qwen3_vl", "qwen3_5", "qwen3_6"})
"""Templates that put thoughts, also empty ones, before an answer; only they know enable_thinking."""

QWEN3_5: Final = frozenset({"qwen3_5", "qwen3_5_nothink", "qwen3_6"})
"""Templates whose models' chat templates trim every text and put the tools before the system prompt."""

LINEAR_ATTENTION: Final = frozenset({"qwen3_next", "qwen3_5", "qwen3_5_moe"})
"""Types of models with layers of linear attention (gated delta net), beside those of full attention."""

_THINK = "<think>"
_CHATML = "<|im_start|>"
_END_OF_TEXT = 151643  # <|endoftext|> in the vocabulary of Qwen2 to Qwen3


@dataclass(frozen=True)
class _Family:
    """Templates of one generation; `thinking` and `plain` are the same where it makes no difference."""

    thinking: str
    plain: str
    without_chat_template: str
    others: tuple[str, ...] = ()

    @property
    def templates(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((self.thinking, self.plain, *self.others)))


_QWEN2 = _Family("qwen", "qwen", "qwen")  # QwQ, too: its thoughts are part of the answers
_QWEN3 = _Family("qwen3", "qwen3_nothink", "qwen3")  # base models have the hybrid ones' template
_QWEN2_VL = _Family("qwen2_vl", "qwen2_vl", "qwen2_vl")
_QWEN3_VL = _Family("qwen3_vl", "qwen3_vl_nothink", "qwen3_vl_nothink")
_QWEN3_5 = _Family("qwen3_5", "qwen3_5_nothink", "qwen3_5", others=("qwen3_6",))

_FAMILIES: Final = {
    "qwen2": _QWEN2,
    "qwen2_moe": _QWEN2,
    "qwen3": _QWEN3,
    "qwen3_moe": _QWEN3,
    "qwen3_next": _QWEN3,
    "qwen2_vl": _QWEN2_VL,
    "qwen2_5_vl": _QWEN2_VL,
    "qwen3_vl": _QWEN3_VL,
    "qwen3_vl_moe": _QWEN3_VL,
    "qwen3_5": _QWEN3_5,
    "qwen3_5_moe": _QWEN3_5,
}


def resolve_template(run: Run) -> str:
    """The template of the run's model: the one asked for, if it fits the model, else the one that fits.

    Raises PermanentError InvalidModel when config.json names another family, or none.
    """
    directory = run.model.path
    model_type = model_type_of(directory)
    family = _FAMILIES.get(model_type)
    if family is None:
        raise invalid_model(
            f"{directory} holds a model of type {model_type!r} (config.json), but only these Qwen models can be "
            f"trained: {', '.join(_FAMILIES)}. Correct spec.model.name or spec.model.source."
        )
    template = run.model.template
    if template is None:
        return _inferred(directory, family)
    if template not in family.templates:
        raise invalid_model(
            f"The template is {template} (spec.model.template, or told by spec.model.name {run.model.name}), but the "
            f"model in {directory} is of type {model_type} (config.json), which needs "
            f"{' or '.join(family.templates)}. Correct spec.model.template, or spec.model.name and spec.model.source "
            "if this is not the model you mean."
        )
    return template


def doubts(template: str, directory: Path) -> list[str]:
    """A warning when the model's own chat template thinks and `template` does not, or the other way round."""
    text = chat_template(directory)
    family = _FAMILIES.get(model_type_of(directory))
    if text is None or family is None or family.thinking == family.plain:
        return []
    thinks = _THINK in text
    if thinks == (template in REASONING):
        return []
    if thinks:
        return [
            f"template {template} trains answers without thoughts, but this model's chat template has {_THINK}: at "
            f"inference it will be asked otherwise than it was trained. spec.model.template: {family.thinking} fits it"
        ]
    return [
        f"template {template} trains answers with {_THINK} blocks, but this model's chat template has none: it looks "
        f"like an Instruct model. spec.model.template: {family.plain} fits it"
    ]


def always_thinks(directory: Path) -> bool:
    """Whether the model's chat template has thoughts and no way to ask without them."""
    text = chat_template(directory) or ""
    return _THINK in text and "enable_thinking" not in text


def is_base(directory: Path) -> bool:
    """Whether the model ends its texts as base models do: with <|endoftext|>, and never with a turn's end."""
    generation = files.read_json_object(directory / "generation_config.json") or {}
    ends = generation.get("eos_token_id", config_of(directory).get("eos_token_id"))
    return ends in (_END_OF_TEXT, [_END_OF_TEXT])


def model_type_of(directory: Path) -> str:
    """What config.json says the model is, "" when it says nothing."""
    return str(config_of(directory).get("model_type", ""))


def config_of(directory: Path) -> dict[str, Any]:
    """config.json; empty when it cannot be read."""
    return files.read_json_object(directory / "config.json") or {}


def chat_template(directory: Path) -> str | None:
    """The text of the model's chat template, wherever the version of transformers that saved it has put it."""
    alone = directory / "chat_template.jinja"
    if alone.is_file():
        return alone.read_text(encoding="utf-8", errors="replace")
    for name in ("chat_template.json", "tokenizer_config.json"):
        found = (files.read_json_object(directory / name) or {}).get("chat_template")
        if isinstance(found, list):  # several by name
            named = {str(entry.get("name")): entry.get("template") for entry in found if isinstance(entry, dict)}
            found = named.get("default", next(iter(named.values()), None))
        if isinstance(found, str):
            return found
    return None


def _inferred(directory: Path, family: _Family) -> str:
    text = chat_template(directory)
    if text is None:
        return family.without_chat_template
    if _CHATML not in text:
        raise invalid_model(
            f"The chat template of the model in {directory} is not Qwen's ({_CHATML} does not occur in it), so no "
            f"template can be told. Set spec.model.template to {' or '.join(family.templates)} to train it with Qwen's "
            "all the same."
        )
    if _THINK not in text:
        return family.plain
    if "qwen3_6" in family.others and "preserve_thinking" in text:
        return "qwen3_6"
    return family.thinking
