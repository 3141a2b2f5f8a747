"""Thoughts before an answer, in every spelling that datasets have, and the one they are normalised to.

What training makes of them (spec.model.enableThinking) is chat_form.py's part.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from qwensft_trainer.data.row_fields import ELSE, RowProblem, kind

KEYS = ("reasoning_content", "reasoning", "thinking")
"""Keys of a message, or columns of an alpaca row, that hold thoughts: DeepSeek's and Qwen's, vLLM's, Anthropic's."""

UNOPENED = "have thoughts that only </think> ends: they are trained between <think> and </think>"
UNCLOSED = "have a <think> that is never closed: the answer was cut off, and teaches never to stop thinking"
FOREIGN = "have answers that begin with {}, which training takes as text: write thoughts between <think> and </think>"
LATER = "have <think> tags after the beginning of an answer: these are trained as text"

_OPEN = re.compile(r"<\s*think\s*>", re.IGNORECASE)
_CLOSE = re.compile(r"<\s*/\s*think\s*>", re.IGNORECASE)
_FOREIGN = re.compile(
    r"\s*(<(?:thinking|thought|thoughts|reasoning|reflection|scratchpad|analysis|seed:think|\|think\|)>|\*\*thinking:?\*\*|<\|begin_of_thought\|>|"
    r"<\|channel\|>analysis|&lt;think&gt;|\[THINK\]|\u25c1think\u25b7)",
    re.IGNORECASE,
)
# Nemotron's reasoning: "off", and the efforts of later models.
_SETTINGS = frozenset(
    ("", "on", "off", "true", "false", "yes", "no", "none", "auto", "minimal", "low", "medium", "high", "[]", "{}")
)
_GAP = re.compile(r"\A(?:[ \t]*\r?\n)+|\A[ \t]+")
_END_GAP = re.compile(r"(?:\r?\n[ \t]*)+\Z|[ \t]+\Z")
_WRITTEN_OPEN, _WRITTEN_CLOSE = "<think>\n", "\n</think>\n\n"


def of_keys(message: Mapping[str, Any]) -> str | None:
    """The thoughts that stand under keys of their own, None without any. Raises RowProblem when two keys differ."""
    found = {key: message[key] for key in KEYS if message.get(key) not in (None, "")}
    for key, value in found.items():
        if not isinstance(value, str):
            raise RowProblem(f"'{key}' is {kind(value)}; expected text; or, if it means something else, {ELSE}")
        if _OPEN.search(value) or _CLOSE.search(value):
            raise RowProblem(f"'{key}' holds <think> tags; leave them out, the template writes them")
    if len({str(value).strip() for value in found.values()}) > 1:
        raise RowProblem(f"{' and '.join(repr(key) for key in found)} hold different thoughts; leave one of them")
    return next((str(value).strip("\r\n") for value in found.values()), None)


def is_setting(value: Any) -> bool:
    """Whether what stands under a name of thoughts is none: missing, a flag or a word for how much to think."""
    return value is None or isinstance(value, bool | int | float) or str(value).strip().lower() in _SETTINGS


def refuse(role: str, message: Mapping[str, Any]) -> None:
    """Refuse thoughts of anybody but the assistant: nothing would be learned of them. Raises RowProblem."""
    if found := next((key for key in KEYS if message.get(key) not in (None, "", [])), None):
        raise RowProblem(
            f"a message from '{role}' has '{found}', and only the assistant thinks: remove it; or, if it means "
            f"something else, {ELSE}"
        )


def parted(content: str) -> tuple[str | None, str, tuple[str, ...]]:
    """Part an answer into thoughts and what is said, with remarks. None: there are no tags; "": they are empty."""
    opened, closed = _OPEN.search(content), _CLOSE.search(content)
    if opened is not None and not content[: opened.start()].strip():
        if closed is None:
            return None, content, (UNCLOSED,)
        return _with_remarks(content[opened.end() : closed.start()], content[closed.end() :], ())
    comes_first = closed is not None and (opened is None or closed.start() < opened.start())
    if closed is not None and comes_first and _ends_a_line(content, closed):
        return _with_remarks(content[: closed.start()], content[closed.end() :], (UNOPENED,))
    if foreign := _FOREIGN.match(content):
        return None, content, (FOREIGN.format(foreign[1].lower()),)
    return None, content, (LATER,) if opened or closed else ()


def begins(content: str) -> bool:
    """Whether a text begins with an opening tag."""
    return _OPEN.match(content.lstrip()) is not None


def together(thought: str | None, said: str) -> str:
    """The normal form of an answer, which is the chat templates' own."""
    return said if thought is None else f"{_WRITTEN_OPEN}{thought}{_WRITTEN_CLOSE}{said}"


def apart(content: str) -> tuple[str | None, str]:
    """The inverse of `together`."""
    if not content.startswith(_WRITTEN_OPEN):
        return None, content
    thought, closed, said = content.removeprefix(_WRITTEN_OPEN).partition(_WRITTEN_CLOSE)
    return (thought, said) if closed else (None, content)


def _with_remarks(thought: str, said: str, remarks: tuple[str, ...]) -> tuple[str, str, tuple[str, ...]]:
    if _OPEN.search(said) or _CLOSE.search(said):
        remarks = (*remarks, LATER)
    return _END_GAP.sub("", _without_gap(thought)), _without_gap(said), remarks


def _ends_a_line(content: str, tag: re.Match[str]) -> bool:
    """A tag alone on a line or at the end of one: others are talked about, as in "what does `</think>` do?"."""
    return re.match(r"[ \t]*(\r?\n|\Z)", content[tag.end() :]) is not None


def _without_gap(said: str) -> str:
    """Blank lines after the tag belong to the template, or a space on the same line; indentation does not."""
    return _GAP.sub("", said)
