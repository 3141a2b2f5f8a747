"""A model and rows that train in milliseconds, made without any download."""

from __future__ import annotations

from pathlib import Path

import numpy as np  # type: ignore[import-not-found, unused-ignore]
import torch  # type: ignore[import-not-found, unused-ignore]
from datasets import Dataset, DatasetDict  # type: ignore[import-not-found, unused-ignore]
from tokenizers import Tokenizer, decoders, models, pre_tokenizers  # type: ignore[import-not-found, unused-ignore]
from transformers import (  # type: ignore[import-not-found, unused-ignore]
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3ForCausalLM,
)

ROWS = 24
_PAD, _START, _END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
_FIRST_BYTE = 3  # after those


def write_model(directory: Path, *, lively: bool = False) -> None:
    """A Qwen3 of two narrow layers with random weights, and a tokenizer that knows bytes.

    A `lively` one goes on from any text with ever other tokens; else it says the last one again and again.
    """
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: number for number, token in enumerate([_PAD, _START, _END, *alphabet])}
    core = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens([_PAD, _START, _END])
    PreTrainedTokenizerFast(tokenizer_object=core, eos_token=_END, pad_token=_PAD).save_pretrained(directory)
    torch.manual_seed(7)
    config = Qwen3Config(
        vocab_size=len(vocabulary),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        max_position_embeddings=128,
        tie_word_embeddings=not lively,
        initializer_range=0.3 if lively else 0.02,
        eos_token_id=2,
        pad_token_id=0,
        bos_token_id=0,
    )
    Qwen3ForCausalLM(config).save_pretrained(directory)


def write_rows(directory: Path, *, prompt: int = 0) -> None:
    """What prepare leaves of rows of different lengths, tokenised. Of each the first `prompt` tokens are not learnt."""
    numbers = np.random.default_rng(3)
    sizes = numbers.integers(12, 40, size=ROWS)
    rows = [numbers.integers(_FIRST_BYTE, _FIRST_BYTE + 256, size=size).tolist() for size in sizes]
    labels = [[-100] * prompt + row[prompt:] for row in rows]
    columns = {"input_ids": rows, "attention_mask": [[1] * len(row) for row in rows], "labels": labels}
    DatasetDict({"train": Dataset.from_dict(columns)}).save_to_disk(directory)
