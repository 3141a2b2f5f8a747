"""Encodes texts with a fast tokenizer's own core: the wrapper around it takes longer than a short text does.

The token ids are the same: benchmarks/prepare compares them with LLaMA-Factory's.
"""

from __future__ import annotations

from typing import Any


class _Fast:
    """A tokenizer whose `encode` goes straight to the core; everything else is the tokenizer's."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._core = tokenizer.backend_tokenizer
        # What the wrapper sets at each call.
        self._core.no_truncation()
        self._core.no_padding()
        self._core.encode_special_tokens = bool(tokenizer.split_special_tokens)

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        """Token ids of a text."""
        ids: list[int] = self._core.encode(text, add_special_tokens=add_special_tokens).ids
        return ids

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)


def faster(tokenizer: Any) -> Any:
    """The tokenizer, with a short cut where it has a core of its own in Rust."""
    return _Fast(tokenizer) if getattr(tokenizer, "is_fast", False) else tokenizer
