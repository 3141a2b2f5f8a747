"""Generates conversations as a server would be asked them, and writes each as a row of every format.

Runs in the trainer image, so the standard library must do: a number gives the same conversation everywhere.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

Message = dict[str, Any]
Row = dict[str, Any]

IMAGE = "<image>"

_TEXTS = (
    "How long may a kiln cool?",
    "Eleven hours.\n\nThen open it.",
    "钟表需要上多少圈发条？",
    "Сколько воды?",
    "كم الساعة الآن؟",
    "def f(x):\n    return {'a': [1, 2]}  # <b>&amp;</b>",
    "🫖 tea 🏺, \"quoted\" and 'single'",
    " a\tb  c ",
    "{{content}} and {% raw %} {name}",
    "\\n is no line break; \\u003c is no tag",
    "x",
)
_NAMES = ("weather", "glaze_stock", "get-time")
_KEYS = ("city", "größe", "n")
_VALUES: tuple[Any, ...] = (
    *("teal", "钟", "", "<tool_call>", "a\nb", "</think>", 3, -1.5, True, None),
    *(["a", 1], {"deep": {"x": [None, False]}}),
)
_ROLES = {"user": "human", "assistant": "gpt", "tool": "observation", "system": "system"}


def generated(number: int, *, images: bool) -> dict[str, Any]:
    """Return {"messages", "tools"} in OpenAI's form, with `reasoning_content` and arguments as objects."""
    dice = random.Random(number)  # noqa: S311
    tools = [_tool(name) for name in dice.sample(_NAMES, dice.randint(1, 3))] if dice.random() < 0.5 else []
    messages: list[Message] = []
    if dice.random() < 0.5:
        messages.append({"role": "system", "content": dice.choice(_TEXTS)})
    for _ in range(dice.randint(1, 3)):
        picture = IMAGE if images and dice.random() < 0.3 else ""
        messages.append({"role": "user", "content": picture + dice.choice(_TEXTS)})
        for _ in range(dice.randint(0, 2) if tools else 0):
            calls = [_call(dice) for _ in range(dice.randint(1, 3))]
            said = dice.choice(("", dice.choice(_TEXTS).strip()))
            messages.append(_thinking(dice, {"role": "assistant", "content": said, "tool_calls": calls}))
            messages += [{"role": "tool", "content": dice.choice(_TEXTS)} for _ in calls]
        messages.append(_thinking(dice, {"role": "assistant", "content": dice.choice(_TEXTS)}))
    return {"messages": messages, "tools": tools}


def as_openai(value: dict[str, Any]) -> Row:
    """Arguments are JSON text, as OpenAI gives them."""
    messages = [
        message | ({"tool_calls": [_with_text(call) for call in calls]} if (calls := message.get("tool_calls")) else {})
        for message in value["messages"]
    ]
    return {"messages": messages, "tools": value["tools"]}


def as_sharegpt(value: dict[str, Any]) -> Row:
    """Thoughts and calls stand in tags, tools without OpenAI's wrapping."""
    turns = [_sharegpt_turn(message) for message in value["messages"]]
    return {"conversations": turns, "tools": json.dumps([tool["function"] for tool in value["tools"]])}


def as_alpaca(value: dict[str, Any]) -> Row | None:
    """Return None for what alpaca rows cannot say: calls and their results."""
    first, *others = value["messages"]
    system = first["content"] if first["role"] == "system" else ""
    turns = others if system else value["messages"]
    if any(message["role"] == "tool" for message in turns):
        return None
    pairs = list(zip(turns[::2], turns[1::2], strict=True))
    history = [[question["content"], _thought_inline(answer)] for question, answer in pairs[:-1]]
    question, answer = pairs[-1]
    row = {"instruction": question["content"], "output": _thought_inline(answer), "history": history}
    return row | {"system": system, "tools": value["tools"]}


FORMATS: dict[str, Callable[[dict[str, Any]], Row | None]] = {
    "openai": as_openai,
    "sharegpt": as_sharegpt,
    "alpaca": as_alpaca,
}


def _thinking(dice: random.Random, message: Message) -> Message:
    return message | {"reasoning_content": dice.choice(_TEXTS)} if dice.random() < 0.5 else message


def _tool(name: str) -> dict[str, Any]:
    parameters = {"type": "object", "properties": {"city": {"type": "string", "description": "Größe <b>"}}}
    return {"type": "function", "function": {"name": name, "description": "What it does.", "parameters": parameters}}


def _call(dice: random.Random) -> dict[str, Any]:
    arguments = {key: dice.choice(_VALUES) for key in dice.sample(_KEYS, dice.randint(0, 3))}
    return {"type": "function", "function": {"name": dice.choice(_NAMES), "arguments": arguments}}


def _with_text(call: dict[str, Any]) -> dict[str, Any]:
    function = call["function"]
    return call | {"id": "1", "function": function | {"arguments": json.dumps(function["arguments"])}}


def _sharegpt_turn(message: Message) -> dict[str, str]:
    if not (calls := message.get("tool_calls")):
        return {"from": _ROLES[message["role"]], "value": _thought_inline(message)}
    blocks = [f"<tool_call>\n{json.dumps(call['function'])}\n</tool_call>" for call in calls]
    said = "\n".join(([message["content"]] if message["content"] else []) + blocks)
    return {"from": "function_call", "value": _thought_inline(message | {"content": said})}


def _thought_inline(message: Message) -> str:
    thought = message.get("reasoning_content")
    return message["content"] if thought is None else f"<think>\n{thought}\n</think>\n\n{message['content']}"
