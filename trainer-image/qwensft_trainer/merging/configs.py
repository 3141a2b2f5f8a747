"""What config.json says of weights that training and the merge have changed."""

from __future__ import annotations

from typing import Any

from qwensft_trainer.merging.documents import objects

_DTYPES = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}
_DTYPE_KEYS = ("torch_dtype", "dtype")
_PARTS = ("text_config", "vision_config")


def set_dtype(config: dict[str, Any], dtype: str) -> list[str]:
    """Name the dtype (bf16, fp16 or fp32) wherever one is named."""
    wanted = _DTYPES[dtype]
    stale = [
        (part, key) for part in objects(config, *_PARTS) for key in _DTYPE_KEYS if key in part and part[key] != wanted
    ]
    for part, key in stale:
        part[key] = wanted
    return [f"{key} is {wanted}, as spec.merge.dtype says" for key in dict.fromkeys(key for _, key in stale)]


def set_rows(config: dict[str, Any], rows: int) -> list[str]:
    """State the vocabulary's size: the rows of the embeddings."""
    stale = [part for part in objects(config, "text_config") if part.get("vocab_size", rows) != rows]
    for part in stale:
        part["vocab_size"] = rows
    return [f"vocab_size is {rows}: the embeddings have so many rows"] if stale else []


def untie(config: dict[str, Any]) -> list[str]:
    """State that the output embeddings are tensors of their own."""
    stale = [part for part in objects(config, *_PARTS) if part.get("tie_word_embeddings")]
    for part in stale:
        part["tie_word_embeddings"] = False
    return ["tie_word_embeddings is false: training has changed one of the embeddings"] if stale else []


def set_plain(config: dict[str, Any]) -> list[str]:
    """Leave out how the base's weights are quantised."""
    stale = [part for part in objects(config, *_PARTS) if part.get("quantization_config")]
    for part in stale:
        del part["quantization_config"]
    return ["without quantization_config: the merged weights are not quantised"] if stale else []
