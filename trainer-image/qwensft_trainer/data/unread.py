"""What rows hold and nothing reads: columns, keys of messages and of their parts, counted and told in one warning.

What is read follows from the format and from the job's columns and tags alone. What an unread name may mean is in
hints.py; ADR 0089 says why.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from qwensft_trainer.contract.config import Dataset
from qwensft_trainer.data import hints, loss_keys
from qwensft_trainer.data.layout import DEFAULT_COLUMNS, NEEDED, columns_of, keys_of, listed, named_columns
from qwensft_trainer.data.row_fields import short_name
from qwensft_trainer.model import families

# "tool_calls" of sharegpt messages are refused, which is a word, too.
_KEYS = {
    "sharegpt": frozenset((*hints.THOUGHTS, "tool_calls")) | loss_keys.MESSAGE_KEYS,
    "openai": frozenset((*hints.THOUGHTS, *hints.CALLS, "tool_call_id")) | loss_keys.MESSAGE_KEYS,
}
_PART_KEYS = frozenset(("type", "text", "value", "image", "image_url", "video", "video_url", "thinking", "reasoning"))
_TOOL_ROLES = ("tool", "function", "observation")  # their messages may carry the tool's name

_MOST_NAMES = 1000
_SHOWN_NAMES = 30


class Unread:
    """Counts over the rows of one dataset, as they stand in its files. Memory is bounded by _MOST_NAMES names."""

    def __init__(self, dataset: Dataset, template: str) -> None:
        self._dataset = dataset
        self._sees = template in families.VISION
        self._columns = columns_of(dataset)
        self._read = set(self._columns.values())
        self._content = ""
        self._keys: frozenset[str] = frozenset()
        if dataset.format == "alpaca":
            self._read.update(hints.THOUGHTS)
        else:
            role, self._content = keys_of(dataset)
            self._keys = _KEYS[dataset.format] | {role, self._content}
        self._rows = 0
        self._unknown = False  # whether there are rows of which nothing is known
        self._present = Counter(dict.fromkeys(self._read, 0))  # columns, also empty ones
        self._filled = Counter(dict.fromkeys(self._read, 0))
        self._message_keys: Counter[str] = Counter()
        self._part_keys: Counter[str] = Counter()

    def add(self, row: Any) -> None:
        """Look at one row, valid or not; None for one that cannot be read."""
        if not isinstance(row, dict):
            self._unknown = True
            return
        self._rows += 1
        _count(self._present, row)
        _count(self._filled, (name for name, value in row.items() if not _empty(value)))
        if self._keys and (messages := listed(row.get(self._columns["messages"]))):
            objects = [message for message in messages if isinstance(message, dict)]
            _count(self._message_keys, {key for message in objects for key in self._unread_keys(message)})
            _count(self._part_keys, {key for message in objects for key in _unread_part_keys(message, self._content)})

    def join(self, later: Unread) -> None:
        """Add what was counted of later rows."""
        self._rows += later._rows
        self._unknown |= later._unknown
        for mine, theirs in (
            (self._present, later._present),
            (self._filled, later._filled),
            (self._message_keys, later._message_keys),
            (self._part_keys, later._part_keys),
        ):
            for name, count in theirs.items():
                if name in mine or len(mine) < _MOST_NAMES:
                    mine[name] += count

    def missing(self) -> str | None:
        """What to correct where the job names columns that no row has; None where it names none."""
        named = named_columns(self._dataset)
        wrong = {part: name for part, name in named.items() if part not in NEEDED and not self._present[name]}
        if not wrong or not self._rows or self._unknown:
            return None
        there = [name for name, count in self._present.items() if count]
        free = [name for name in there if name not in self._read]
        meant = {part: hints.replacement(part, name, free) for part, name in wrong.items()}
        settings = " and ".join(f"columns.{part} to '{short_name(name)}'" for part, name in meant.items() if name)
        return (
            f"dataset {self._dataset.name}: "
            + " and ".join(f"columns.{part} is '{name}'" for part, name in wrong.items())
            + f", which no row has; rows have {_names(sorted(there))}. "
            + (f"Did you mean to set {settings}?" if settings else "Correct the name, or remove the field.")
        )

    def warning(self) -> str | None:
        """The sentence that lists what nothing reads, None where everything is read."""
        parts = DEFAULT_COLUMNS[self._dataset.format]
        free = {part: name for part in parts if not self._filled[name := self._columns.get(part, "")]}
        found = [
            ("column", name, count, hints.of_column(name, free, sees=self._sees))
            for name, count in self._filled.items()
            if name not in self._read
        ]
        found += [("message key", key, count, hints.of_key(key)) for key, count in self._message_keys.items()]
        found += [("key of a part", key, count, hints.of_part_key(key)) for key, count in self._part_keys.items()]
        usual = sorted({name for _, name, _, hint in found if not hint and name.lower() in hints.USUAL})
        told = sorted((one for one in found if one[1] not in usual), key=lambda one: (not one[3], -one[2]))
        texts = [
            f"{what} '{short_name(name)}' ({count} of {self._rows} rows{f': {hint}' if hint else ''})"
            for what, name, count, hint in told[:_SHOWN_NAMES]
        ]
        if len(told) > _SHOWN_NAMES:
            texts.append(f"{len(told) - _SHOWN_NAMES} more")
        if usual:
            texts.append(f"{'nor ' if told else ''}{_names(usual)}")
        return f"dataset {self._dataset.name}: nothing reads {', '.join(texts)}" if texts else None

    @property
    def is_usual(self) -> bool:
        """Whether all that nothing reads has names that tell of nothing to train, such as id and source."""
        names = {*(name for name in self._filled if name not in self._read), *self._message_keys, *self._part_keys}
        return all(name.lower() in hints.USUAL for name in names)

    def media_hint(self, row: Mapping[str, Any]) -> str:
        """What follows a complaint that a row lacks images or videos, "" where no other column may hold them."""
        for part in ("images", "videos"):
            for name in hints.ALIASES[part]:
                if (
                    name not in self._read
                    and not _empty(row.get(name))
                    and _empty(row.get(self._columns.get(part, "")))
                ):
                    return f"; the row has '{name}': set columns.{part} to '{name}'"
        return ""

    def _unread_keys(self, message: Mapping[str, Any]) -> Iterator[str]:
        if message.keys() <= self._keys:
            return
        for key, value in message.items():
            of_a_tool = key == "name" and any(message.get(role) in _TOOL_ROLES for role in ("role", "from"))
            if key not in self._keys and not of_a_tool and not _empty(value):
                yield str(key)


def _unread_part_keys(message: Mapping[str, Any], content: str) -> Iterator[str]:
    parts = message.get(content)
    for part in parts if isinstance(parts, list) else ():
        if isinstance(part, dict) and not part.keys() <= _PART_KEYS:
            yield from (str(key) for key, value in part.items() if key not in _PART_KEYS and not _empty(value))


def _count(counter: Counter[str], names: Iterable[Any]) -> None:
    for name in names:
        if name in counter or len(counter) < _MOST_NAMES:
            counter[str(name)] += 1


def _empty(value: Any) -> bool:
    return value is None or (isinstance(value, str | list | dict | bytes) and not value)


def _names(names: Iterable[str]) -> str:
    shown = [short_name(name) for name in names]
    more = [f"{len(shown) - _SHOWN_NAMES} more"] if len(shown) > _SHOWN_NAMES else []
    return ", ".join(shown[:_SHOWN_NAMES] + more)
