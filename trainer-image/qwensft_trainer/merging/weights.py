"""Safetensors files by their bytes: where each tensor lies, and the header of a file that is to be written.

How a header is read and judged is the part of `model.safetensors_header`. Nothing here holds a tensor.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict

from qwensft_trainer.model import safetensors_header
from qwensft_trainer.model import source as model_source
from qwensft_trainer.model.safetensors_header import SIZES

FLOATS = ("BF16", "F16", "F32")
"""The types that are computed with; others are copied."""

_ALIGNMENT = 8


class Tensor(BaseModel):
    """A tensor in a file: `size` bytes from `start` on, counted from the file's beginning."""

    model_config = ConfigDict(frozen=True)

    path: Path
    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    size: int


class File(BaseModel):
    """A safetensors file: its tensors in the order of their bytes, and what its header says beside them."""

    model_config = ConfigDict(frozen=True)

    path: Path
    tensors: tuple[Tensor, ...]
    metadata: dict[str, str]

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read the header alone. Raises ValueError for what is no safetensors file, or not one alone and whole."""
        header = safetensors_header.read(path)
        if (size := path.stat().st_size) != header.end:
            raise ValueError(f"{size} bytes in place of {header.end}")
        found = [
            Tensor(
                path=path,
                name=name,
                dtype=entry["dtype"],
                shape=entry["shape"],
                start=header.begin + entry["data_offsets"][0],
                size=entry["data_offsets"][1] - entry["data_offsets"][0],
            )
            for name, entry in header.tensors.items()
        ]
        return cls(path=path, tensors=tuple(found), metadata=header.metadata)


def read_model(directory: Path) -> list[File]:
    """The weight files of a complete model directory, in the order of their names."""
    return [File.read(directory / name) for name in model_source.weight_files(directory)]


def size_of(dtype: str, shape: Iterable[int]) -> int:
    """Bytes of a tensor. Raises KeyError for a type that the format does not have."""
    return SIZES[dtype] * math.prod(shape)


def header_of(tensors: Iterable[tuple[str, str, tuple[int, ...]]], metadata: dict[str, str]) -> bytes:
    """What stands before the bytes of these tensors: {name, dtype, shape} in their order, and the length of it all."""
    header: dict[str, Any] = {"__metadata__": metadata} if metadata else {}
    end = 0
    for name, dtype, shape in tensors:
        start, end = end, end + size_of(dtype, shape)
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    return len(text).to_bytes(8, "little") + text


def header_in(path: Path) -> bytes:
    """The header of a file with its length, byte by byte."""
    with path.open("rb") as stream:
        length = stream.read(8)
        return length + stream.read(int.from_bytes(length, "little"))
