"""The losses of a training over its steps, those of earlier attempts that count included. Pure."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard

_LARGEST_LOSS = 3.5e38  # of float32, in which losses are computed
_LARGEST_STEP = 2**53


@dataclass(frozen=True)
class Point:
    """A loss that was logged at a step; NaN and infinities are values, too."""

    step: int
    value: float

    @property
    def finite(self) -> bool:
        """Whether it is a number that a loss can be."""
        return math.isfinite(self.value) and abs(self.value) <= _LARGEST_LOSS


@dataclass(frozen=True)
class Losses:
    """By step, in order, one for each step that was logged."""

    training: tuple[Point, ...] = ()
    evaluation: tuple[Point, ...] = ()

    @property
    def not_finite(self) -> int:
        """How many of both are NaN or infinite."""
        return sum(not point.finite for point in (*self.training, *self.evaluation))


def losses(log: str, history: Iterable[Any]) -> Losses:
    """Losses out of the two records that a training keeps; what is no record in them is passed over.

    Args:
        log: trainer_log.jsonl of the attempt with the result. It begins with what the attempts before had logged up to
            the checkpoint that was gone on from.
        history: log_history of the trainer's state beside the result. It ends where the best checkpoint was saved if
            that is the result; but the log may lack the last lines of a process that was killed.
    """
    found: dict[str, dict[int, float]] = {"loss": {}, "eval_loss": {}}
    for place, entries in (("current_steps", _lines(log)), ("step", history)):
        for entry in entries:
            step = entry.get(place) if isinstance(entry, Mapping) else None
            for name, values in found.items():
                if _is_step(step) and isinstance(value := entry.get(name), float | int):
                    values[step] = float(value)
    training, evaluation = (
        tuple(Point(step, values[step]) for step in sorted(values)) for values in (found["loss"], found["eval_loss"])
    )
    return Losses(training, evaluation)


def _lines(log: str) -> Iterator[Any]:
    for line in log.splitlines():
        try:
            yield json.loads(line)
        except (ValueError, RecursionError):  # the last line of a killed process may be cut off
            continue


def _is_step(value: Any) -> TypeGuard[int]:
    return type(value) is int and 0 <= value <= _LARGEST_STEP
