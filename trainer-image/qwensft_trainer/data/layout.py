"""How each format lays a row out: its columns, the keys of its messages, and which format a row has that does not fit.

What a row then means is read in row_checks.py.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from qwensft_trainer.contract.config import Dataset

_MEDIA_COLUMNS = {"images": "images", "videos": "videos"}
_COMMON_COLUMNS = {"system": "system", "tools": "tools"} | _MEDIA_COLUMNS
DEFAULT_COLUMNS = {
    "alpaca": {"prompt": "instruction", "query": "input", "response": "output", "history": "history"} | _COMMON_COLUMNS,
    "sharegpt": {"messages": "conversations"} | _COMMON_COLUMNS,
    "openai": {"messages": "messages"} | _COMMON_COLUMNS,
}
NEEDED = ("prompt", "response", "messages")
_KEYS = {"sharegpt": ("from", "value"), "openai": ("role", "content")}
ROLE_KEYS = tuple(role for role, _ in _KEYS.values())
_USUAL_TAGS = {
    "role_tag": "from",
    "content_tag": "value",
    "user_tag": "human",
    "assistant_tag": "gpt",
    "observation_tag": "observation",
    "function_tag": "function_call",
    "system_tag": "system",
}


# What question and answer are called in published datasets, in lower case.
QUESTIONS = ("instruction", "prompt", "question", "query", "problem", "input")
_ANSWERS = ("output", "response", "completion", "answer", "solution", "generated_solution", "target")
ASKING = ("user", "human", "system", "tool", "observation")


def columns_of(dataset: Dataset) -> dict[str, str]:
    """The column that each part of a row (LLaMA-Factory's name of it) is read from."""
    return {part: name for part, name in (DEFAULT_COLUMNS[dataset.format] | dataset.columns).items() if name}


def named_columns(dataset: Dataset) -> dict[str, str]:
    """The columns to which the job gives another name than they have anyway."""
    usual = DEFAULT_COLUMNS[dataset.format]
    return {part: name for part, name in dataset.columns.items() if name and name != usual.get(part)}


def keys_of(dataset: Dataset) -> tuple[str, str]:
    """The keys of a message that hold its role and its text; alpaca rows have no messages."""
    role, content = _KEYS[dataset.format]
    return dataset.tags.get("role_tag") or role, dataset.tags.get("content_tag") or content


def without_ignored(dataset: Dataset, row: Any) -> Any:
    """A row without the columns, and its messages without the keys, that the job says to leave unread."""
    if not dataset.ignore or not isinstance(row, dict):
        return row
    kept = {name: value for name, value in row.items() if name not in dataset.ignore}
    column = columns_of(dataset).get("messages")
    if column in kept and (messages := listed(kept[column])):
        kept[column] = [
            {key: value for key, value in message.items() if key not in dataset.ignore}
            if isinstance(message, dict)
            else message
            for message in messages
        ]
    return kept


@dataclass(frozen=True)
class Messages:
    """A column that holds a conversation: its messages, and the keys of role and text in the first one."""

    column: str
    messages: list[Any]
    role: str
    content: str

    @property
    def format(self) -> str | None:
        """The format that has these keys, None for a mixture."""
        return next((name for name, keys in _KEYS.items() if keys == (self.role, self.content)), None)

    @property
    def is_question(self) -> bool:
        """Whether an answer is missing at the end."""
        return isinstance(last := self.messages[-1], dict) and last.get(self.role) in ASKING

    @property
    def is_answer(self) -> bool:
        """Whether a question is missing at the beginning."""
        return self.messages[0].get(self.role) not in ASKING


def conversations(row: Mapping[str, Any]) -> Iterator[Messages]:
    """The columns of a row that hold lists of messages with usual keys, those with a usual name first."""
    usual = [columns["messages"] for columns in DEFAULT_COLUMNS.values() if "messages" in columns]
    for column in sorted(map(str, row), key=lambda name: name not in usual):
        messages = listed(row[column])
        first = messages[0] if messages and isinstance(messages[0], dict) else {}
        role, content = (
            next((key for key in keys if key in first), None) for keys in zip(*_KEYS.values(), strict=True)
        )
        if role and content:
            yield Messages(column, messages or [], role, content)


def listed(value: Any) -> list[Any] | None:
    """A list, also one written as JSON text, as in a cell of a CSV file; None for anything else."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return None
    return value if isinstance(value, list) else None


def misfit(dataset: Dataset, row: Mapping[str, Any]) -> str | None:
    """All that is to be set for a row that is laid out otherwise than the job says; None where it is not."""
    columns = columns_of(dataset)
    if dataset.format == "alpaca":
        if all(columns[part] in row for part in ("prompt", "response")):
            return None
        return _other_names(dataset, row) or _of_messages(dataset, list(conversations(row))) or _plain_text(row)
    found = sorted(conversations(row), key=lambda one: one.column != columns["messages"])
    if not found or found[0].column != columns["messages"]:
        if columns["messages"] in row:
            return None
        return _of_messages(dataset, found) or _other_names(dataset, row) or _plain_text(row)
    return _of_messages(dataset, found)


def _of_messages(dataset: Dataset, found: list[Messages]) -> str | None:
    """For a row with `found` conversations, of which the first is the likeliest."""
    question = next((one for one in found if one.is_question), None)
    answer = next((one for one in found if one.is_answer and not one.is_question), None)
    if question is not None and answer is not None:
        settings = _settings(dataset, question)
        return (
            f"the row has its question in '{question.column}' and its answer in '{answer.column}': append the one to "
            f"the other{f', and set {settings}' if settings else ''}"
        )
    if not found or not (settings := _settings(dataset, found[0])):
        return None
    keys = f"'{found[0].role}' and '{found[0].content}'"
    return (
        f"the row has '{found[0].column}', a list of messages with {keys}"
        f"{f', as format {found[0].format}' if found[0].format else ''}: set {settings}"
    )


def _other_names(dataset: Dataset, row: Mapping[str, Any]) -> str | None:
    """What to set for a row that has question and answer as texts, by names of their own."""
    texts = {str(name).lower(): str(name) for name, value in row.items() if isinstance(value, str)}
    question, answer = (next((texts[name] for name in names if name in texts), None) for names in (QUESTIONS, _ANSWERS))
    if question is None or answer is None:
        return None
    usual = DEFAULT_COLUMNS["alpaca"] | (columns_of(dataset) if dataset.format == "alpaca" else {})
    settings = [] if dataset.format == "alpaca" else ["the dataset's format to alpaca"]
    settings += [
        f"columns.{part} to '{name}'"
        for part, name in (("prompt", question), ("response", answer))
        if name != usual[part]
    ]
    return f"the row has '{question}' and '{answer}', as format alpaca: set {_and(settings)}"


def _plain_text(row: Mapping[str, Any]) -> str | None:
    if not isinstance(row.get("text"), str):
        return None
    return (
        "the row is one 'text', and supervised fine-tuning needs question and answer apart: write them as "
        "'instruction' and 'output', without a chat template"
    )


def _settings(dataset: Dataset, found: Messages) -> str:
    tags = dataset.tags if dataset.format == "sharegpt" else {}
    own_tags = any(tags.get(tag) not in (None, usual) for tag, usual in _USUAL_TAGS.items())
    # Only sharegpt has tags. They read a mixture of both formats' keys; and what the job says of roles is kept.
    wanted = found.format if found.format and not own_tags else "sharegpt"
    settings = [] if wanted == dataset.format else [f"the dataset's format to {wanted}"]
    if found.column != (named_columns(dataset).get("messages") or DEFAULT_COLUMNS[wanted]["messages"]):
        settings.append(f"columns.messages to '{found.column}'")
    for tag, key, usual in zip(("role", "content"), (found.role, found.content), _KEYS["sharegpt"], strict=True):
        if wanted == "sharegpt" and key != (tags.get(f"{tag}_tag") or usual):
            settings.append(f"tags.{tag} to '{key}'")
    return _and(settings)


def _and(settings: list[str]) -> str:
    return " and ".join([", ".join(settings[:-1]), settings[-1]] if len(settings) > 1 else settings)
