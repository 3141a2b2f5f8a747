"""Completion for `kubectl qwensft`: kubectl runs kubectl_complete-qwensft with the words, and reads one answer a line.

The last line is ":4": no files beside. `qwensft` itself completes through typer (--install-completion).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

_NO_FILES = ":4"
_FILES = ":0"
_OF_FILES = frozenset({"init", "check", "preview", "render", "estimate", "submit"})


def main() -> None:
    """Print what may stand in the place of the last word."""
    for line in answers(sys.argv[1:]):
        sys.stdout.write(f"{line}\n")


def answers(words: Sequence[str]) -> list[str]:
    """Return commands, then options, or names of runs where a command takes these."""
    from typer.main import get_command

    from qwensft.cli.app import app
    from qwensft.cli.cluster import names

    *before, word = list(words) or [""]
    commands = getattr(get_command(app), "commands", {})
    command = next((one for one in before if one in commands), None)
    if command is None:
        found = list(commands)
    elif word.startswith("-"):
        found = [option for parameter in commands[command].params for option in parameter.opts if option[:1] == "-"]
    elif command in _OF_FILES:
        return [_FILES]
    else:
        found = names(word)
    return [*(one for one in found if one.startswith(word)), _NO_FILES]
