"""What an alpaca and a sharegpt row must look like, and the one form both are normalised to.

LLaMA-Factory drops a row whose roles do not alternate and crashes on missing columns; here each becomes a RowProblem
that says what to mend. The normal form is a conversation: {"messages": [{"role", "content"}, ...], "system", "tools"}.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from qwensft_trainer.config import Dataset

Conversation = dict[str, Any]

USER, ASSISTANT, OBSERVATION, FUNCTION, SYSTEM = "user", "assistant", "observation", "function_call", "system"

# How the rows of a normalised file are described to LLaMA-Factory: omitted tags would become None and drop rows.
NORMAL_COLUMNS = {"messages": "messages", "system": "system", "tools": "tools"}
NORMAL_TAGS = {
    "role_tag": "role",
    "content_tag": "content",
    "user_tag": USER,
    "assistant_tag": ASSISTANT,
    "observation_tag": OBSERVATION,
    "function_tag": FUNCTION,
    "system_tag": SYSTEM,
}

# Both spellings in use are understood whatever the tags say: published datasets mix them freely.
_SPELLINGS = {
    "human": USER,
    "user": USER,
    "gpt": ASSISTANT,
    "assistant": ASSISTANT,
    "observation": OBSERVATION,
    "tool": OBSERVATION,
    "function_call": FUNCTION,
    "system": SYSTEM,
}
_DEFAULT_COLUMNS = {"prompt": "instruction", "query": "input", "response": "output", "messages": "conversations"}
_ASKS = (USER, OBSERVATION)
_ANSWERS = (ASSISTANT, FUNCTION)


class RowProblem(Exception):  # noqa: N818  # it becomes a line of a message
    """Why a row cannot be used, with the fix, without naming the row."""


def conversation(dataset: Dataset, row: Any) -> Conversation:
    """Check one row against its dataset's format and return it in the normal form. Raises RowProblem."""
    if not isinstance(row, dict):
        raise RowProblem(f"the row is {_kind(row)}; every row must be a JSON object")
    columns = {key: name for key, name in (_DEFAULT_COLUMNS | dataset.columns).items() if name}
    return _alpaca(columns, row) if dataset.format == "alpaca" else _sharegpt(columns, dataset.tags, row)


def _alpaca(columns: Mapping[str, str], row: Mapping[str, Any]) -> Conversation:
    need = f"alpaca rows need '{columns['prompt']}' and '{columns['response']}'"
    prompt = _text(row, columns["prompt"], need=need)
    query = _text(row, columns.get("query"))
    answer = _text(row, columns["response"], need=need)
    if not prompt and not query:
        raise RowProblem(f"field '{columns['prompt']}' is empty; {need}")
    messages = []
    for ask, reply in _history(row, columns.get("history")):
        messages += [{"role": USER, "content": ask}, {"role": ASSISTANT, "content": reply}]
    messages += [
        {"role": USER, "content": "\n".join(part for part in (prompt, query) if part)},
        {"role": ASSISTANT, "content": answer},
    ]
    return {
        "messages": messages,
        "system": _text(row, columns.get("system")),
        "tools": _tools(row, columns.get("tools")),
    }


def _history(row: Mapping[str, Any], column: str | None) -> list[tuple[str, str]]:
    rounds = row.get(column) if column else None
    if rounds is None:
        return []
    if not isinstance(rounds, list):
        raise RowProblem(f"field '{column}' is {_kind(rounds)}; expected a list of [instruction, response] pairs")
    for number, pair in enumerate(rounds, start=1):
        if not (isinstance(pair, list) and len(pair) == 2 and all(isinstance(part, str) for part in pair)):
            raise RowProblem(f"field '{column}', round {number}: expected a pair of texts [instruction, response]")
    return [(ask, reply) for ask, reply in rounds]


