"""Reads a traceback as Python prints it: which exceptions it shows, and through which files the last one went."""

from __future__ import annotations

import re
from dataclasses import dataclass

_LINKS = re.compile(
    r"\n(?:The above exception was the direct cause of the following exception"
    r"|During handling of the above exception, another exception occurred):\n"
)
_FRAME = re.compile(r'^  File "(.+)", line \d+, in .+$')
_EXCEPTION = re.compile(r"([\w.]+)(?:: (.*))?", re.DOTALL)


@dataclass(frozen=True)
class Raised:
    """One exception: its type's name without the module, its text, and the files of its frames, outermost first."""

    type: str
    message: str = ""
    files: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """As Python prints it, without the module."""
        return f"{self.type}: {self.message}"


def parse(text: str) -> list[Raised]:
    """The exceptions of a traceback in its order: the one that was not caught is the last. Empty for any other text."""
    found = (_parse_one(part) for part in _LINKS.split(text))
    return [raised for raised in found if raised is not None]


def parse_exception(text: str, files: tuple[str, ...] = ()) -> Raised | None:
    """An exception out of "module.Type: message"."""
    match = _EXCEPTION.match(text)
    return Raised(match[1].rpartition(".")[2], match[2] or "", files) if match else None


def _parse_one(text: str) -> Raised | None:
    lines = text.strip("\n").splitlines()
    files = []
    for number, line in enumerate(lines):
        if frame := _FRAME.match(line):
            files.append(frame[1])
        elif files and not line.startswith(" "):  # source lines and their marks are indented
            return parse_exception("\n".join(lines[number:]), tuple(files))
    return None
