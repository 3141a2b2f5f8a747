"""Lines of logs, each with the rank whose it is where there are several, in the rank's colour."""

from __future__ import annotations

from typing import Final

from qwensft.cli.output import Paint, safe

_COLOURS: Final = ("cyan", "yellow", "green", "magenta", "blue", "red")


def text(line: str, rank: int, ranks: int, paint: Paint) -> str:
    """Return a line of one of so many ranks."""
    said = safe(line.rstrip("\n"))
    if ranks == 1:
        return said
    return f"{paint(_COLOURS[rank % len(_COLOURS)], f'[{rank}]'.rjust(len(str(ranks - 1)) + 2))} {said}"


def head(stage: str, attempt: int) -> str:
    """Return what is said before the lines of another attempt or stage."""
    return f"--- {stage}, attempt {attempt} ---"
