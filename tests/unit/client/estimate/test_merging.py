"""The request of a merge follows the model's widest parts, not its size."""

from __future__ import annotations

import pytest

from qwensft.estimate.architectures import known
from qwensft.estimate.merging import merge_memory


@pytest.mark.parametrize(
    ("name", "full", "tensors"),
    [("Qwen/Qwen3-0.6B", 2.7, 2.6), ("Qwen/Qwen3-8B", 7.5, 6.0), ("Qwen/Qwen2.5-72B-Instruct", 17.3, 10.7)],
)
def test_what_a_merge_takes(name: str, full: float, tensors: float) -> None:
    model = known(name)
    assert merge_memory(model, logits=True) / 2**30 == pytest.approx(full, abs=0.1)
    assert merge_memory(model, logits=False) / 2**30 == pytest.approx(tensors, abs=0.1)


def test_a_model_whose_size_is_not_known_gets_enough_for_most() -> None:
    assert merge_memory(None, logits=True) == 8 * 2**30
