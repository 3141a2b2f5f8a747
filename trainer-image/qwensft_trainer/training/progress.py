"""The progress of training as numbers: written by the worker of global rank 0, read by the entrypoint beside it.

The file is replaced atomically at most once a second. No torch here: the metrics server and the tests import it.
LLaMA-Factory's own log, trainer_log.jsonl, is only handed on from one attempt to the next.
"""

from __future__ import annotations

import json
import math
from collections import deque
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from qwensft_trainer.base import files

TRAINER_LOG = "trainer_log.jsonl"
_WINDOW = 50  # steps that the speed is averaged over: long enough to be calm, short enough to follow a change


@dataclass(frozen=True)
class Progress:
    """None means not known yet. Loss values are finite; a NaN or infinite one only sets non_finite_loss."""

    step: int = 0
    total_steps: int | None = None
    epoch: float | None = None
    loss: float | None = None
    initial_loss: float | None = None
    eval_loss: float | None = None
    best_eval_loss: float | None = None
    best_step: int | None = None
    learning_rate: float | None = None
    tokens_per_second: float | None = None
    estimated_remaining_seconds: float | None = None
    last_update_timestamp_seconds: float | None = None
    non_finite_loss: bool = False

    def metrics(self) -> dict[str, float | int | None]:
        """The part that belongs into the termination message, in its spelling."""
        return {
            "step": self.step,
            "totalSteps": self.total_steps,
            "epoch": self.epoch,
            "loss": self.loss,
            "initialLoss": self.initial_loss,
            "learningRate": self.learning_rate,
            "evalLoss": self.eval_loss,
            "bestEvalLoss": self.best_eval_loss,
            "bestStep": self.best_step,
            "tokensPerSecond": self.tokens_per_second,
        }


def write(path: Path, progress: Progress) -> None:
    """Replace the progress file."""
    files.write_json(path, asdict(progress))


def read(path: Path) -> Progress | None:
    """The last progress written, None before the first."""
    values = files.read_json_object(path)
    if values is None:
        return None
    known = {field.name for field in fields(Progress)}
    return Progress(**{key: value for key, value in values.items() if key in known})


def continue_log(checkpoint: Path, output: Path) -> None:
    """Begin trainer_log.jsonl in `output` with what the attempt of `checkpoint` had logged up to there."""
    step = int(checkpoint.name.rpartition("-")[2])
    try:
        lines = (checkpoint.parent / TRAINER_LOG).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return  # that attempt logged nothing; its checkpoint does not depend on it
    kept = [line for line in lines if _logged_step(line) <= step]
    files.write_text(output / TRAINER_LOG, "".join(f"{line}\n" for line in kept))


def _logged_step(line: str) -> float:
    try:
        return float(json.loads(line)["current_steps"])
    except (ValueError, KeyError, TypeError):
        return math.inf  # the last line of a killed process may be cut off


class Tracker:
    """Turns the trainer's events into Progress.

    Speed and ETA count this process's steps only, so both are right after a resume, when the step counter starts high
    and the clock starts at zero.
    """

    def __init__(self, *, step: int, total_steps: int, tokens: int, now: float) -> None:
        self.progress = Progress(step=step, total_steps=total_steps, last_update_timestamp_seconds=now)
        self._marks: deque[tuple[float, int, int]] = deque([(now, step, tokens)], maxlen=_WINDOW + 1)

    def restore_losses(self, log_history: list[dict[str, Any]]) -> None:
        """After a resume the checkpoint's history tells the first and the last losses of the run."""
        losses = [value for entry in log_history if (value := _finite(entry.get("loss"))) is not None]
        if losses:
            self.progress = replace(self.progress, initial_loss=losses[0], loss=losses[-1])
        for entry in log_history:
            if (value := _finite(entry.get("eval_loss"))) is not None:
                self._evaluated(value, entry.get("step", 0))

    def step_done(self, *, step: int, epoch: float | None, tokens: int, now: float) -> Progress:
        """`tokens` is the running total the trainer has counted (0 when it does not count)."""
        self._marks.append((now, step, tokens))
        then, first_step, first_tokens = self._marks[0]
        elapsed, steps = now - then, step - first_step
        remaining = max(0, (self.progress.total_steps or step) - step)
        self.progress = replace(
            self.progress,
            step=step,
            epoch=epoch,
            last_update_timestamp_seconds=now,
            tokens_per_second=(tokens - first_tokens) / elapsed if elapsed > 0 and tokens > first_tokens else None,
            estimated_remaining_seconds=remaining * elapsed / steps if steps > 0 else None,
        )
        return self.progress

    def logged(self, logs: dict[str, Any]) -> Progress:
        """Take loss, learning rate and evaluation loss out of one log entry of the trainer."""
        changes: dict[str, Any] = {}
        if "loss" in logs:
            loss = _finite(logs["loss"])
            changes["non_finite_loss"] = loss is None
            if loss is not None:
                changes["loss"] = loss
                if self.progress.initial_loss is None:
                    changes["initial_loss"] = loss
        if (rate := _finite(logs.get("learning_rate"))) is not None:
            changes["learning_rate"] = rate
        self.progress = replace(self.progress, **changes)
        if (value := _finite(logs.get("eval_loss"))) is not None:
            self._evaluated(value, self.progress.step)
        return self.progress

    def _evaluated(self, loss: float, step: int) -> None:
        """An evaluation is the best if no earlier one was as good."""
        best = self.progress.best_eval_loss
        self.progress = replace(self.progress, eval_loss=loss)
        if best is None or loss < best:
            self.progress = replace(self.progress, best_eval_loss=loss, best_step=step)


def _finite(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None
