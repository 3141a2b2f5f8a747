"""The termination message: how a finished stage tells its outcome to the operator, in at most 4096 bytes of JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from qwensft_trainer.base.log import log
from qwensft_trainer.base.redaction import clean, clean_all

MAX_BYTES = 4096  # what the kubelet keeps
MAX_MESSAGE_CHARACTERS = 1500

Outcome = Literal["Succeeded", "Failed", "Interrupted"]


@dataclass(frozen=True)
class Report:
    """Sizes are bytes, paths are relative to the volume's root, metrics are JSON values. Texts are cleaned of secrets.

    Numbers that are not finite and values that are not known (None) are left out of the metrics.
    """

    outcome: Outcome
    stage: str
    attempt: int
    exit_code: int
    rank: int | None = None
    reason: str | None = None
    message: str = ""
    metrics: Mapping[str, Any] = field(default_factory=dict)
    outputs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def to_json(self) -> str:
        """Strict JSON of at most MAX_BYTES bytes: the message is shortened first, in its middle, then warnings go."""
        metrics = _known(clean_all(dict(self.metrics)))
        message = clean(self.message)
        fields: dict[str, Any] = {
            "outcome": self.outcome,
            "stage": self.stage,
            "attempt": self.attempt,
            "rank": self.rank,
            "reason": self.reason,
            "exitCode": self.exit_code,
            "metrics": metrics,
            "outputs": clean_all(dict(self.outputs)),
        }
        fields = {key: value for key, value in fields.items() if value not in (None, {})}
        room = MAX_MESSAGE_CHARACTERS
        while True:
            text = json.dumps(fields | {"message": shorten(message, room)}, allow_nan=False, ensure_ascii=False)
            if len(text.encode()) <= MAX_BYTES:
                return text
            if room == 0 and metrics.pop("warnings", None) is None:
                fields.pop("outputs", None)
                fields.pop("metrics", None)
            room = room * 3 // 4


def _known(values: Mapping[str, Any]) -> dict[str, Any]:
    nested = {key: _known(value) if isinstance(value, Mapping) else value for key, value in values.items()}
    return {
        key: value
        for key, value in nested.items()
        if value is not None and not (isinstance(value, float) and not math.isfinite(value))
    }


def shorten(message: str, limit: int) -> str:
    """Cut the middle out: the beginning says what failed, the end how to mend it."""
    message = message.encode(errors="replace").decode()
    if len(message) <= limit:
        return message
    if limit < 8:
        return message[:limit]
    tail = (limit - 3) // 3
    return message[: limit - 3 - tail] + "..." + message[len(message) - tail :]


def write(path: Path, report: Report) -> None:
    """Write the message. A failure to do so is only logged: the exit code still tells the outcome."""
    try:
        path.write_text(report.to_json(), encoding="utf-8")
    except OSError as error:
        log(f"cannot write the termination message to {path}: {error}")
