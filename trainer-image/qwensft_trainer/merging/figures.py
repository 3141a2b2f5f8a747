"""What a merge tells of itself: the bytes of the weights, live for /metrics, and at the end for the report."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from qwensft_trainer.base import files
from qwensft_trainer.base.metrics_server import Figures

_FIGURES = {
    "bytes_done": ("bytesDone", "Bytes of the merged weights that are written."),
    "bytes_total": ("bytesTotal", "Bytes of all merged weights."),
}
HELP = {name: text for name, (_, text) in _FIGURES.items()}


def figures(path: Path, about: Mapping[str, str] = MappingProxyType({})) -> Figures:
    """The figures in the file at `path`, which the streaming engine writes, none before it begins; and whose."""

    def read() -> dict[str, float | None]:
        current = files.read_json_object(path) or {}
        return {name: current.get(key) for name, (key, _) in _FIGURES.items()}

    return Figures("qwensft_merge_", HELP, read, about)


def final(size: int) -> dict[str, int]:
    """Those of a complete merge, in the spelling of the termination message."""
    return {key: size for key, _ in _FIGURES.values()}
