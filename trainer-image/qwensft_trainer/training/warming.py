"""Reads what the workers will read, while this pod waits for the others: libraries, rows and the base model.

They are in the page cache then. Nothing depends on it: what fails here is read again by whoever needs it, and told
then. ADR 0133 says why.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from qwensft_trainer.base.environment import memory_limit

_PIECE = 16 << 20
_SHARE_OF_MEMORY = (
    0.5  # of the memory limit: the page cache counts towards it, and what is read last must not push out the first
)
_IMPORTS = "from qwensft_trainer.training.imports import run_exp; run_exp({'stage': 'sft'})"


class Warming:
    """Under way from `start` to `stop`, in a process that imports and a thread that reads."""

    def __init__(self, directories: Iterable[Path]) -> None:
        self._directories = list(directories)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *, imports: bool) -> None:
        """Begin; other work goes first wherever CPUs are scarce. `imports`: the libraries, too, as there is time."""
        if imports:
            with suppress(OSError):
                self._process = subprocess.Popen(
                    ["nice", "-n", "19", sys.executable, "-c", _IMPORTS],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                )
        threading.Thread(target=self._read, name="warming", daemon=True).start()

    def stop(self) -> None:
        """End the imports, which the workers do themselves from here on; the files are read to their end."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def _read(self) -> None:
        left = int(memory_limit() * _SHARE_OF_MEMORY)
        for path in files_of(self._directories):
            with suppress(OSError):
                left -= _read_file(path, left) if path.is_file() else 0
            if left <= 0:
                return


def files_of(directories: Iterable[Path]) -> Iterator[Path]:
    """What is in the directories, in the order in which it is read: rows are smaller, and needed first.

    Directories that cannot be read, or vanish meanwhile, have nothing in them.
    """
    for directory in directories:
        for folder, below, names in os.walk(directory):
            below.sort()
            yield from (Path(folder, name) for name in sorted(names))


def _read_file(path: Path, most: int) -> int:
    """Read a file up to so many bytes; returns how many there were."""
    done = 0
    descriptor = os.open(path, os.O_RDONLY)
    try:
        while done < most and (piece := os.read(descriptor, min(_PIECE, most - done))):
            done += len(piece)
    finally:
        os.close(descriptor)
    return done
