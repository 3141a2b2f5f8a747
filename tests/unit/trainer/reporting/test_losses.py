"""The curves hold what counts: the log of the attempt with the result, and what the trainer's state knows besides."""

from __future__ import annotations

import json
import math
from typing import Any

from qwensft_trainer.reporting.losses import Losses, Point, losses


def lines(*entries: dict[str, Any]) -> str:
    return "".join(f"{json.dumps(entry)}\n" for entry in entries)


def test_losses_of_both_kinds_are_read_by_step() -> None:
    log = lines(
        {"current_steps": 10, "loss": 2.0, "lr": 1e-4},
        {"current_steps": 20, "loss": 1.5, "epoch": 0.5},
        {"current_steps": 20, "eval_loss": 1.75},
    )
    assert losses(log, []) == Losses((Point(10, 2.0), Point(20, 1.5)), (Point(20, 1.75),))


def test_the_state_knows_what_a_killed_process_has_not_written_to_its_log() -> None:
    log = lines({"current_steps": 10, "loss": 2.0}) + '{"current_steps": 20, "lo'
    history = [{"step": 10, "loss": 2.0}, {"step": 20, "loss": 1.5}, {"step": 20, "train_loss": 1.75}]
    assert losses(log, history).training == (Point(10, 2.0), Point(20, 1.5))


def test_the_log_goes_on_where_the_best_checkpoints_state_ends() -> None:
    log = lines(*({"current_steps": step, "eval_loss": float(step)} for step in (10, 20, 30)))
    assert [point.step for point in losses(log, [{"step": 10, "eval_loss": 10.0}]).evaluation] == [10, 20, 30]


def test_what_is_not_finite_is_kept_and_counted() -> None:
    log = '{"current_steps": 1, "loss": NaN}\n{"current_steps": 2, "loss": Infinity}\n{"current_steps": 3, "loss": 1}\n'
    found = losses(log, [])
    assert math.isnan(found.training[0].value)
    assert [point.finite for point in found.training] == [False, False, True]
    assert found.not_finite == 2


def test_what_is_no_record_is_passed_over() -> None:
    log = "[]\nnull\n7\n" + lines(
        {"loss": 1.0}, {"current_steps": "1", "loss": 1.0}, {"current_steps": 1, "loss": "low"}, {"current_steps": -1}
    )
    assert losses(log, [None, "x", {"step": 2.5, "loss": 1.0}, {"step": True, "loss": 1.0}]) == Losses()
