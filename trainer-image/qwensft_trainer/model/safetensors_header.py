"""The header of a safetensors file, judged by the format's rules before anything relies on what it says.

It is a JSON object behind its length (8 bytes, little-endian); the tensors follow without gaps, up to the file's end
(https://github.com/huggingface/safetensors#format).
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

_LENGTH_BYTES = 8
_LARGEST = 32 << 20  # bytes, of some 200,000 tensors; as objects of Python they take some twenty times as much
_BYTES = {
    1: ("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0"),
    2: ("U16", "I16", "F16", "BF16"),
    4: ("U32", "I32", "F32"),
    8: ("U64", "I64", "F64"),
}
SIZES = {dtype: size for size, dtypes in _BYTES.items() for dtype in dtypes}
"""Bytes of one number, by the format's name of its type."""


@dataclass(frozen=True)
class Header:
    """`tensors` are {name: {dtype, shape, data_offsets}} in the order of their bytes; offsets count from `begin`.

    `end` is the size in bytes that the file has by its header.
    """

    tensors: dict[str, dict[str, Any]]
    metadata: dict[str, str]
    begin: int
    end: int


def read(path: Path) -> Header:
    """Raises ValueError, with what is wrong, for what is no safetensors file or ends inside of its header."""
    text = _text(path)
    try:
        header = json.loads(text)
    except RecursionError:
        raise ValueError("a header that is nested too deeply") from None
    if not isinstance(header, dict):
        raise ValueError("a header that is no JSON object")
    metadata = header.pop("__metadata__", None) or {}
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise ValueError("__metadata__ in the header holds something else than texts")
    for name, entry in header.items():
        if problem := _problem(entry):
            raise ValueError(f"the header says of {name!r:.100} {problem}")
    tensors = dict(sorted(header.items(), key=lambda item: item[1]["data_offsets"]))
    end = 0
    for name, entry in tensors.items():
        start, following = entry["data_offsets"]
        if start != end:
            raise ValueError(f"by the header {name!r:.100} does not begin where the tensor before it ends")
        end = following
    begin = _LENGTH_BYTES + len(text)
    return Header(tensors, metadata, begin, begin + end)


def _text(path: Path) -> bytes:
    size = path.stat().st_size
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(_LENGTH_BYTES), "little")
        if length < 2:
            raise ValueError("no safetensors header")
        if length > size - _LENGTH_BYTES:
            raise ValueError(f"no safetensors header, or half of one: it says {length} bytes, and the file has {size}")
        if length > _LARGEST:
            raise ValueError(f"a header of {length >> 20} MiB; at most {_LARGEST >> 20} are read")
        return stream.read(length)


def _problem(entry: Any) -> str | None:
    if not isinstance(entry, dict):
        return "no dtype, shape and data_offsets"
    dtype, shape, offsets = entry.get("dtype"), entry.get("shape"), entry.get("data_offsets")
    if not isinstance(dtype, str):
        return "no dtype"
    if not _are_counts(shape):
        return f"a shape that is none ({shape!r:.50})"
    if not _are_counts(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        return f"data_offsets that are none ({offsets!r:.50})"
    # Types of less than a byte, and those of newer versions, are not known here: their sizes are not judged.
    if dtype in SIZES and math.prod(shape) * SIZES[dtype] != offsets[1] - offsets[0]:
        return f"{offsets[1] - offsets[0]} bytes, which do not hold {dtype} of shape {shape!r:.50}"
    return None


def _are_counts(value: Any) -> TypeGuard[list[int]]:
    return isinstance(value, list) and all(type(one) is int and one >= 0 for one in value)
