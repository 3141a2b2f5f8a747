"""Rows of preference data (DPO, KTO, reward models), which supervised fine-tuning must not take for its own.

A pair of a chosen and a rejected answer is refused where the row says no other answer; one that stands beside a whole
conversation is merely not read. A row that is marked as bad is always refused. ADR 0089 says why.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from qwensft_trainer.contract.config import Dataset
from qwensft_trainer.data.layout import (
    ASKING,
    DEFAULT_COLUMNS,
    QUESTIONS,
    ROLE_KEYS,
    columns_of,
    conversations,
    keys_of,
    listed,
    named_columns,
)
from qwensft_trainer.data.row_fields import ELSE, RowProblem

_PAIRS = (
    ("chosen", "rejected"),
    ("accepted", "rejected"),
    ("chosen_response", "rejected_response"),
    ("response_chosen", "response_rejected"),
    ("chosen_messages", "rejected_messages"),
    ("preferred_output", "non_preferred_output"),
)
LABELS = ("label", "kto_tag", "desirable")
"""Columns in which false marks a bad answer, as in KTO's data."""

PAIRED = frozenset(name for pair in _PAIRS for name in pair)
"""Columns that hold the one or the other answer of a pair."""


def refuse_bad(row: Mapping[str, Any], read: Collection[str]) -> None:
    """Refuse a row that is labelled as bad, in a column that is not `read` as something else. Raises RowProblem."""
    for name in LABELS:
        value = row.get(name)
        if name not in read and (value is False or (isinstance(value, str) and value.strip().lower() == "false")):
            raise RowProblem(
                f"'{name}' is false, which marks an answer to be avoided (preference data, KTO), and every row is "
                f"learned: remove such rows; or, if it means something else, {ELSE}"
            )


def pair_instead(dataset: Dataset, row: Mapping[str, Any]) -> str | None:
    """What to set or to write for a row whose answer is missing because it is a preference pair; None for others."""
    columns = columns_of(dataset)
    pair = next((pair for pair in _PAIRS if all(row.get(name) for name in pair)), None)
    if pair is None or pair[0] in columns.values() or not _without_answer(dataset, columns, row):
        return None
    chosen, rejected = pair
    return (
        f"it is a preference pair ('{chosen}', '{rejected}'), and supervised fine-tuning learns one answer: to learn "
        f"'{chosen}', {_fix(dataset, row, chosen, rejected)}"
    )


def _without_answer(dataset: Dataset, columns: Mapping[str, str], row: Mapping[str, Any]) -> bool:
    if dataset.format == "alpaca":
        return row.get(columns["response"]) is None
    messages = listed(row.get(columns["messages"]))
    if not messages:
        return True
    last = messages[-1]
    return isinstance(last, dict) and any(last.get(key) in ASKING for key in (keys_of(dataset)[0], *ROLE_KEYS))


def _fix(dataset: Dataset, row: Mapping[str, Any], chosen: str, rejected: str) -> str:
    found = {one.column: one for one in conversations(row)}
    if chosen in found and len(found[chosen].messages) > 1:
        return "set " + _format(dataset, found[chosen].format) + f"columns.messages to '{chosen}'"
    question = next((one for name, one in found.items() if name not in (chosen, rejected)), None)
    if question is not None:
        usual = question.column == DEFAULT_COLUMNS[question.format or "sharegpt"]["messages"]
        rename = "" if usual else f", and set columns.messages to '{question.column}'"
        form = _format(dataset, question.format).removesuffix(", ")
        form = f", and set {form}" if form else ""
        return f"append it to '{question.column}' as its last message{rename}{form}"
    prompt = next((name for name in QUESTIONS if isinstance(row.get(name), str)), None)
    if isinstance(row[chosen], str) and prompt is not None:
        known = (named_columns(dataset).get("prompt"), DEFAULT_COLUMNS["alpaca"]["prompt"])
        rename = "" if prompt in known else f"columns.prompt to '{prompt}', "
        return "set " + _format(dataset, "alpaca") + rename + f"columns.response to '{chosen}'"
    return "write question and chosen answer as the messages of one conversation"


def _format(dataset: Dataset, wanted: str | None) -> str:
    return "" if wanted in (None, dataset.format) else f"the dataset's format to {wanted}, "
