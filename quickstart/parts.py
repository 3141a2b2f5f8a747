"""What a program that builds something is at, by its own output: the parts that it says it begins.

local-cluster/ prints `== step: TITLE` (`announce` in its lib/common.sh) where it writes to no terminal; buildah and
podman print `STEP 3/7: RUN ...` for each line of a Dockerfile, and `COMMIT NAME`.
ADR 0081 says why.
"""

from __future__ import annotations

import re
from pathlib import Path

TITLE_CHARACTERS = 60
_STEP = re.compile(r"== step: (.+)")
_STAGE = r"(?:\[\d+/\d+\] )?"
_BUILDAH = re.compile(rf"{_STAGE}(?:STEP \d+/\d+: |COMMIT )\S.*")


def part_begun(line: str) -> str | None:
    """Return the title of the part that begins with this line of output, in at most 60 characters; None for others."""
    if found := _STEP.fullmatch(line):
        title = found[1]
    elif _BUILDAH.fullmatch(line):
        title = line
    else:
        return None
    return " ".join(title.split())[:TITLE_CHARACTERS].rstrip()


class GrowingLog:
    """A log file that a running program writes; gives each line once, when it is complete."""

    def __init__(self, path: Path) -> None:
        self._file = path.open(errors="replace")
        self._unfinished = ""

    def __enter__(self) -> GrowingLog:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def new_lines(self) -> list[str]:
        """Return the lines that have been completed since the last call."""
        *lines, self._unfinished = (self._unfinished + self._file.read()).split("\n")
        return lines
