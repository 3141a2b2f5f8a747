"""What the command line asks of a run's volume: names with sizes, bytes from an offset, and to take folders away."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol


class Volume(Protocol):
    """A directory tree; paths are relative to its root, with slashes."""

    def sizes(self, folder: str) -> dict[str, int]:
        """Return the bytes of all files below a folder, by paths relative to it; {} where there is no such folder."""

    def read(self, path: str, offset: int = 0) -> Iterator[bytes]:
        """Yield a file's bytes from an offset on, in pieces."""

    def remove(self, folders: list[str]) -> None:
        """Delete folders with all that is in them."""
