"""Padding is told apart from tokens, in every form in which LLaMA-Factory hands micro-batches over."""

from __future__ import annotations

import importlib
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="counts tensors: needs the libraries of the trainer's image")

PAD = 0
IDS = [[5, 6, 7, PAD], [5, PAD, PAD, PAD]]


@pytest.fixture
def tokens() -> Any:
    return importlib.import_module("qwensft_trainer.training.tokens").TokenCount()


@pytest.mark.parametrize(
    "mask",
    [
        [[1, 1, 1, 0], [1, 0, 0, 0]],
        [[1, 2, 2, 0], [1, 0, 0, 0]],  # neat packing numbers its examples
        None,  # FlashAttention-2 without padding
        "of four dimensions",
    ],
    ids=str,
)
def test_padding_is_no_token(tokens: Any, mask: Any) -> None:
    inputs = {"input_ids": torch.tensor(IDS)}
    if mask is not None:
        inputs["attention_mask"] = torch.zeros(2, 1, 4, 4) if isinstance(mask, str) else torch.tensor(mask)
    for _ in range(3):
        tokens.add(inputs, PAD)
    assert tokens.total(torch.device("cpu")) == (12, 24)


def test_nothing_is_counted_before_the_first_batch_nor_without_ids(tokens: Any) -> None:
    tokens.add({"labels": torch.tensor(IDS)}, PAD)
    assert tokens.total(torch.device("cpu")) == (0, 0)


def test_the_trainer_hands_every_micro_batch_over(tokens: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    module = importlib.import_module("qwensft_trainer.training.tokens")
    called: list[Any] = []
    monkeypatch.setattr(module.Trainer, "_track_num_input_tokens", lambda self, inputs: called.append(inputs))
    module.count(tokens)
    trainer = module.Trainer.__new__(module.Trainer)
    trainer.processing_class = type("Tokenizer", (), {"pad_token_id": PAD})
    inputs = {"input_ids": torch.tensor(IDS)}
    trainer._track_num_input_tokens(inputs)
    assert tokens.total(torch.device("cpu")) == (4, 8)
    assert called == [inputs]
