"""What ends a command, as a sentence that says the way out, and the exit codes. docs/cli.md lists them."""

from __future__ import annotations

from typing import Final

DONE: Final = 0
FAILED: Final = 1
"""The answer is no: the run has failed, the job or its rows are not right, the training does not fit."""
USAGE: Final = 2
"""The command was not understood, or a file cannot be read or written on this machine."""
CLUSTER: Final = 3
"""The cluster could not be asked, refuses, or has no such run."""
MISSING: Final = 4
"""A package is missing on this machine."""
FAULT: Final = 70
"""A fault of this program."""
INTERRUPTED: Final = 130


class CommandError(Exception):
    """Ends the command. The text is one sentence, and says what to do."""

    def __init__(self, message: str, code: int = USAGE) -> None:
        super().__init__(message)
        self.code = code


def missing_package(what: str, extra: str) -> CommandError:
    """Return the error for a package that an extra of the distribution brings."""
    return CommandError(f"{what}: pip install 'qwensft[{extra}]'", MISSING)
