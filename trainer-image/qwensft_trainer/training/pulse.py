"""Signs of life for the stall watchdog, in the worker of local rank 0: after steps, evaluations and checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from qwensft_trainer.training.stalls import Pulse


class PulseCallback(TrainerCallback):  # type: ignore[misc]  # transformers carries no types here
    """The last of the callbacks, since the others decide whether a step is followed by a checkpoint."""

    def __init__(self, scratch: Path) -> None:
        self._pulse = Pulse(scratch)
        self._ended = False

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """The first step is waited for from here on."""
        self._mark(state, control)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """A step is done; a checkpoint may follow, and takes the time that it takes."""
        self._mark(state, control)

    def on_prediction_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """A batch of an evaluation is done."""
        self._pulse.mark(state.global_step, waits=not self._ended)

    def on_evaluate(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """An evaluation is done, and may be followed by a checkpoint as well."""
        self._mark(state, control)

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """A checkpoint is on the volume."""
        self._pulse.mark(state.global_step)

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """What follows has no steps: saving the result, plots, a last evaluation."""
        self._ended = True
        self._mark(state, control)

    def _mark(self, state: Any, control: Any) -> None:
        self._pulse.mark(state.global_step, waits=not (self._ended or control.should_save))
