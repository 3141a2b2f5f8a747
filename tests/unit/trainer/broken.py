"""Makes bad files of one kind after another: what hubs, volumes and people have in the place of what is expected."""

from __future__ import annotations

import json
import os
import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

Break = Callable[[Path], None]

# Of every type that JSON has, and of each the one that is next to right.
VALUES: tuple[Any, ...] = (None, True, -1, 0, 1.5, 1e308, 10**30, "", "many", [], [1], [[]], {}, {"a": 1})


def contents() -> Iterator[tuple[str, bytes]]:
    """Contents that are no JSON object, or one that cannot be read."""
    yield "empty", b""
    yield "a byte order mark alone", b"\xef\xbb\xbf"
    yield "cut off", b'{"model_type": "qwen3", "hidden'
    yield "a list", b"[]"
    yield "null", b"null"
    yield "a text", b'"qwen3"'
    yield "a number of many digits", b"9" * 10_000
    yield "not UTF-8", b'{"a": "\xff\xfe"}'
    yield "UTF-16", '{"model_type": "qwen3"}'.encode("utf-16")
    yield "nested deeply", b"[" * 200_000
    yield "objects nested deeply", b'{"a":' * 200_000
    yield "zero bytes", bytes(4096)
    yield "a page of a login", b"<!doctype html><html></html>"
    yield "a pointer of Git LFS", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"


def places() -> Iterator[tuple[str, Break]]:
    """What may stand in the place of a file without being one that can be read."""
    yield "nothing", Path.unlink
    yield "a directory", lambda path: _instead(path, Path.mkdir)
    yield "a pipe", lambda path: _instead(path, os.mkfifo)
    yield "a socket", lambda path: _instead(path, _socket)
    yield "a link to nothing", lambda path: _instead(path, lambda there: there.symlink_to("gone"))
    yield "a link to itself", lambda path: _instead(path, lambda there: there.symlink_to(there.name))
    yield "a link out of the volume", lambda path: _instead(path, lambda there: there.symlink_to("/etc/hostname"))
    yield "a device", lambda path: _instead(path, lambda there: there.symlink_to("/dev/zero"))


def headers(count: int = 3) -> Iterator[tuple[str, bytes]]:
    """Safetensors files of which each is wrong in one thing; `count` tensors of 8 bytes."""
    right = {f"t{number}": _entry(8 * number, 8 * number + 8) for number in range(count)}
    yield "half of the length", b"\x10\0\0"
    yield "a header longer than the file", struct.pack("<Q", 1 << 20) + b"{}"
    yield "a length beyond all memory", struct.pack("<Q", (1 << 64) - 1) + b"{}"
    yield "a negative length", struct.pack("<q", -1) + b"{}"
    for name, content in contents():
        yield f"a header that is {name}", struct.pack("<Q", len(content)) + content
    for key in ("dtype", "shape", "data_offsets"):
        yield f"no {key}", packed(right | {"t1": {name: value for name, value in right["t1"].items() if name != key}})
        for value in VALUES:
            yield f"{key} {value!r}", packed(right | {"t1": right["t1"] | {key: value}})
    for value in VALUES[1:]:
        yield f"an entry {value!r}", packed(right | {"t1": value})
        if value:
            yield f"metadata {value!r}", packed(right | {"__metadata__": value})
    for name, offsets in {
        "negative offsets": [-8, 0],
        "offsets the other way round": [16, 8],
        "offsets that overlap": [0, 8],
        "a gap": [24, 32],
        "three offsets": [8, 16, 24],
        "offsets behind the end": [1 << 40, (1 << 40) + 8],
        "offsets of text": ["8", "16"],
        "offsets of lists": [[8], [16]],
    }.items():
        yield name, packed(right | {"t1": right["t1"] | {"data_offsets": offsets}})
    yield "a shape of another size", packed(right | {"t1": right["t1"] | {"shape": [3]}})
    yield "a shape beyond all memory", packed(right | {"t1": right["t1"] | {"shape": [1 << 40, 1 << 40]}})
    yield "bytes missing", packed(right)[:-1]
    yield "bytes too many", packed(right) + b"\0"
    yield "a header of zeros behind its JSON", packed(right, behind=bytes(16))


def packed(header: dict[str, Any], *, behind: bytes = b"") -> bytes:
    """A file with this header, and 8 bytes for each entry."""
    text = json.dumps(header).encode() + behind
    return struct.pack("<Q", len(text)) + text + bytes(8 * (len(header) - ("__metadata__" in header)))


def _entry(start: int, end: int) -> dict[str, Any]:
    return {"dtype": "F32", "shape": [2], "data_offsets": [start, end]}


def _instead(path: Path, make: Callable[[Path], Any]) -> None:
    path.unlink(missing_ok=True)
    make(path)


def _socket(path: Path) -> None:
    """Of a name as short as sockets need it, then moved."""
    with socket.socket(socket.AF_UNIX) as own:
        short = Path("/tmp") / f"s{os.getpid()}"  # noqa: S108
        own.bind(str(short))
    os.replace(short, path)
