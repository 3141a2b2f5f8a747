"""Which keys say that an answer is learned, and which wishes are refused with the fix."""

from __future__ import annotations

from typing import Any

import pytest

from qwensft_trainer.data.loss_keys import check_row, learned
from qwensft_trainer.data.row_fields import RowProblem


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ({}, None),
        ({"weight": None, "train": None, "train_detail": []}, None),
        ({"weight": 0}, False),
        ({"weight": 1.0}, True),
        ({"loss": True}, True),
        ({"loss": False}, False),
        ({"train": False, "weight": 0}, False),
        ({"trainable": 0}, False),
        ({"loss_mask": 0}, False),
        ({"loss_scale": 1}, True),
        ({"masked": True}, False),
        ({"masked": False}, True),
    ],
)
def test_an_answer_is_learned_or_left_out_in_many_spellings(message: dict[str, Any], expected: bool | None) -> None:
    assert learned(message, answer=True) is expected


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ({"weight": 0.5}, "'weight' is neither 0 nor 1"),
        ({"loss": "yes"}, "'loss' is text; expected true or false"),
        ({"train": True, "weight": 0}, "'train' and 'weight' contradict each other"),
        ({"mask": True}, "'mask' means either to learn or to leave out; write 'train'"),
        ({"mask": 0}, "'mask' means either"),
        ({"train_detail": [{"begin_offset": 0}]}, "'train_detail' marks parts of an answer"),
    ],
)
def test_what_cannot_be_met_is_refused(message: dict[str, Any], expected: str) -> None:
    with pytest.raises(RowProblem, match=expected):
        learned(message, answer=True)


def test_only_the_models_own_messages_are_learned() -> None:
    assert learned({"train": False}, answer=False) is None
    assert learned({"weight": 1}, answer=False) is None  # written to every message by some tools
    assert learned({"masked": False}, answer=False) is None
    with pytest.raises(RowProblem, match="'train' asks to learn it, but only the model's own messages are learned"):
        learned({"train": True}, answer=False)


@pytest.mark.parametrize(
    "row",
    [{}, {"weight": 1}, {"weight": "1.0"}, {"weight": "72 kg"}, {"train": True}, {"loss": 2.31}, {"loss": [1, True]}],
)
def test_rows_that_count_once_pass(row: dict[str, Any]) -> None:
    check_row(row, ())


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"weight": 0}, "'weight' is 0: remove the row"),
        ({"weight": "0.5"}, r"repeat it, or put rows of one weight into a dataset with spec.datasets\[\].weight"),
        ({"sample_weight": 3}, "'sample_weight' gives the row a weight"),
        ({"train": False}, "'train' is false: remove the row"),
        ({"loss_mask": [0, 1]}, "'loss_mask' is a list for the row's messages; write 'train': false into those"),
    ],
)
def test_wishes_about_a_row_are_refused(row: dict[str, Any], expected: str) -> None:
    with pytest.raises(RowProblem, match=expected):
        check_row(row, ())
    check_row(row, tuple(row))  # a column that the job names as something else
