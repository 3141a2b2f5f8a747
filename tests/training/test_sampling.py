"""Rows that are grouped by length, in a real Trainer: their order follows from seed and epoch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch  # type: ignore[import-not-found, unused-ignore]
from datasets import load_from_disk  # type: ignore[import-not-found, unused-ignore]
from transformers import (  # type: ignore[import-not-found, unused-ignore]
    AutoModelForCausalLM,
    Trainer,
    TrainingArguments,
)

from qwensft_trainer.base import sampling

from .tiny import ROWS, write_rows

Orders = Callable[..., tuple[list[int], list[int]]]


@pytest.fixture
def orders(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Orders:
    """The orders in which rows are trained and evaluated, in a process with other random numbers at each call."""
    for name in ("_get_train_sampler", "_get_eval_sampler"):
        monkeypatch.setattr(Trainer, name, getattr(Trainer, name))  # put back afterwards
    sampling.order_by_seed()
    write_rows(tmp_path / "rows")
    rows = load_from_disk(tmp_path / "rows")["train"]

    def draw(*, epoch: float = 0.0, **arguments: Any) -> tuple[list[int], list[int]]:
        strategy = {"train_sampling_strategy": "group_by_length"} | arguments
        trainer = Trainer(
            AutoModelForCausalLM.from_pretrained(model),
            TrainingArguments(output_dir=str(tmp_path / "train"), use_cpu=True, report_to="none", **strategy),
            train_dataset=rows,
            eval_dataset=rows,
        )
        training, evaluation = trainer._get_train_sampler(), trainer._get_eval_sampler(rows)
        trainer.state.epoch = epoch
        torch.seed()
        before = torch.get_rng_state()
        drawn = list(training), list(evaluation)
        assert torch.equal(torch.get_rng_state(), before)
        return drawn

    return draw


def test_an_epoch_has_its_order_whatever_a_process_has_drawn_before_and_wherever_it_goes_on(orders: Orders) -> None:
    first, second = orders(epoch=0.0)[0], orders(epoch=1.0)[0]
    assert sorted(first) == sorted(second) == list(range(ROWS))
    assert first != second
    assert orders(epoch=0.75)[0] == first
    assert orders(epoch=1.5)[0] == second


def test_evaluations_have_one_order(orders: Orders) -> None:
    assert orders(epoch=0.0)[1] == orders(epoch=2.5)[1]


def test_another_seed_is_another_order_and_that_of_the_data_comes_first(orders: Orders) -> None:
    assert orders(seed=7) != orders(seed=42)
    assert orders(seed=7, data_seed=42) == orders(seed=42)
