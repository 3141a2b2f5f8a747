"""The figures of a training, a record for each step that was logged, from the logs that its attempts leave."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from qwensft.client.errors import MissingPackageError

LOGS: Final = "train/*/trainer_log.jsonl"
COLUMNS: Final = {
    "current_steps": "step",
    "epoch": "epoch",
    "loss": "loss",
    "lr": "lr",
    "eval_loss": "eval_loss",
}
"""LLaMA-Factory's name of a figure, and ours."""


def records(logs: Mapping[str, bytes]) -> list[dict[str, Any]]:
    """Return the figures by step, each with the attempt that it is from.

    An attempt's log begins with what the attempts before it had logged up to the checkpoint that it goes on from. Of a
    step that was trained twice the later attempt's figures count.

    Args:
        logs: Content of each trainer_log.jsonl by its path in the run's directory, train/<attempt>/trainer_log.jsonl.
    """
    steps: dict[int, dict[str, Any]] = {}
    for path in sorted(logs, key=_attempt):
        new: dict[int, dict[str, Any]] = {}
        for line in logs[path].decode(errors="replace").splitlines():
            record = _record(line)
            if record is not None:
                new.setdefault(record["step"], {}).update(record)
        for step, record in new.items():
            before = steps.get(step)
            copied = before is not None and {**before, "attempt": None} == {**record, "attempt": None}
            if not copied:
                steps[step] = {**record, "attempt": _attempt(path)[0]}
    return [steps[step] for step in sorted(steps)]


def frame(found: list[dict[str, Any]]) -> Any:
    """Return records as a DataFrame, with all columns whatever was logged.

    Raises:
        MissingPackageError: pandas is not installed.
    """
    try:
        import pandas  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise MissingPackageError("metrics() returns a DataFrame: pip install 'qwensft[dataframe]'") from error
    return pandas.DataFrame(found, columns=[*COLUMNS.values(), "attempt"])


def _attempt(path: str) -> tuple[int, ...]:
    """3.2, where a queue took attempt 3 away and gave it back, comes after 3."""
    return tuple(int(number) for number in path.split("/")[-2].split("."))


def _record(line: str) -> dict[str, Any] | None:
    try:
        values = json.loads(line)
        return {ours: values[name] for name, ours in COLUMNS.items() if values.get(name) is not None} | {
            "step": int(values["current_steps"])
        }
    except (ValueError, KeyError, TypeError, AttributeError):
        return None  # the last line of a killed process may be cut off
