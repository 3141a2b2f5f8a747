"""Reads a message in OpenAI's form: text or a list of parts, tool calls and their results, reasoning.

Which roles may follow each other is checked in row_checks.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from qwensft_trainer.data import thoughts, tool_calls
from qwensft_trainer.data.row_fields import Media, RowProblem, kind, medium, sequence, word
from qwensft_trainer.data.turns import ASSISTANT, OBSERVATION, SYSTEM, Turn, answer, as_result

SPELLINGS = {"developer": SYSTEM, "function": OBSERVATION}

IMAGE_PLACEHOLDER, VIDEO_PLACEHOLDER, AUDIO_PLACEHOLDER = "<image>", "<video>", "<audio>"

_PARTS = {"image": "image", "image_url": "image", "video": "video", "video_url": "video"}
_THOUGHTS = {"thinking": "thinking", "reasoning": "text"}


def turn(number: int, role: str, message: Mapping[str, Any], content_key: str) -> Turn:
    """Read one message. Raises RowProblem without the message's number."""
    calls = _calls(message)
    if calls and role != ASSISTANT:
        raise RowProblem(f"a message from '{role}' has tool_calls; only the assistant calls tools")
    read = _Parts(message.get(content_key), content_key, optional=bool(calls))
    if (read.images or read.videos) and (calls or role == SYSTEM):
        raise RowProblem(f"a message from '{role}'{' with tool_calls' if calls else ''} can hold no images or videos")
    found = as_result(Turn(role, read.text, number, tuple(read.images), tuple(read.videos)))
    if found.role == OBSERVATION:
        thoughts.refuse(role, message)
        return replace(found, call_ids=_ids([message], "tool_call_id"))
    if role == ASSISTANT:
        found = replace(found, call_ids=_ids(calls, "id"))
        return answer(found, _thought(message, read.thoughts), tool_calls.from_objects(calls) if calls else None)
    if read.thoughts:
        raise RowProblem(f"a message from '{role}' has thoughts; only the assistant thinks")
    thoughts.refuse(role, message)
    return found


def _ids(entries: list[Any], key: str) -> tuple[str, ...]:
    """The ids of calls or of a result; () unless all have one."""
    ids = tuple(entry[key] for entry in entries if isinstance(entry, dict) and isinstance(entry.get(key), str))
    return ids if len(ids) == len(entries) == len(set(ids)) else ()


def _calls(message: Mapping[str, Any]) -> list[Any]:
    calls = sequence(message.get("tool_calls"), "tool_calls", "of tool calls")
    older = message.get("function_call")
    if older and calls:
        raise RowProblem("it has 'tool_calls' and 'function_call', their older form; leave one of the two")
    return [older] if older else calls


def _thought(message: Mapping[str, Any], parts: list[str]) -> str | None:
    thought = thoughts.of_keys(message)
    if thought is not None and parts:
        raise RowProblem("it has thoughts under a key of their own and in its parts; leave one of the two")
    return thought if thought is not None or not parts else "\n\n".join(parts)


class _Parts:
    """The content of a message: its text, with a placeholder where each image or video stands."""

    def __init__(self, content: Any, key: str, *, optional: bool) -> None:
        self.text = ""
        self.images: list[Media] = []
        self.videos: list[Media] = []
        self.thoughts: list[str] = []
        if content is None and not optional:
            raise RowProblem(f"'{key}' is missing or null; expected text or a list of parts")
        if isinstance(content, list):
            for number, part in enumerate(content, start=1):
                self._add(part, f"'{key}', part {number}")
        elif content is not None and not isinstance(content, str):
            hint = ", such as its JSON as text" if isinstance(content, dict) else ""
            raise RowProblem(f"'{key}' is {kind(content)}; expected text or a list of parts{hint}")
        else:
            self.text = content or ""

    def _add(self, part: Any, where: str) -> None:
        if isinstance(part, str):
            self.text += part
            return
        form = part.get("type") or _only_form(part) if isinstance(part, dict) else None
        if form is not None and not isinstance(form, str):
            raise RowProblem(f"{where} has a type that is {kind(form)}; expected text, {', '.join(_PARTS)}")
        if form and "value" in part:  # as the next LLaMA-Factory writes all parts
            part = {form: part["value"], **part}
        if form == "text" and isinstance(part.get("text"), str):
            self.text += part["text"]
        elif form in _THOUGHTS and isinstance(part.get(_THOUGHTS[form]), str):
            self.thoughts.append(part[_THOUGHTS[form]].strip())
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
            raise RowProblem(f"{where} is of type {word(form)}; expected text, {', '.join(_PARTS)}")


def _only_form(part: Mapping[str, Any]) -> str | None:
    """Qwen's own parts have no type: {"image": ...} or {"text": ...}."""
    forms = [form for form in ("text", *_PARTS) if form in part]
    return forms[0] if len(forms) == 1 else None
