"""Headers say where tensors lie, and are written as they are read."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from qwensft_trainer.merging import weights

from .safetensors import save


def test_tensors_come_in_the_order_of_their_bytes_and_lie_where_they_say(tmp_path: Path) -> None:
    path = save(tmp_path / "a.safetensors", {"b": np.ones((2, 3)), "a": ("BF16", np.arange(4.0)), "n": np.array(7.0)})
    file = weights.File.read(path)
    assert [(one.name, one.dtype, one.shape) for one in file.tensors] == [
        ("b", "F32", (2, 3)),
        ("a", "BF16", (4,)),
        ("n", "F32", ()),
    ]
    raw = path.read_bytes()
    assert np.frombuffer(raw[file.tensors[0].start :][: file.tensors[0].size], "<f4").tolist() == [1.0] * 6
    assert file.metadata == {"format": "pt"}
    assert weights.header_in(path) == raw[: file.tensors[0].start]


def test_a_header_that_is_written_is_read_back(tmp_path: Path) -> None:
    wanted = [("x", "BF16", (3, 5)), ("y", "F32", ()), ("z", "I64", (2,))]
    header = weights.header_of(wanted, {"format": "pt"})
    assert len(header) % 8 == 0
    path = tmp_path / "b.safetensors"
    path.write_bytes(header + bytes(3 * 5 * 2 + 4 + 16))
    file = weights.File.read(path)
    assert [(one.name, one.dtype, one.shape) for one in file.tensors] == wanted
    assert [one.start - len(header) for one in file.tensors] == [0, 30, 34]
