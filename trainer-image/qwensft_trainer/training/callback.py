"""Our hooks into transformers' Trainer, in every worker: a common start, progress, whole checkpoints, drain, PiSSA.

Any pod may be asked to stop. Its entrypoint leaves a file; here all ranks agree on it after a step, so that they save
one common checkpoint and stop at the same step. A rank that stopped alone would hang the others in a collective.
ADR 0012, ADR 0120 and ADR 0121 say why.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from transformers import TrainerCallback

from qwensft_trainer.base import files
from qwensft_trainer.base.log import log
from qwensft_trainer.contract.stage import BEGUN_FILE, DRAIN_FLAG, PROGRESS_FILE, START_FILE
from qwensft_trainer.training import checkpoints, manifests, pissa, progress

_WRITE_EVERY_SECONDS = 1.0


class Drained(Exception):  # noqa: N818  # not an error
    """All ranks have saved a checkpoint at `step` and stop here, on request."""

    def __init__(self, step: int, checkpoint: str) -> None:
        super().__init__(f"stopped after step {step}")
        self.step = step
        self.checkpoint = checkpoint


class Different(Exception):  # noqa: N818
    """The ranks were to start from different places; `starts` has what each says, by rank. Nothing was trained."""

    def __init__(self, starts: list[Any]) -> None:
        super().__init__(f"the ranks were to start from different places: {starts}")
        self.starts = starts


class RunCallback(TrainerCallback):  # type: ignore[misc]  # transformers carries no types here
    """`scratch` is the directory that this pod's workers share with its entrypoint."""

    def __init__(self, scratch: Path) -> None:
        self._drain_flag = scratch / DRAIN_FLAG
        self._begun_file = scratch / BEGUN_FILE
        self._start = files.read_json_object(scratch / START_FILE)
        self._progress_file = scratch / PROGRESS_FILE
        self._tracker: progress.Tracker | None = None
        self._written = 0.0
        self._begun = False
        self._draining = False
        self._limit: int | None = None

    def on_init_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Compare the starts, before anything is loaded: ranks that load different things wait for each other."""
        _require_same(self._start)
        # Rotating is ours: transformers deletes old checkpoints while other ranks still write the new one.
        self._limit, args.save_total_limit = args.save_total_limit, None

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Compare what was loaded; start counting, after a resume from the checkpoint's step and losses."""
        _require_same({"step": state.global_step})
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
        if not self._begun and args.local_process_index == 0:
            self._begun_file.touch()
        self._begun = True
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
            control.should_evaluate = False  # the next attempt makes up for it
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
        """Make the checkpoint whole; when draining stop then, else delete what it supersedes.

        A drained gang's entrypoint deletes: not within the grace period before anything is saved.
        """
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        _barrier()  # every rank has written its part
        if args.local_process_index == 0:
            manifests.sync_all(folder)
        _barrier()  # every node has it on the disk
        if state.is_world_process_zero:
            manifests.seal(folder)
        if self._draining:
            _barrier()
            raise Drained(state.global_step, str(folder))
        if state.is_world_process_zero:
            for old in checkpoints.remove_superseded(folder.parent, self._limit):
                log(f"removed {old.parent.name}/{old.name}: {folder.parent.name}/{folder.name} is complete")

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


def _require_same(value: Any) -> None:
    """Raises Different, on all ranks, unless all have the same value."""
    if not _distributed():
        return
    values: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    if any(other != values[0] for other in values):
        raise Different(values)


def _barrier() -> None:
    if _distributed():
        dist.barrier()


def _distributed() -> bool:
    return bool(dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1)
