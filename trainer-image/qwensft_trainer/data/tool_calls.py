"""Function calls in every spelling that datasets have, and the one they are normalised to: {name, arguments object}.

How a model's chat template writes them is chat_form.py's part. ADR 0084 says why they are parsed.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from qwensft_trainer.data.row_fields import RowProblem, kind, short_name

CALL_EXAMPLE = '{"name": "weather", "arguments": {"city": "Bonn"}}'

# OpenAI's name for them, LangChain's, Anthropic's and Llama's.
_ARGUMENTS = ("arguments", "args", "input", "parameters")
_KNOWN = frozenset((*_ARGUMENTS, "name", "id", "type", "index", "function"))
_PYTHON_NAMES = {"True": True, "False": False, "None": None}
_LONGEST_PYTHON, _MOST_BRACKETS = 100_000, 60
_OPEN, _CLOSE = "<tool_call>", "</tool_call>"
_BLOCK = re.compile(r"<tool_call>(.*?)</tool_call>", re.DOTALL)
_XML_CALL = re.compile(r"\s*<function=([^>\s]+)\s*>(.*)</function>\s*", re.DOTALL)
_XML_PARAMETER = re.compile(r"\s*<parameter=([^>]+?)\s*>\n?(.*?)\n?</parameter>", re.DOTALL)
_FOREIGN = re.compile(
    r"<functioncall>|<function_calls?>|<\|python_tag\|>|\[TOOL_CALLS\]|<\|tool_calls?_begin\|>|<\|tool_call\|>|"
    r"<function=|\u273fFUNCTION\u273f|<\uff5ctool\u2581calls?\u2581begin\uff5c>"
)
_RESULT = re.compile(r"\s*<tool_response>\n?(.*?)\n?</tool_response>\s*", re.DOTALL)

FOREIGN = (
    "have answers with {}, which training takes as text: write calls between <tool_call> and </tool_call>, or as "
    "tool_calls of format openai"
)
UNMARKED = (
    "have answers that are nothing but the JSON of a call, which is trained as text: write it between <tool_call> and "
    "</tool_call>, or as a turn of its own (function_call of format sharegpt, tool_calls of format openai)"
)

NEXT_RESULT = "\n</tool_response>\n<tool_response>\n"
"""What stands between two results inside the template's <tool_response>, as the chat templates write them."""


@dataclass(frozen=True)
class Call:
    """One call; `arguments` are JSON's types by name."""

    name: str
    arguments: dict[str, Any]


def from_objects(calls: Iterable[Any]) -> tuple[Call, ...]:
    """Read calls given as objects: {name, arguments}, or OpenAI's {type, function: {name, arguments}}.

    Raises RowProblem that says which call.
    """
    return tuple(_call(number, call) for number, call in enumerate(calls, start=1))


def from_text(content: str) -> tuple[str, tuple[Call, ...]]:
    """What a turn of calls says before them, and the calls: JSON, a JSON list, or <tool_call> tags, one or several.

    Raises RowProblem for what cannot be read as calls.
    """
    if _OPEN not in content and _CLOSE not in content:
        return "", _from_json(content)
    said, calls, end = "", [], 0
    for block in _BLOCK.finditer(content):
        between = content[end : block.start()]
        if end and between.strip():
            raise RowProblem("there is text between its <tool_call> tags; what is said stands before the first call")
        said = said if end else between
        calls.extend(_from_block(block.group(1)))
        end = block.end()
    rest = content[end:]
    if _OPEN in rest or _CLOSE in rest or _OPEN in said or _CLOSE in said:
        raise RowProblem("a <tool_call> tag has no counterpart; each call stands between <tool_call> and </tool_call>")
    if rest.strip():
        raise RowProblem("there is text after its last <tool_call>; what is said stands before the first call")
    return said.strip(), _numbered(calls)


def in_answer(content: str) -> tuple[str, tuple[Call, ...]] | None:
    """The same for an answer, whose tags may be meant as text: None when they cannot be read as calls."""
    if _OPEN not in content:
        return None
    try:
        return from_text(content)
    except RowProblem:
        return None


def remark(content: str) -> str | None:
    """What to tell of an answer without calls that looks like one: other models' tags, or the bare JSON."""
    if found := _FOREIGN.search(content):
        return FOREIGN.format(found[0])
    if content.lstrip()[:1] not in ("{", "[") or '"name"' not in content:
        return None
    try:
        calls = _as_list(json.loads(content))
        return UNMARKED if calls and all(call["name"] and call.keys() & set(_ARGUMENTS) for call in calls) else None
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None


def result(content: str) -> str:
    """A call's result without <tool_response> tags, which the template adds itself; several become one."""
    found, end = [], 0
    for block in _RESULT.finditer(content):
        if block.start() != end:
            return content
        found.append(block.group(1))
        end = block.end()
    return NEXT_RESULT.join(found) if found and end == len(content) else content


