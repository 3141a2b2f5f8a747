"""Reads what torchrun prints in the end of the workers that a signal has killed: they leave no error file."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_ROOT = "Root Cause (first observed failure):"
_BLOCK = re.compile(r"^\s*rank\s*: (\d+) \(local_rank: (\d+)\)\s+exitcode\s*: -(\d+)", re.MULTILINE)


@dataclass(frozen=True)
class Killed:
    """A worker of this node: its rank among all of the gang, its rank on the node, and the number of the signal."""

    rank: int
    local_rank: int
    signal: int


def killed(output: str) -> list[Killed]:
    """The workers that a signal has killed, the first one observed before the others."""
    others, _, root = output.rpartition(_ROOT)
    return [*_blocks(root), *_blocks(others)]


def _blocks(text: str) -> Iterator[Killed]:
    return (Killed(*map(int, numbers)) for numbers in _BLOCK.findall(text))
