"""`why`: the client's page about a run, with its first line and its titles in bold."""

from __future__ import annotations

from qwensft.cli.output import Paint, safe


def text(page: str, paint: Paint) -> str:
    """Return the page; lines that are not indented are titles."""
    lines = safe(page).split("\n")
    return "\n".join(line if line.startswith(" ") else paint("bold", line) for line in lines)