def written(said: str, calls: Iterable[Call]) -> str:
    """The normal form: what is said, and one pair of tags around a JSON list in which no tag can be mistaken."""
    listed = json.dumps([{"name": call.name, "arguments": call.arguments} for call in calls], ensure_ascii=False)
    return said + ("\n" if said else "") + _OPEN + listed.replace("<", "\\u003c") + _CLOSE


def read(content: str) -> tuple[str, tuple[Call, ...]]:
    """The inverse of `written`."""
    said, _, body = content.rpartition(_OPEN)
    calls = json.loads(body.removesuffix(_CLOSE))
    return said.removesuffix("\n"), tuple(Call(call["name"], call["arguments"]) for call in calls)


def _from_block(body: str) -> list[Any]:
    if named := _XML_CALL.fullmatch(body):
        return [{"name": named.group(1), "arguments": _xml_arguments(named.group(2))}]
    return _as_list(_json(body))


def _from_json(content: str) -> tuple[Call, ...]:
    return _numbered(_as_list(_json(content)))


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _numbered(calls: list[Any]) -> tuple[Call, ...]:
    if not calls:
        raise RowProblem(f"it holds no function call; expected JSON such as {CALL_EXAMPLE}")
    return from_objects(calls)


def _json(text: str) -> Any:
    try:
        return _loads(text)
    except ValueError as error:
        if text.lstrip()[:1] in ("{", "[") and (value := _python(text)) is not None:
            return value
        raise RowProblem(f"a function call must be JSON, such as {CALL_EXAMPLE} ({error})") from error


def _python(text: str) -> Any:
    """What Python's str() made of a call, as some published datasets hold it; None for anything else."""
    # Python 3.11's parser is not the same after it has met too deep a nesting; opened brackets bound the depth.
    if len(text) > _LONGEST_PYTHON or sum(map(text.count, "[{(")) > _MOST_BRACKETS:
        return None
    try:
        value = ast.literal_eval(text.strip())
        json.dumps(value, allow_nan=False)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return None
    return value


def _loads(text: str) -> Any:
    return json.loads(text, parse_constant=_no_number, object_pairs_hook=_object)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise RowProblem("in a function call a key stands twice in one object, and only its last value would be kept")
    return found


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is no number in JSON; write null, or a text")


def _xml_arguments(body: str) -> dict[str, Any]:
    arguments: dict[str, Any] = {}
    end = 0
    for parameter in _XML_PARAMETER.finditer(body):
        if parameter.start() != end:
            break
        arguments[parameter.group(1)] = _xml_value(parameter.group(2))
        end = parameter.end()
    if body[end:].strip():
        raise RowProblem("a <function=...> holds more than <parameter=...> tags, each closed by </parameter>")
    return arguments


def _xml_value(text: str) -> Any:
    """A value that its JSON writes as it stands here; anything else is text, such as 1.10 or a file of JSON.

    Chat templates write true, false and null as Python does.
    """
    if text in _PYTHON_NAMES:
        return _PYTHON_NAMES[text]
    try:
        value = json.loads(text, parse_constant=_no_number)
    except ValueError:
        return text
    return value if json.dumps(value, ensure_ascii=False) == text else text


def _call(number: int, call: Any) -> Call:
    function = call.get("function", call) if isinstance(call, dict) else call
    if isinstance(function, dict) and function is not call and "arguments" in call:
        function = {"arguments": call["arguments"]} | function
    if not isinstance(function, dict):
        raise RowProblem(f"function call {number} is {kind(function)}; expected an object such as {CALL_EXAMPLE}")
    name = function.get("name")
    if not isinstance(name, str) or not name:
        raise RowProblem(f"function call {number} needs a name, such as {CALL_EXAMPLE}")
    return Call(name, _arguments(number, function))


def _arguments(number: int, function: dict[str, Any]) -> dict[str, Any]:
    given = [key for key in _ARGUMENTS if function.get(key) is not None]
    unknown = [key for key, value in function.items() if key not in _KNOWN and value not in (None, "", [], {})]
    if len(given) > 1 or (unknown and not any(function[key] not in ("", "{}", {}) for key in given)):
        named = ", ".join(f"'{short_name(key)}'" for key in (given if len(given) > 1 else unknown))
        raise RowProblem(f"function call {number} has {named}; its arguments stand under 'arguments' alone")
    value = function[given[0]] if given else None
    if isinstance(value, str):
        try:
            value = _loads(value) if value.strip() else {}
        except ValueError as error:
            raise RowProblem(f"function call {number}: the arguments are not valid JSON ({error})") from error
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise RowProblem(f"function call {number}: the arguments are {kind(value)}; expected an object")
    return value
