"""Texts that nobody has written: what programs put in the place of nothing, or of a lost character."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

MISSING = "have a text that is nothing but '{}', which programs write for what is missing: it is trained as it stands"
LOST = "have \ufffd in a text, the mark of a character that was lost when a file was read with another encoding"

# pandas' and Python's, a spreadsheet's, and Alpaca's own for a question without input.
_NOTHING = frozenset(("nan", "none", "null", "<na>", "#n/a", "<noinput>", "undefined"))
_LONGEST = max(map(len, _NOTHING))


def remarks(texts: Iterable[str]) -> Iterator[str]:
    """What to tell of a row with these texts."""
    for text in texts:
        if len(text) <= _LONGEST + 2 and (said := text.strip()).lower() in _NOTHING:
            yield MISSING.format(said)
        elif "\ufffd" in text:
            yield LOST
