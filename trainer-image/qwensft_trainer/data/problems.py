"""The bad rows of all datasets: each kind of problem once, with how many rows have it and where the first are."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from qwensft_trainer.base.log import log
from qwensft_trainer.contract.errors import PermanentError, invalid_dataset
from qwensft_trainer.contract.termination import shorten

SHOWN_KINDS = 5
COUNTED_KINDS = 100
SHOWN_PLACES = 3
PROBLEM_CHARACTERS = 500

# What differs between two problems of one kind: what is quoted or in brackets, and numbers.
_VARYING = re.compile(r"'[^']*'|\"[^\"]*\"|\(.*?\)|\d+")


@dataclass
class _Kind:
    text: str
    rows: int = 0
    places: list[tuple[str, str]] = field(default_factory=list)

    def sentence(self) -> str:
        shown = "; ".join(
            place if index and file == self.places[index - 1][0] else f"{file}, {place}"
            for index, (file, place) in enumerate(self.places)
        )
        more = self.rows - len(self.places)
        return f"{shown}{f'; and {more} more' if more else ''}: {self.text}"


class Problems:
    """Counts bad rows by kind, in the order in which the kinds appear."""

    def __init__(self) -> None:
        self.count = 0
        self._kinds: dict[str, _Kind] = {}

    def add(self, file: str, place: str, problem: str) -> None:
        """Count a row, and log it if it is the first of its kind. `file` names dataset and file, `place` the row."""
        self.count += 1
        text = shorten(problem, PROBLEM_CHARACTERS)  # it may quote a whole row, also text that cannot be printed
        key = _VARYING.sub("", text)
        if key not in self._kinds:
            if len(self._kinds) == COUNTED_KINDS:
                return
            log(f"invalid: {file}, {place}: {text}")
        kind = self._kinds.setdefault(key, _Kind(text))
        kind.rows += 1
        if len(kind.places) < SHOWN_PLACES:
            kind.places.append((file, place))

    def error(self) -> PermanentError:
        """Say what to mend: the first kinds, and how many rows are of others."""
        kinds = list(self._kinds.values())
        others = self.count - sum(kind.rows for kind in kinds[:SHOWN_KINDS])
        head = "1 row is invalid: " if self.count == 1 else f"{self.count} rows are invalid: "
        more = f"; and {others} rows with other problems" if others else ""
        return invalid_dataset(head + "; ".join(kind.sentence() for kind in kinds[:SHOWN_KINDS]) + more)
