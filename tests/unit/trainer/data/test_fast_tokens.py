"""Long texts are encoded in pieces between which no token lies; only by tokenizers that give the same ids then."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import pytest

from qwensft_trainer.data import fast_tokens


class Core:
    """A tokenizer of words by a pattern; remembers the longest text that it was given."""

    def __init__(self, pattern: str) -> None:
        self._pattern = re.compile(pattern)
        self.longest = 0
        self.model = SimpleNamespace(_resize_cache=lambda _: None)

    def no_truncation(self) -> None:
        pass

    no_padding = no_truncation

    def encode_batch_fast(self, texts: list[str], *, add_special_tokens: bool) -> list[Any]:
        self.longest = max([self.longest, *map(len, texts)])
        assert not add_special_tokens
        return [SimpleNamespace(ids=[hash(word) for word in self._pattern.findall(text)]) for text in texts]


def encoded(core: Core, text: str) -> list[int]:
    tokenizer = SimpleNamespace(is_fast=True, backend_tokenizer=core, split_special_tokens=False, eos_token_id=7)
    fast = fast_tokens.faster(tokenizer)
    assert fast.eos_token_id == 7
    ids: list[int] = fast.encode(text, add_special_tokens=False)
    return ids


QWEN = r"<\|\w+\|>|[^\r\n\w]?[^\W\d_]+|\d| ?[^\s\w]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
DIGITS_BY_THREE = QWEN.replace(r"|\d|", r"|\d{1,3}|")
TEXT = "It takes 1234567 words,\n\nor more: " * 10_000


def test_a_long_text_is_encoded_in_pieces_with_the_same_ids() -> None:
    core = Core(QWEN)
    ids = encoded(core, TEXT)
    assert core.longest < 1.1 * fast_tokens._PIECE
    assert ids == [hash(word) for word in re.findall(QWEN, TEXT)]


def test_a_tokenizer_with_other_words_gets_the_text_whole() -> None:
    core = Core(DIGITS_BY_THREE)
    assert encoded(core, TEXT) == [hash(word) for word in re.findall(DIGITS_BY_THREE, TEXT)]
    assert core.longest == len(TEXT)


def test_a_tokenizer_without_a_core_is_left_alone() -> None:
    slow = SimpleNamespace(is_fast=False)
    assert fast_tokens.faster(slow) is slow


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("one two", ["one", " two"]),
        ("<|im_end|>", ["<|im_end|>"]),
        ("</think>", ["</think>"]),
        ("\u4f60\u597d\u3002\u518d", ["\u4f60\u597d", "\u3002\u518d"]),
        ("e\u0301 e", ["e\u0301 e"]),
        ("a1b22", ["a1", "b2", "2"]),
        ("\u00b2\u00b2 x", ["\u00b2\u00b2 x"]),
        ("isn't", ["isn", "'t"]),
    ],
)
def test_where_a_text_is_parted(text: str, parts: list[str]) -> None:
    assert list(fast_tokens.pieces(text, 1)) == parts
