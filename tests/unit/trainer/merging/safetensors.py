"""Safetensors files of chosen numbers, and the numbers of a file; written by the format's description, not by ours."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

_TYPES = {"F32": "<f4", "F16": "<f2", "I64": "<i8"}


def bf16(values: Any) -> Any:
    """Numbers as the bits of bfloat16, rounded towards zero."""
    return (np.asarray(values, "<f4").view("<u4") >> 16).astype("<u2")


def save(path: Path, tensors: Mapping[str, Any], dtype: str = "F32") -> Path:
    """Write arrays in their order; a pair (dtype, array) has a type of its own. BF16 arrays are bits, as of `bf16`."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    body = b""
    for name, given in tensors.items():
        kind, values = given if isinstance(given, tuple) else (dtype, given)
        if kind == "BF16":
            values = values if values.dtype == "<u2" else bf16(values)
        part = np.ascontiguousarray(values, None if kind == "BF16" else _TYPES[kind]).tobytes()
        header[name] = {"dtype": kind, "shape": list(values.shape), "data_offsets": [len(body), len(body) + len(part)]}
        body += part
    text = json.dumps(header).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(struct.pack("<Q", len(text)) + text + body)
    return path


def load(path: Path) -> dict[str, Any]:
    """{name: array}; of BF16 as float32."""
    raw = path.read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8 : 8 + length])
    header.pop("__metadata__", None)
    found = {}
    for name, entry in header.items():
        start, end = (8 + length + offset for offset in entry["data_offsets"])
        if entry["dtype"] == "BF16":
            values = (np.frombuffer(raw[start:end], "<u2").astype("<u4") << 16).view("<f4")
        else:
            values = np.frombuffer(raw[start:end], _TYPES[entry["dtype"]])
        found[name] = values.reshape(entry["shape"])
    return found
