"""Our hooks into transformers' Trainer, in every worker: progress, what earlier attempts have left, drain, PiSSA.

Any pod may be asked to stop. Its entrypoint leaves a file; here all ranks agree on it after a step, so that they save
one common checkpoint and stop at the same step. A rank that stopped alone would hang the others in a collective.
ADR 0012 says why.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from transformers import TrainerCallback

from qwensft_trainer.base.log import log
from qwensft_trainer.training import checkpoints, pissa, progress

_WRITE_EVERY_SECONDS = 1.0


class Drained(Exception):  # noqa: N818  # not an error
    """All ranks have saved a checkpoint at `step` and stop here, on request."""

    def __init__(self, step: int, checkpoint: str) -> None:
        super().__init__(f"stopped after step {step}")
        self.step = step
        self.checkpoint = checkpoint


class RunCallback(TrainerCallback):  # type: ignore[misc]  # transformers carries no types here
    """`drain_flag` is created by the entrypoint of this pod, `progress_file` is written by global rank 0 only."""

    def __init__(self, *, drain_flag: Path, progress_file: Path) -> None:
        self._drain_flag = drain_flag
        self._progress_file = progress_file
        self._tracker: progress.Tracker | None = None
        self._written = 0.0
        self._draining = False

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Start counting; after a resume, from the checkpoint's step and losses."""
        if not state.is_world_process_zero:
            return
        self._tracker = progress.Tracker(
            step=state.global_step,
            total_steps=state.max_steps,
            tokens=int(state.num_input_tokens_seen),
            now=time.time(),
        )
        self._tracker.restore_losses(state.log_history)
        self._write()
        if args.resume_from_checkpoint:
            progress.continue_log(Path(args.resume_from_checkpoint), Path(args.output_dir))

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Count the step, and let all ranks agree whether to save and stop here."""
        if self._tracker is not None:
            self._tracker.step_done(
                step=state.global_step,
                epoch=state.epoch,
                tokens=int(state.num_input_tokens_seen),
                now=time.time(),
            )
            if not control.should_log:  # else on_log follows at once and writes the step with its loss
                self._write_sometimes()
        if state.global_step < state.max_steps and self._any_rank_drains(args.device):
            self._draining = True
            control.should_save = True
            control.should_training_stop = True

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

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Free the space of older attempts; when draining, stop once every rank has its part on the volume."""
        if state.is_world_process_zero:
            for folder in checkpoints.remove_superseded(Path(args.output_dir)):
                log(f"removed {folder.parent.name}/{folder.name}: this attempt has a newer checkpoint")
        if self._draining:
            if _distributed():
                dist.barrier()
            raise Drained(state.global_step, f"{args.output_dir}/checkpoint-{state.global_step}")

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Leave the final numbers, whatever the time since the last writing."""
        self._write()

    def _any_rank_drains(self, device: Any) -> bool:
        requested = self._drain_flag.exists()
        if not _distributed():
            return requested
        flag = torch.tensor([int(requested)], device=device)
        dist.all_reduce(flag, op=dist.ReduceOp.MAX)
        return bool(flag.item())

    def _write_sometimes(self) -> None:
        if time.monotonic() - self._written >= _WRITE_EVERY_SECONDS:
            self._write()

    def _write(self) -> None:
        if self._tracker is not None:
            progress.write(self._progress_file, self._tracker.progress)
            self._written = time.monotonic()


class PissaCallback(TrainerCallback):  # type: ignore[misc]
    """Keeps the initial adapter of the first attempt; later attempts start from the same residual base."""

    def on_init_end(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        """On every rank, before weights are wrapped, sharded or loaded from a checkpoint."""
        initial = Path(args.output_dir) / pissa.INITIAL / pissa.WEIGHTS
        if args.resume_from_checkpoint:
            pissa.restore_residual(model, initial)
        elif args.should_save:
            pissa.save_initial(model, initial)


def _distributed() -> bool:
    return bool(dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1)
