"""The figures of a training from the logs of its attempts."""

from __future__ import annotations

import json
from typing import Any

from qwensft.client import figures


def log(*lines: dict[str, Any] | str) -> bytes:
    return "".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines).encode()


def line(step: int, loss: float, **more: Any) -> dict[str, Any]:
    return {"current_steps": step, "total_steps": 9, "loss": loss, "lr": 0.1, "epoch": step / 3, "percentage": 1} | more


def test_a_log_becomes_a_record_a_step() -> None:
    found = figures.records({"train/1/trainer_log.jsonl": log(line(1, 2.5), line(2, 2.0))})
    assert found[0] == {"step": 1, "epoch": 1 / 3, "loss": 2.5, "lr": 0.1, "attempt": 1}
    assert [record["step"] for record in found] == [1, 2]


def test_an_evaluation_belongs_to_its_step() -> None:
    evaluated = {"current_steps": 2, "eval_loss": 1.9, "epoch": 2 / 3}
    found = figures.records({"train/1/trainer_log.jsonl": log(line(1, 2.5), line(2, 2.0), evaluated)})
    assert found[1] == {"step": 2, "epoch": 2 / 3, "loss": 2.0, "lr": 0.1, "eval_loss": 1.9, "attempt": 1}


def test_a_step_that_was_trained_twice_has_the_later_figures_and_one_that_was_kept_its_own_attempt() -> None:
    first = log(line(1, 2.5), line(2, 2.0), line(3, 1.7))
    second = log(line(1, 2.5), line(2, 2.0), line(3, 1.6), line(4, 1.5))
    found = figures.records({"train/2/trainer_log.jsonl": second, "train/1/trainer_log.jsonl": first})
    assert [(record["step"], record["loss"], record["attempt"]) for record in found] == [
        (1, 2.5, 1),
        (2, 2.0, 1),
        (3, 1.6, 2),
        (4, 1.5, 2),
    ]


def test_attempts_are_ordered_as_numbers() -> None:
    logs = {
        f"train/{attempt}/trainer_log.jsonl": log(line(1, float(n))) for n, attempt in enumerate(["2", "3.2", "10"])
    }
    assert figures.records(logs)[0]["attempt"] == 10


def test_a_line_that_was_cut_off_is_passed_over() -> None:
    assert len(figures.records({"train/1/trainer_log.jsonl": log(line(1, 2.5), '{"current_steps": 2, "lo')})) == 1


def test_a_frame_has_all_columns_also_without_a_record() -> None:
    assert list(figures.frame([]).columns) == ["step", "epoch", "loss", "lr", "eval_loss", "attempt"]
