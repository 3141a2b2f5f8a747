"""The progress of training as numbers: written by the worker of global rank 0, read by the entrypoint beside it.

The file is replaced atomically at most once a second. No torch here: the metrics server and the tests import it.
LLaMA-Factory's own log, trainer_log.jsonl, is only handed on from one attempt to the next.
"""

from __future__ import annotations

import json
import math
from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from qwensft_trainer.base import files

TRAINER_LOG = "trainer_log.jsonl"
_WINDOW = 50  # steps that the speed is averaged over: long enough to be calm, short enough to follow a change


@dataclass(frozen=True)
class Attempt:
    """What this attempt began with and makes of its accelerators. Timestamps are Unix seconds, shares from 0 to 1."""

    started_timestamp_seconds: float | None = None  # of its pod's entrypoint
    training_timestamp_seconds: float | None = None  # when its first step began
    from_step: int | None = None  # steps that were done before it
    padding_share: float | None = None  # of what it has computed
    model_flops_utilization: float | None = None
    # How long each phase of the start took; see startup.py.
    checks_seconds: float | None = None
    gang_seconds: float | None = None
    imports_seconds: float | None = None
    rendezvous_seconds: float | None = None
    data_seconds: float | None = None
    model_seconds: float | None = None
    setup_seconds: float | None = None


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
    device: str | None = None  # name of the accelerator, None on CPUs
    attempt: Attempt = Attempt()

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
        } | {f"attempt{_camel(name)}": value for name, value in asdict(self.attempt).items()}


def write(path: Path, progress: Progress) -> None:
    """Replace the progress file."""
    files.write_json(path, asdict(progress))


def read(path: Path) -> Progress | None:
    """The last progress written, None before the first."""
    values = files.read_json_object(path)
    if values is None:
        return None
    attempt = Attempt(**_known(Attempt, values.pop("attempt", {})))
    return Progress(**_known(Progress, values), attempt=attempt)


def _known(kind: type[Progress | Attempt], values: dict[str, Any]) -> dict[str, Any]:
    names = {field.name for field in fields(kind)}
    return {key: value for key, value in values.items() if key in names}


def _camel(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("_"))


def continue_log(checkpoint: Path, output: Path) -> None:
    """Begin trainer_log.jsonl in `output` with what the attempt of `checkpoint` had logged up to there."""
    step = int(checkpoint.name.rpartition("-")[2])
    try:
        lines = files.read_text(checkpoint.parent / TRAINER_LOG).splitlines()
    except (FileNotFoundError, IsADirectoryError, ValueError):
        return  # that attempt has left no log; its checkpoint does not depend on it
    kept = [line for line in lines if _logged_step(line) <= step]
    files.write_text(output / TRAINER_LOG, "".join(f"{line}\n" for line in kept))


def _logged_step(line: str) -> float:
    try:
        return float(json.loads(line)["current_steps"])
    except (ValueError, KeyError, TypeError):
        return math.inf  # the last line of a killed process may be cut off


@dataclass(frozen=True)
class _Mark:
    """Seconds of a clock that only goes forward, and what was done by then: steps, or tokens."""

    now: float
    step: int
    tokens: int = 0


class Tracker:
    """Turns the trainer's events into Progress.

    Speed and remaining time count this process's steps only, so both are right after a resume, when the step counter
    starts high and the clock starts at zero. The first of these steps compiles and warms up what the others use: it
    counts only until there is another one. `now` are seconds of a monotonic clock, `wall` is the Unix time.
    """

    def __init__(self, *, step: int, total_steps: int, now: float, wall: float, device: str | None = None) -> None:
        self.progress = Progress(
            step=step,
            total_steps=total_steps,
            last_update_timestamp_seconds=wall,
            device=device,
            attempt=Attempt(training_timestamp_seconds=wall, from_step=step),
        )
        self._steps = deque([_Mark(now, step)])
        self._tokens = deque([_Mark(now, step)])

    def restore_losses(self, log_history: list[dict[str, Any]]) -> None:
        """After a resume the checkpoint's history tells the first and the last losses of the run."""
        losses = [value for entry in log_history if (value := _finite(entry.get("loss"))) is not None]
        if losses:
            self.progress = replace(self.progress, initial_loss=losses[0], loss=losses[-1])
        for entry in log_history:
            if (value := _finite(entry.get("eval_loss"))) is not None:
                self._evaluated(value, entry.get("step", 0))

    def step_done(self, *, step: int, epoch: float | None, now: float, wall: float) -> Progress:
        """An optimizer step has ended."""
        speed = self._since(self._steps, _Mark(now, step))
        remaining = max(0, (self.progress.total_steps or step) - step)
        self.progress = replace(
            self.progress,
            step=step,
            epoch=epoch,
            last_update_timestamp_seconds=wall,
            estimated_remaining_seconds=remaining * speed[0] / speed[1] if speed else None,
        )
        return self.progress

    def tokens_counted(self, *, tokens: int, places: int, now: float) -> Progress:
        """`tokens` are those that all processes have trained on in this attempt, `places` the same with padding."""
        mark = _Mark(now, self.progress.step, tokens)
        speed = self._since(self._tokens, mark)
        self.progress = replace(
            self.progress,
            tokens_per_second=speed[2] / speed[0] if speed and speed[2] else self.progress.tokens_per_second,
            attempt=replace(self.progress.attempt, padding_share=1 - tokens / places if places else None),
        )
        return self.progress

    def _since(self, marks: deque[_Mark], last: _Mark) -> tuple[float, int, int] | None:
        """Seconds, steps and tokens from the first mark that counts to this one, which joins them."""
        began = self.progress.attempt.from_step or 0
        marks.append(last)
        if len(marks) > 2 and marks[0].step == began and marks[1].step == began + 1:
            marks.popleft()  # with it goes the first step
        while len(marks) > 2 and marks[1].step <= last.step - _WINDOW:
            marks.popleft()
        first = marks[0]
        seconds, steps = last.now - first.now, last.step - first.step
        return (seconds, steps, last.tokens - first.tokens) if seconds > 0 and steps > 0 else None

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


def metrics_of(state: Mapping[str, Any]) -> dict[str, float | int | None]:
    """The same numbers out of a checkpoint, for a run that finished in an earlier attempt."""
    tracker = Tracker(step=state["global_step"], total_steps=state["max_steps"], now=0.0, wall=0.0)
    tracker.restore_losses(state.get("log_history", []))
    ended = replace(tracker.progress, epoch=state.get("epoch"), attempt=Attempt())
    return ended.metrics()


def _finite(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None
