"""Figures of the training for people: in every worker, since counting takes all ranks; written by global rank 0."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from qwensft_trainer.training import progress, startup
from qwensft_trainer.training.startup import Marks
from qwensft_trainer.training.tokens import TokenCount

_WRITE_EVERY_SECONDS = 1.0


class FiguresCallback(TrainerCallback):  # type: ignore[misc]  # transformers carries no types here
    """`path` is the progress file, which the entrypoint beside this process serves and reports.

    Comes after the callbacks that decide whether a step is followed by a checkpoint, which holds the tokens seen.
    """

    def __init__(self, path: Path, tokens: TokenCount, marks: Marks) -> None:
        self._path = path
        self._tokens = tokens
        self._marks = marks
        self._earlier = 0  # tokens of the attempts that this one goes on from
        self._tracker: progress.Tracker | None = None
        self._began = 0
        self._written = 0.0

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Start counting; after a resume, from the checkpoint's step and losses."""
        self._marks.mark(startup.BEGAN)
        self._earlier, self._began = int(state.num_input_tokens_seen), state.global_step
        if not state.is_world_process_zero:
            return
        self._tracker = progress.Tracker(
            step=state.global_step,
            total_steps=state.max_steps,
            now=time.monotonic(),
            wall=time.time(),
            device=torch.cuda.get_device_name(args.device) if args.device.type == "cuda" else None,
        )
        self._tracker.restore_losses(state.log_history)
        self._write()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Count the step; and the tokens where log or checkpoint wait for the device anyway, and after the first."""
        if self._tracker is not None:
            self._tracker.step_done(step=state.global_step, epoch=state.epoch, now=time.monotonic(), wall=time.time())
        if control.should_log or control.should_save or state.global_step == self._began + 1:
            self._count(args, state)
        if not control.should_log:  # else on_log follows at once and writes the step with its loss
            self._write_sometimes()

    def on_epoch_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Count the tokens for what is logged or saved once an epoch."""
        if control.should_log or control.should_save:
            self._count(args, state)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        """Take the losses over."""
        if self._tracker is not None and logs:
            before = self._tracker.progress
            after = self._tracker.logged(logs)
            if before.loss is None or after.non_finite_loss != before.non_finite_loss:
                self._write()
            else:
                self._write_sometimes()

    def on_evaluate(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Leave the evaluation's loss at once: the last evaluation comes after the end of training."""
        self._write()

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Leave the final numbers, whatever the time since the last writing; the tokens are for the final state."""
        self._count(args, state)
        self._write()

    def _count(self, args: Any, state: Any) -> None:
        tokens, places = self._tokens.total(args.device)
        if args.include_num_input_tokens_seen == "no":  # LLaMA-Factory's log and the checkpoints tell it, too
            state.num_input_tokens_seen = self._earlier + tokens
        if self._tracker is not None:
            self._tracker.tokens_counted(tokens=tokens, places=places, now=time.monotonic())

    def _write_sometimes(self) -> None:
        if time.monotonic() - self._written >= _WRITE_EVERY_SECONDS:
            self._write()

    def _write(self) -> None:
        if self._tracker is not None:
            progress.write(self._path, self._tracker.progress)
            self._written = time.monotonic()
