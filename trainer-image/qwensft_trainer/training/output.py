"""What torchrun and its workers print: handed on line by line, and what of it is kept to find out why they died.

Memory is bounded whatever they print: lines have a greatest length, and of both kinds that are kept only the last are.
"""

from __future__ import annotations

import collections
import re
import sys
from collections.abc import Iterator
from typing import IO

from qwensft_trainer.base.redaction import clean

MAX_CHARACTERS = 1 << 15  # of a line that is handed on
_MARGIN = 1 << 13  # more than a secret has: what is cut must not leave the first half of one
_KEPT_CHARACTERS = 2000
_TAIL_LINES = 400
_LAST_WORDS = 200

# What libraries in C++ say before they abort the process. The stack traces between these lines, of all ranks of a
# node, are longer than what is kept of the output.
_ABORTING = re.compile(
    r"[Ww]atchdog (caught|thread terminated with exception)|watchdog got stuck|collective timeout"
    r"|terminate called after throwing|^\s*what\(\):|\bnccl\w+Error\b|Fatal Python error"
)


class Output:
    """The end of an output: `tail` are its last lines, `last_words` those of libraries that abort their process."""

    def __init__(self) -> None:
        self._tail: collections.deque[str] = collections.deque(maxlen=_TAIL_LINES)
        self._last_words: collections.deque[str] = collections.deque(maxlen=_LAST_WORDS)

    def add(self, line: str) -> None:
        """Keep a line, without its end."""
        line = line[:_KEPT_CHARACTERS]
        self._tail.append(line)
        if _ABORTING.search(line):
            self._last_words.append(line)

    @property
    def tail(self) -> list[str]:
        """The last lines."""
        return list(self._tail)

    @property
    def last_words(self) -> list[str]:
        """The last lines that announce an abort."""
        return list(self._last_words)


def printed(stream: IO[str]) -> Iterator[str]:
    """The `lines` of a stream, each printed before it is given."""
    for line in lines(stream):
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()
        yield line


def lines(stream: IO[str]) -> Iterator[str]:
    """The lines of a stream, without their ends and without secrets; of one that is too long, its beginning."""
    while piece := stream.readline(MAX_CHARACTERS + _MARGIN):
        text = clean(piece.removesuffix("\n"))  # before anything cuts it, and perhaps a secret, in two
        if len(text) > MAX_CHARACTERS:
            text = f"{text[:MAX_CHARACTERS]}... (cut: the line has more than {MAX_CHARACTERS} characters)"
        yield text
        while piece and not piece.endswith("\n"):
            piece = stream.readline(MAX_CHARACTERS)
