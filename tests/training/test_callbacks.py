"""What the hooks into transformers' Trainer do, one by one, in this process."""

from __future__ import annotations

import errno
import json
import os
import socket
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch  # type: ignore[import-not-found, unused-ignore]
from datasets import load_from_disk  # type: ignore[import-not-found, unused-ignore]
from transformers import (  # type: ignore[import-not-found, unused-ignore]
    AutoModelForCausalLM,
    IntervalStrategy,
    Trainer,
    TrainerCallback,
    TrainerState,
    TrainingArguments,
)

from qwensft_trainer.contract.digest import Experiment
from qwensft_trainer.training import checkpoints, loading, manifests
from qwensft_trainer.training.callback import Drained, RunCallback
from qwensft_trainer.training.evaluations import EarlyStopping, OwedEvaluation
from qwensft_trainer.training.startup import Marks
from qwensft_trainer.training.tokens import TokenCount, count
from qwensft_trainer.training.worker import our_callbacks

from .tiny import write_rows


def evaluated(step: int, loss: float) -> dict[str, float]:
    return {"step": step, "eval_loss": loss}


def owed(state: Any, *, metric: str | None = "eval_loss") -> tuple[Any, OwedEvaluation]:
    """Arguments as they are after training has begun, with a checkpoint to go on from."""
    args = SimpleNamespace(
        eval_strategy=IntervalStrategy.STEPS, eval_delay=0, eval_on_start=False, metric_for_best_model=metric,
        resume_from_checkpoint="/workspace/run/train/1/checkpoint-8", greater_is_better=False,
    )  # fmt: skip
    callback = OwedEvaluation()
    callback.on_train_begin(args, state, None)
    return args, callback


@pytest.mark.parametrize(
    ("step", "history", "due"),
    [
        (8, [evaluated(4, 2.0)], True),
        (8, [evaluated(4, 2.0), evaluated(8, 1.0)], False),
        (9, [evaluated(4, 2.0), evaluated(8, 1.0)], False),
        (0, [], False),
    ],
)
def test_an_evaluation_that_a_drain_has_left_out_is_made_up_for(step: int, history: list[Any], due: bool) -> None:
    args, _ = owed(TrainerState(global_step=step, eval_steps=4, log_history=history))
    assert args.eval_on_start == due


def test_what_is_made_up_for_counts_for_the_best_and_for_early_stopping_as_if_it_had_been_in_time() -> None:
    state = TrainerState(global_step=8, eval_steps=4, log_history=[evaluated(4, 2.0)], best_metric=2.0)
    args, callback = owed(state)
    control = SimpleNamespace(should_training_stop=False)
    stopping = EarlyStopping(1, 0.0)
    for observer in (stopping, callback):  # in the worker's order
        observer.on_evaluate(args, state, control, metrics={"eval_loss": 1.5})
    assert (state.best_metric, state.best_global_step) == (1.5, 8)
    assert state.best_model_checkpoint == "/workspace/run/train/1/checkpoint-8"
    assert not control.should_training_stop
    callback.on_evaluate(args, state, control, metrics={"eval_loss": 1.0})  # the next one is transformers' own
    assert state.best_metric == 1.5


def training(directory: Path, step: int, limit: int | None = 1) -> tuple[Any, Any, Any]:
    """Arguments, state and control of a training in `directory`, with a checkpoint that transformers has written."""
    (directory / "attempt.json").write_text(json.dumps(Experiment("u", "d", None).document() | {"sealed": True}))
    state = TrainerState(global_step=step, max_steps=100)
    state.is_world_process_zero = True
    folder = directory / f"checkpoint-{step}"
    folder.mkdir()
    state.save_to_json(str(folder / "trainer_state.json"))
    args = TrainingArguments(output_dir=str(directory), use_cpu=True, save_total_limit=limit, report_to="none")
    control = SimpleNamespace(should_log=True, should_save=False, should_evaluate=True, should_training_stop=False)
    return args, state, control


