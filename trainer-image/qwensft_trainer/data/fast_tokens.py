"""Encodes texts with a fast tokenizer's own core, long ones in pieces: the same token ids in less time and memory.

The core takes 100 to 350 bytes of memory for each byte of a text that it is given at once, 3 GB for a text of 8 MiB.
benchmarks/prepare compares the ids of all rows with LLaMA-Factory's.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from typing import Any

_PIECE = 1 << 16
_CACHED_WORDS = 100_000  # ten times the core's own number: a text of several languages has more; some 20 MB

# Has each kind of place that is_boundary knows, beside what must stay whole.
_SAMPLE = (
    "It's 12345 o'clock,  isn't IT? x9y 3.14\n\n\tYes: e\u0301t\u00e9 e\u0301, a1b2c3 (\u0438 \u0434\u0430).  "
    "\u4f60\u597d\u3002\u518d\u89c1 \u00e0 la\u00a0carte; na\u00efve!  \r\nend <|im_end|>\n"
)


def faster(tokenizer: Any) -> Any:
    """The tokenizer, with a short cut where it has a core of its own in Rust."""
    return _Fast(tokenizer) if getattr(tokenizer, "is_fast", False) else tokenizer


def is_boundary(before: str, after: str) -> bool:
    """Whether no token of a Qwen tokenizer spans the place between two characters.

    Its words are a run of letters with one other character before it, single digits, or what is neither; control
    tokens hold no blanks and no such punctuation, and nothing composes with what stands after it here.
    """
    if before.isalpha():
        return after.isspace() or unicodedata.category(after) in ("Po", "Ps", "Pe")
    return before.isascii() and before.isdigit() and after.isascii() and after.isalnum()


def pieces(text: str, size: int = _PIECE) -> Iterator[str]:
    """A text in pieces of `size` characters or, where there is no boundary, a few more."""
    start, end = 0, size
    while end < len(text):
        if is_boundary(text[end - 1], text[end]):
            yield text[start:end]
            start, end = end, end + size
        else:
            end += 1
    yield text[start:]


class _Fast:
    """A tokenizer whose `encode` goes straight to the core; everything else is the tokenizer's."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._core = tokenizer.backend_tokenizer
        # What the wrapper sets at each call.
        self._core.no_truncation()
        self._core.no_padding()
        self._core.encode_special_tokens = bool(tokenizer.split_special_tokens)
        self._core.model._resize_cache(_CACHED_WORDS)
        self._known: dict[int, int] = {}
        self._has_boundaries = all(
            self._ids(_SAMPLE) == self._ids(_SAMPLE[:at]) + self._ids(_SAMPLE[at:])
            for at in range(1, len(_SAMPLE))
            if is_boundary(_SAMPLE[at - 1], _SAMPLE[at])
        )

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        """Token ids of a text."""
        if len(text) <= _PIECE or add_special_tokens or not self._has_boundaries:
            return self._ids(text, add_special_tokens)
        known = self._known  # one object for each id, of which there may be millions
        return [known.setdefault(one, one) for piece in pieces(text) for one in self._ids(piece)]

    def _ids(self, text: str, add_special_tokens: bool = False) -> list[int]:
        # Of a batch the core can leave out where in the text the tokens stand.
        (encoded,) = self._core.encode_batch_fast([text], add_special_tokens=add_special_tokens)
        ids: list[int] = encoded.ids
        return ids

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)
