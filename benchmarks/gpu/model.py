"""Writes the model that both sides train: a Qwen3 of random weights with a byte tokenizer. Needs torch."""

from __future__ import annotations

from pathlib import Path

import torch
from benchmarks.gpu.figures import Shape
from tokenizers import Tokenizer, decoders, models, pre_tokenizers  # type: ignore[import-not-found, unused-ignore]
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM


def write_model(directory: Path, shape: Shape, dtype: str) -> None:
    """Write a model with random weights. Its tokenizer makes one token of each byte; the vocabulary keeps its size."""
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden,
        intermediate_size=shape.inner,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        head_dim=shape.head_dim,
        max_position_embeddings=40960,
        tie_word_embeddings=True,
    )
    Qwen3ForCausalLM(config).to(getattr(torch, dtype)).save_pretrained(directory)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({character: number for number, character in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",  # noqa: S106
        pad_token="<|endoftext|>",  # noqa: S106
        additional_special_tokens=["<|im_start|>"],
    )
    fast.save_pretrained(directory)