def _sharegpt(columns: Mapping[str, str], tags: Mapping[str, str | None], row: Mapping[str, Any]) -> Conversation:
    column = columns["messages"]
    messages = row.get(column)
    if messages is None:
        other = next((name for name in ("messages", "conversations") if isinstance(row.get(name), list)), None)
        hint = f"; the row has '{other}': set columns.messages to '{other}'" if other else ""
        raise RowProblem(f"field '{column}' is missing; sharegpt rows need it{hint}")
    if not isinstance(messages, list):
        raise RowProblem(f"field '{column}' is {_kind(messages)}; expected a list of messages")
    roles = _SPELLINGS | {name: role for tag, role in _roles_of_tags().items() if (name := tags.get(tag))}
    turns = [_message(number, message, tags, roles) for number, message in enumerate(messages, start=1)]
    system = _text(row, columns.get("system"))
    skipped = 0
    if turns and turns[0]["role"] == SYSTEM:
        system = turns[0]["content"]
        turns, skipped = turns[1:], 1
    _check_turns(column, turns, skipped)
    return {"messages": turns, "system": system, "tools": _tools(row, columns.get("tools"))}


def _roles_of_tags() -> dict[str, str]:
    return {tag: role for tag, role in NORMAL_TAGS.items() if tag not in ("role_tag", "content_tag")}


def _message(number: int, message: Any, tags: Mapping[str, str | None], roles: Mapping[str, str]) -> dict[str, str]:
    role_key, content_key = tags.get("role_tag") or "from", tags.get("content_tag") or "value"
    if not isinstance(message, dict):
        raise RowProblem(
            f"message {number} is {_kind(message)}; expected an object with '{role_key}' and '{content_key}'"
        )
    for key, usual, tag in ((role_key, ("from", "role"), "role"), (content_key, ("value", "content"), "content")):
        if key not in message:
            other = next((name for name in usual if name in message), None)
            hint = f"; the message has '{other}': set tags.{tag} to '{other}'" if other else ""
            raise RowProblem(f"message {number}: field '{key}' is missing{hint}")
    role, content = message[role_key], message[content_key]
    if not isinstance(role, str) or role not in roles:
        raise RowProblem(f"message {number}: '{role_key}' is {role!r:.60}; expected one of {', '.join(sorted(roles))}")
    if not isinstance(content, str):
        raise RowProblem(f"message {number}: '{content_key}' is {_kind(content)}; expected text")
    return {"role": roles[role], "content": content}


def _check_turns(column: str, turns: list[dict[str, str]], skipped: int) -> None:
    if not turns:
        raise RowProblem(f"field '{column}' holds no conversation; at least one user message and one answer are needed")
    for position, turn in enumerate(turns):
        allowed = _ANSWERS if position % 2 else _ASKS
        if turn["role"] not in allowed:
            before = f"follows '{turns[position - 1]['role']}'" if position else "comes first"
            raise RowProblem(
                f"message {position + 1 + skipped} ('{turn['role']}') {before}; user and assistant turns must "
                "alternate, beginning with the user"
            )
    if len(turns) % 2:
        raise RowProblem(f"the last message is from '{turns[-1]['role']}'; a conversation must end with an answer")


def _text(row: Mapping[str, Any], column: str | None, *, need: str | None = None) -> str:
    value = row.get(column) if column else None
    if value is None:
        if need is None:
            return ""
        raise RowProblem(f"field '{column}' is {'null' if column in row else 'missing'}; {need}")
    if not isinstance(value, str):
        raise RowProblem(f"field '{column}' is {_kind(value)}; expected text")
    return value


def _tools(row: Mapping[str, Any], column: str | None) -> str:
    """Tool descriptions: LLaMA-Factory wants them as JSON text, published data also has them as JSON."""
    value = row.get(column) if column else None
    if isinstance(value, list | dict):
        return json.dumps(value, ensure_ascii=False) if value else ""
    text = _text(row, column)
    if text:
        try:
            json.loads(text)
        except ValueError as error:
            raise RowProblem(
                f"field '{column}' is not valid JSON ({error}); it must hold the tool descriptions"
            ) from error
    return text


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, str):
        return "text"
    return "a list" if isinstance(value, list) else "an object"
