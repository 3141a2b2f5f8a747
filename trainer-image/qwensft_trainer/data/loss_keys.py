"""Keys that say whether an answer is learned: what each means, and which wishes cannot be met.

Training learns an answer or leaves it out; there are no weights between. ADR 0089 says which spellings are known.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from qwensft_trainer.data.row_fields import ELSE, RowProblem, kind

_FLAGS = ("loss", "train", "training", "trainable", "learn", "compute_loss", "loss_mask")
_WEIGHTS = ("weight", "loss_weight", "loss_scale")
_ROW_WEIGHTS = (*_WEIGHTS, "sample_weight")
_MASKED = "masked"
# `mask: true` leaves an answer out for some tools and learns it for others.
_AMBIGUOUS = "mask"
_PARTS = ("train_detail", "training_detail")
_ROW_KEYS = frozenset((*_FLAGS, *_ROW_WEIGHTS, "weights"))

MESSAGE_KEYS = frozenset((*_FLAGS, *_WEIGHTS, _MASKED, _AMBIGUOUS, *_PARTS))
"""Keys of a message that `learned` reads."""


def learned(message: Mapping[str, Any], *, answer: bool) -> bool | None:
    """Whether a message asks to be learned (True) or to be left out (False); None where it says nothing.

    `answer` tells whether the model says it: nothing else is ever learned, so asking for that is refused, but for a
    weight of 1, which some tools write everywhere. Raises RowProblem.
    """
    wishes: dict[str, bool] = {}
    for key in MESSAGE_KEYS & message.keys():
        value = message[key]
        if value is None or (key in _PARTS and not value):
            continue
        if key == _AMBIGUOUS:
            raise RowProblem(
                f"'mask' means either to learn or to leave out; write 'train': true or false instead; or {ELSE}"
            )
        if key in _PARTS:
            raise RowProblem(
                f"'{key}' marks parts of an answer, and only whole answers can be left out; use 'train', or {ELSE}"
            )
        wishes[key] = _wish(key, value) != (key == _MASKED)
    if not answer:
        asked = sorted(key for key, wish in wishes.items() if wish and key not in _WEIGHTS and key != _MASKED)
        if asked:
            raise RowProblem(
                f"'{asked[0]}' asks to learn it, but only the model's own messages are learned; remove it, or {ELSE}"
            )
        return None
    if len(set(wishes.values())) > 1:
        raise RowProblem(
            f"{' and '.join(repr(key) for key in sorted(wishes))} contradict each other; leave one of them"
        )
    return next(iter(wishes.values()), None)


def check_row(row: Mapping[str, Any], read: Collection[str]) -> None:
    """Refuse wishes about a whole row, in columns that are not `read` as something else. Raises RowProblem.

    A row counts as often as it occurs, and an answer is left out in its own message.
    """
    for key in sorted(_ROW_KEYS & row.keys()):
        value = row[key]
        if value is None or key in read:
            continue
        if isinstance(value, list):
            if any(entry not in (None, 1) for entry in value):  # True is 1
                raise RowProblem(
                    f"'{key}' is a list for the row's messages; write 'train': false into those to leave out"
                )
        elif key in _ROW_WEIGHTS:
            if (weight := _number(value)) == 0:
                raise RowProblem(f"'{key}' is 0: remove the row; or, if it means something else, {ELSE}")
            if weight not in (None, 1):
                raise RowProblem(
                    f"'{key}' gives the row a weight, and rows have none: repeat it, or put rows of one weight into "
                    f"a dataset with spec.datasets[].weight; or, if it means something else, {ELSE}"
                )
        elif value is False or (value == 0 and isinstance(value, int)):  # a loss of 0.0 is a figure
            raise RowProblem(
                f"'{key}' is {'false' if value is False else 0}: remove the row; or, if it means something else, {ELSE}"
            )


def _wish(key: str, value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if not isinstance(value, int | float):
        raise RowProblem(f"'{key}' is {kind(value)}; expected true or false; or, if it means something else, {ELSE}")
    if value not in (0, 1):
        raise RowProblem(
            f"'{key}' is neither 0 nor 1: an answer is learned or left out, and no weight lies between; or, if it "
            f"means something else, {ELSE}"
        )
    return value == 1


def _number(value: Any) -> float | None:
    """A number, also one written as text as in a cell of a CSV file; None for anything else."""
    try:
        return float(value) if isinstance(value, int | float | str) else None
    except ValueError:
        return None
