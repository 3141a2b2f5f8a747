"""What may be shown of any text: nothing of this process's credentials, and no control characters.

Everything that leaves a pod as text goes through `clean`: what it prints, with what it relays of its children, and the
termination message. Libraries put tokens into errors and tracebacks, so hiding them where they are used is not enough.
"""

from __future__ import annotations

import base64
import json
import re
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TextIO, cast
from urllib.parse import quote, quote_plus

HIDDEN = "[redacted]"
# Shorter ones stand in too many words that are none: hiding "prod" would make nonsense of every message.
MIN_CHARACTERS = 8

# All but tab and newline; overrides of direction turn round what is read.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_LINE_ENDS = re.compile(r"\r\n?")


class Secrets:
    """The values to hide, and their usual spellings in errors, addresses and headers."""

    def __init__(self) -> None:
        self._spellings: set[str] = set()
        self._pattern: re.Pattern[str] | None = None

    def add(self, secret: str) -> None:
        """Hide a value from now on; of one with several lines, each line."""
        pieces = {secret.strip(), *(piece.strip() for piece in _CONTROL.sub("\n", secret).split("\n"))}
        self._spellings |= {
            spelling for piece in pieces if len(piece) >= MIN_CHARACTERS for spelling in _spellings(piece)
        }
        if self._spellings:
            longest_first = sorted(self._spellings, key=len, reverse=True)
            self._pattern = re.compile("|".join(re.escape(spelling) for spelling in longest_first))

    def remove_from(self, text: str) -> str:
        """The text with HIDDEN in the place of every known value."""
        return self._pattern.sub(HIDDEN, text) if self._pattern else text


secrets = Secrets()


def clean(text: str) -> str:
    """`text` without secrets; control characters but tab and newline, and lone surrogates, are written as escapes."""
    shown = _LINE_ENDS.sub("\n", secrets.remove_from(text))
    shown = _CONTROL.sub(lambda found: ascii(found[0])[1:-1], shown)
    return shown.encode(errors="backslashreplace").decode()


def clean_all(value: Any) -> Any:
    """A value of JSON's types with every text in it cleaned."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, Mapping):
        return {key: clean_all(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [clean_all(entry) for entry in value]
    return value


@contextmanager
def clean_output() -> Iterator[None]:
    """Clean whatever this process prints on stdout and stderr meanwhile, tracebacks and libraries' logs included."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (cast("TextIO", _CleanStream(stream)) for stream in before)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        sys.stdout, sys.stderr = before


class _CleanStream:
    """Hands whole lines on: print and logging write a line in several pieces, and a secret may lie across them."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._begun = threading.local()

    def write(self, text: str) -> int:
        lines, end, rest = (getattr(self._begun, "text", "") + text).rpartition("\n")
        self._begun.text = rest
        if end:
            self._stream.write(clean(lines + end))
        return len(text)

    def writelines(self, texts: list[str]) -> None:
        self.write("".join(texts))

    def flush(self) -> None:
        rest, self._begun.text = getattr(self._begun, "text", ""), ""
        if rest:
            self._stream.write(clean(rest))
        self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _spellings(secret: str) -> Iterator[str]:
    yield secret
    yield from (quote(secret, safe=""), quote_plus(secret))
    yield from (repr(secret)[1:-1], ascii(secret)[1:-1], json.dumps(secret)[1:-1])
    yield from _in_base64(secret.encode(errors="surrogateescape"))


def _in_base64(secret: bytes) -> Iterator[str]:
    """What base64 makes of the secret within a longer text, such as user:password, by its place in there."""
    for before in range(3):
        encoded = base64.b64encode(bytes(before) + secret).decode().rstrip("=")
        # Characters that also hold bits of what stands before and after are left out.
        own = encoded[(0, 2, 3)[before] : len(encoded) - bool((before + len(secret)) % 3)]
        yield from (own, own.translate(str.maketrans("+/", "-_")))
