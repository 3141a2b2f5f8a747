"""Our hooks into transformers' Trainer, in every worker: a common start, whole checkpoints, drain, PiSSA.

Any pod may be asked to stop. Its entrypoint leaves a file; here all ranks agree on it after a step, so that they save
one common checkpoint and stop at the same step. A rank that stopped alone would hang the others in a collective.
ADR 0012, ADR 0120 and ADR 0121 say why.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from transformers import TrainerCallback

from qwensft_trainer.base import files
from qwensft_trainer.base.log import log
from qwensft_trainer.contract.stage import BEGUN_FILE, DRAIN_FLAG, START_FILE
from qwensft_trainer.training import checkpoints, manifests, pissa, progress


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
        self._begun = False
        self._draining = False
        self._limit: int | None = None

    def on_init_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Compare the starts, before anything is loaded: ranks that load different things wait for each other."""
        _require_same(self._start)
        # Rotating is ours: transformers deletes old checkpoints while other ranks still write the new one.
        self._limit, args.save_total_limit = args.save_total_limit, None

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Compare what was loaded; go on with the log of the attempt that is resumed."""
        _require_same({"step": state.global_step})
        if state.is_world_process_zero and args.resume_from_checkpoint:
            progress.continue_log(Path(args.resume_from_checkpoint), Path(args.output_dir))

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Let all ranks agree whether to save and stop here."""
        if not self._begun and args.local_process_index == 0:
            self._begun_file.touch()
        self._begun = True
        if state.global_step < state.max_steps and self._any_rank_drains(args.device):
            self._draining = True
            control.should_save = True
            control.should_evaluate = False  # the next attempt makes up for it
            control.should_training_stop = True

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Make the checkpoint whole; when draining stop then, else delete what it supersedes.

        A drained gang's entrypoint deletes: not within the grace period before anything is saved. All ranks wait for
        what is deleted, as they would in the next step: so that no pod takes it for a training that stands still.
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
        _barrier()

    def _any_rank_drains(self, device: Any) -> bool:
        requested = self._drain_flag.exists()
        if not _distributed():
            return requested
        flag = torch.tensor([int(requested)], device=device)
        dist.all_reduce(flag, op=dist.ReduceOp.MAX)
        return bool(flag.item())


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
