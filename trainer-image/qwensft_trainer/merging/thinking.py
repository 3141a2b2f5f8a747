"""The chat template of a model that was trained without thoughts: it asks for none unless a request does."""

from __future__ import annotations

from typing import Any

# The reference before the assignment keeps enable_thinking a variable of the template's caller: servers that look for
# those, like vLLM, still pass it on. Renderers of chat templates drop the newline after a block (trim_blocks).
FIRST_LINE = "{%- if enable_thinking is not defined %}{%- set enable_thinking = false %}{%- endif %}\n"
_VARIABLE = "enable_thinking"
_WHY = f"{_VARIABLE} is false unless a request sets it, as spec.model.enableThinking says"


def in_text(template: bytes) -> tuple[bytes, list[str]]:
    """A template alone in its file, with the default before it where it knows enable_thinking."""
    if not _takes(template.decode(errors="replace")):
        return template, []
    return FIRST_LINE.encode() + template, [_WHY]


def in_json(holder: dict[str, Any]) -> list[str]:
    """The same for "chat_template" in tokenizer_config.json or chat_template.json: a text, or several by name."""
    found = holder.get("chat_template")
    if isinstance(found, str) and _takes(found):
        holder["chat_template"] = FIRST_LINE + found
        return [_WHY]
    named = [entry for entry in found if _takes(entry["template"])] if isinstance(found, list) else []
    for entry in named:
        entry["template"] = FIRST_LINE + entry["template"]
    return [_WHY] if named else []


def _takes(template: str) -> bool:
    return _VARIABLE in template and not template.startswith(FIRST_LINE)