def test_a_checkpoint_is_sealed_before_older_ones_go_and_transformers_deletes_none(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    callback = RunCallback(tmp_path)
    args, state, control = training(tmp_path / "train", 4)
    callback.on_init_end(args, state, control)
    assert args.save_total_limit is None
    callback.on_save(args, state, control)
    _, state, _ = training(tmp_path / "train", 8)
    callback.on_save(args, state, control)
    assert [path.name for path in (tmp_path / "train").glob("checkpoint-*")] == ["checkpoint-8"]
    assert manifests.is_sealed(tmp_path / "train" / "checkpoint-8")


def test_a_volume_that_cannot_sync_a_checkpoint_seals_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "train").mkdir()
    callback = RunCallback(tmp_path)
    args, state, control = training(tmp_path / "train", 4)
    callback.on_init_end(args, state, control)

    def fsync(_: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(OSError, match="Input/output error"):
        callback.on_save(args, state, control)
    assert not manifests.is_sealed(tmp_path / "train" / "checkpoint-4")


def test_a_drain_saves_without_an_evaluation_and_deletes_nothing(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    callback = RunCallback(tmp_path)
    args, state, control = training(tmp_path / "train", 4)
    callback.on_init_end(args, state, control)
    callback.on_save(args, state, control)
    _, state, _ = training(tmp_path / "train", 8)
    (tmp_path / "drain").touch()
    callback.on_step_end(args, state, control)
    assert (tmp_path / "begun").exists()
    assert (control.should_save, control.should_evaluate, control.should_training_stop) == (True, False, True)
    with pytest.raises(Drained):
        callback.on_save(args, state, control)
    assert len(list((tmp_path / "train").glob("checkpoint-*"))) == 2
    assert manifests.is_sealed(tmp_path / "train" / "checkpoint-8")


def test_checkpoints_off_a_logging_step_hold_the_tokens_seen_so_far(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a real Trainer: one checkpoint at its time, and one because the pod was asked to stop. Nothing is logged."""
    monkeypatch.setattr(Trainer, "_track_num_input_tokens", Trainer._track_num_input_tokens)  # put back afterwards
    counted = TokenCount()
    count(counted)
    write_rows(tmp_path / "rows")

    class AskedToStop(TrainerCallback):  # type: ignore[misc, unused-ignore]
        def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step == 4:  # while the fifth is done
                (tmp_path / "drain").touch()

    (tmp_path / "train").mkdir()
    trainer = Trainer(
        AutoModelForCausalLM.from_pretrained(model),
        TrainingArguments(
            output_dir=str(tmp_path / "train"), use_cpu=True, report_to="none", per_device_train_batch_size=1,
            max_steps=8, save_steps=3, logging_steps=100,
        ),
        train_dataset=load_from_disk(tmp_path / "rows")["train"],
        callbacks=[*our_callbacks(tmp_path, {}, counted, Marks(None)), AskedToStop()],
    )  # fmt: skip
    with pytest.raises(Drained):
        trainer.train()
    seen = {}
    for step in (3, 5):
        state = json.loads((tmp_path / "train" / f"checkpoint-{step}" / "trainer_state.json").read_text())
        seen[step] = state["num_input_tokens_seen"]
    assert 0 < seen[3] < seen[5] == counted.total("cpu")[0]


def _saves(rank: int, directory: str, told: str) -> None:
    """One of two ranks, each on a node of its own, of which the first takes two seconds to delete."""
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1"}
    os.environ |= {"MASTER_PORT": told, "GLOO_SOCKET_IFNAME": "lo", "CUDA_VISIBLE_DEVICES": ""}
    torch.distributed.init_process_group("gloo")
    callback = RunCallback(Path(directory))
    args = SimpleNamespace(output_dir=f"{directory}/train", local_process_index=0)
    state = SimpleNamespace(global_step=4, is_world_process_zero=rank == 0)

    def remove(*_: Any) -> list[Path]:
        time.sleep(2)
        Path(directory, "deleted").touch()
        return []

    checkpoints.remove_superseded = remove  # type: ignore[assignment]
    callback.on_save(args, state, None)
    Path(directory, f"rank-{rank}").write_text(str(Path(directory, "deleted").exists()))
    torch.distributed.destroy_process_group()


def test_no_rank_goes_on_before_old_checkpoints_are_deleted(tmp_path: Path) -> None:
    """Else a pod would take a slow deletion for a training that stands still."""
    training_directory = tmp_path / "train" / "checkpoint-4"
    training_directory.mkdir(parents=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    torch.multiprocessing.spawn(_saves, args=(str(tmp_path), port), nprocs=2)
    assert [(tmp_path / f"rank-{rank}").read_text() for rank in (0, 1)] == ["True", "True"]


class _Trainer:
    """Stands for transformers' Trainer: its methods have the names that are looked for."""

    def _load_optimizer_and_scheduler(self, path: Path) -> None:
        torch.load(path, weights_only=True)


def raised_by_loading(path: Path) -> Exception:
    with pytest.raises(Exception) as caught:  # noqa: PT011
        _Trainer()._load_optimizer_and_scheduler(path)
    return caught.value


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", bytes(4000)])
def test_a_file_that_torch_cannot_read_is_the_checkpoints_fault(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "optimizer.pt").write_bytes(content)
    assert loading.failed(raised_by_loading(tmp_path / "optimizer.pt"))
    assert loading.failed(raised_by_loading(tmp_path / "missing.pt"))


def test_a_volume_in_trouble_and_an_error_elsewhere_are_not(tmp_path: Path) -> None:
    assert not loading.failed(raised_by_loading(Path("/proc/self/mem")))
    with pytest.raises(RuntimeError) as caught:
        raise RuntimeError("loss is odd")
    assert not loading.failed(caught.value)
