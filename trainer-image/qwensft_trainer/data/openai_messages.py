"""Reads a message in OpenAI's form: text or a list of parts, tool calls and their results, reasoning.

Which roles may follow each other is checked in row_checks.py.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from qwensft_trainer.data.row_fields import Media, RowProblem, kind, medium, sequence

USER, ASSISTANT, OBSERVATION, FUNCTION, SYSTEM = "user", "assistant", "observation", "function_call", "system"

SPELLINGS = {"developer": SYSTEM, "function": OBSERVATION}
CALL_EXAMPLE = '{"name": "weather", "arguments": {"city": "Bonn"}}'

IMAGE_PLACEHOLDER, VIDEO_PLACEHOLDER, AUDIO_PLACEHOLDER = "<image>", "<video>", "<audio>"

# What joins the results of several tools called at once, inside the template's <tool_response> (as LLaMA-Factory does).
_NEXT_RESULT = "\n</tool_response>\n<tool_response>\n"
_THOUGHT = "<think>\n{}\n</think>\n\n"
_PARTS = {"image": "image", "image_url": "image", "video": "video", "video_url": "video"}


@dataclass(frozen=True)
class Turn:
    """A message in the normal form. `number` is its place in the row, `images` and `videos` stood inside of it."""

    role: str
    content: str
    number: int = 0
    images: tuple[Media, ...] = ()
    videos: tuple[Media, ...] = ()


def turn(number: int, role: str, message: Mapping[str, Any], content_key: str) -> Turn:
    """Read one message. Raises RowProblem without the message's number."""
    calls = sequence(message.get("tool_calls"), "tool_calls", "of tool calls")
    if message.get("function_call"):
        raise RowProblem("it has 'function_call', the older form of 'tool_calls'; convert it")
    if message.get("weight") == 0:
        raise RowProblem("'weight' is 0, but every answer is trained on; remove the answers not to be learned")
    if calls and role != ASSISTANT:
        raise RowProblem(f"a message from '{role}' has tool_calls; only the assistant calls tools")
    read = _Parts(message.get(content_key), content_key, optional=bool(calls))
    content = read.text
    if (read.images or read.videos) and (calls or role == SYSTEM):
        raise RowProblem(f"a message from '{role}'{' with tool_calls' if calls else ''} can hold no images or videos")
    thought = message.get("reasoning_content")
    if thought and role == ASSISTANT:
        if not isinstance(thought, str):
            raise RowProblem(f"'reasoning_content' is {kind(thought)}; expected text")
        content = _THOUGHT.format(thought.strip("\n")) + content
    if calls:
        return Turn(FUNCTION, _function_call(content, calls), number)
    return Turn(role, content, number, tuple(read.images), tuple(read.videos))


def merged_results(turns: list[Turn]) -> list[Turn]:
    """Results that follow each other answer one message with several calls: they become one observation."""
    merged: list[Turn] = []
    for one in turns:
        if one.role == OBSERVATION and merged and merged[-1].role == OBSERVATION:
            before = merged[-1]
            merged[-1] = replace(
                before,
                content=before.content + _NEXT_RESULT + one.content,
                images=before.images + one.images,
                videos=before.videos + one.videos,
            )
        else:
            merged.append(one)
    return merged


class _Parts:
    """The content of a message: its text, with a placeholder where each image or video stands."""

    def __init__(self, content: Any, key: str, *, optional: bool) -> None:
        self.text = ""
        self.images: list[Media] = []
        self.videos: list[Media] = []
        if content is None and not optional:
            raise RowProblem(f"'{key}' is missing or null; expected text or a list of parts")
        if isinstance(content, list):
            for number, part in enumerate(content, start=1):
                self._add(part, f"'{key}', part {number}")
        elif content is not None and not isinstance(content, str):
            raise RowProblem(f"'{key}' is {kind(content)}; expected text or a list of parts")
        else:
            self.text = content or ""

    def _add(self, part: Any, where: str) -> None:
        if isinstance(part, str):
            self.text += part
            return
        form = part.get("type") if isinstance(part, dict) else None
        if form and "value" in part:  # as the next LLaMA-Factory writes all parts
            part = {form: part["value"], **part}
        if form == "text" and isinstance(part.get("text"), str):
            self.text += part["text"]
        elif form in _PARTS:
            found = self.images if _PARTS[form] == "image" else self.videos
            self.text += IMAGE_PLACEHOLDER if _PARTS[form] == "image" else VIDEO_PLACEHOLDER
            source = part.get(form)
            if isinstance(source, dict) and "url" in source:
                source = source["url"]
            # Without a source, the part only marks the place of the next image of the row's images column.
            if source is not None:
                found.append(medium(source, where))
        elif form == "text":
            raise RowProblem(f"{where} is of type text and has no text under 'text'")
        else:
            raise RowProblem(f"{where} is of type {form!r:.40}; expected text, {', '.join(_PARTS)}")


def _function_call(text: str, calls: list[Any]) -> str:
    """What LLaMA-Factory's FunctionFormatter reads: JSON, after what was said or thought before the call."""
    body = json.dumps([_call(number, call) for number, call in enumerate(calls, start=1)], ensure_ascii=False)
    if not text.strip():
        return body
    return text + ("" if text.endswith("\n") else "\n") + f"<tool_call>{body}</tool_call>"


def _call(number: int, call: Any) -> dict[str, Any]:
    function = call.get("function", call) if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise RowProblem(f"tool call {number} has no function with a name")
    arguments = function.get("arguments")
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments) if arguments.strip() else {}
        except ValueError as error:
            raise RowProblem(f"tool call {number}: the arguments are not valid JSON ({error})") from error
    return {"name": function["name"], "arguments": {} if arguments is None else arguments}
