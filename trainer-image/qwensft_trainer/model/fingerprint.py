"""Whether two directories hold the weights of one model: told by a piece out of the middle of every tensor.

To read all takes minutes, and models that were trained differ in nearly every tensor. How weights are spread over files
does not count.
ADR 0196 says why.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qwensft_trainer.model import safetensors_header
from qwensft_trainer.model import source as model_source

_PIECE = 4096  # bytes
_AT_A_TIME = 16  # threads, that mostly wait for the volume


@dataclass(frozen=True)
class _Tensor:
    name: str
    entry: dict[str, Any]
    file: int
    begin: int

    def line(self) -> str:
        start, end = self.entry["data_offsets"]
        middle = max(start, start + (end - start - _PIECE) // 2)
        piece = os.pread(self.file, min(_PIECE, end - start), self.begin + middle)
        known = [self.name, self.entry["dtype"], self.entry["shape"], hashlib.sha256(piece).hexdigest()]
        return json.dumps(known) + "\n"


def of(directory: Path) -> str:
    """Of a complete model directory: `sha256:<hex>`."""
    with ExitStack() as stack, ThreadPoolExecutor(_AT_A_TIME) as threads:
        lines = sorted(threads.map(_Tensor.line, list(_tensors(directory, stack))))
    return "sha256:" + hashlib.sha256("".join(lines).encode()).hexdigest()


def _tensors(directory: Path, stack: ExitStack) -> Iterator[_Tensor]:
    for name in model_source.weight_files(directory):
        header = safetensors_header.read(directory / name)
        file = stack.enter_context((directory / name).open("rb")).fileno()
        for tensor, entry in header.tensors.items():
            yield _Tensor(tensor, entry, file, header.begin)
