"""The losses of a run, out of LLaMA-Factory's trainer_log.jsonl. Pure."""

from __future__ import annotations

import json
from typing import NamedTuple


class Losses(NamedTuple):
    """Pairs of step and loss, in the order of the steps."""

    training: list[tuple[int, float]]
    evaluation: list[tuple[int, float]]


def read(log: str) -> Losses:
    """Return what a log says; of a step that was trained twice the later one, and nothing of a line that is broken."""
    training: dict[int, float] = {}
    evaluation: dict[int, float] = {}
    for line in log.splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue  # the last line of a run that goes on may be half there
        step = entry.get("current_steps") if isinstance(entry, dict) else None
        if not isinstance(step, int):
            continue
        for values, key in ((training, "loss"), (evaluation, "eval_loss")):
            if isinstance(entry.get(key), int | float):
                values[step] = float(entry[key])
    return Losses(sorted(training.items()), sorted(evaluation.items()))
