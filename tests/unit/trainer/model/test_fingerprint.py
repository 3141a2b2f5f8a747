"""Two directories have one fingerprint if they hold the same weights, however these are spread over files."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from qwensft_trainer.model import fingerprint

from .. import models
from ..conftest import safetensors

SHAPES = {"a.weight": (64, 64), "b.weight": (3, 5), "c.bias": (7,)}


def fill(path: Path, shapes: dict[str, tuple[int, ...]]) -> None:
    """Weights that depend on the names of the tensors alone."""
    whole = bytearray(safetensors(shapes))
    place = len(whole)
    for name, shape in reversed(shapes.items()):
        size = 4
        for extent in shape:
            size *= extent
        place -= size
        whole[place : place + size] = random.Random(name).randbytes(size)  # noqa: S311
    path.write_bytes(whole)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    models.write(tmp_path / "model", "qwen3")
    fill(tmp_path / "model" / "model.safetensors", SHAPES)
    return tmp_path / "model"


def test_shards_and_other_files_do_not_count(directory: Path) -> None:
    one = fingerprint.of(directory)
    (directory / "config.json").write_text("{}")
    (directory / "model.safetensors").unlink()
    weight_map = {}
    for number, name in enumerate(reversed(SHAPES)):
        fill(directory / f"{number}.safetensors", {name: SHAPES[name]})
        weight_map[name] = f"{number}.safetensors"
    (directory / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    assert fingerprint.of(directory) == one


@pytest.mark.parametrize("shapes", [{"a.weight": (32, 128)}, {"d.weight": (64, 64)}], ids=["shape", "name"])
def test_names_and_shapes_count(directory: Path, shapes: dict[str, tuple[int, ...]]) -> None:
    fill(directory / "model.safetensors", {"a.weight": (64, 64)})
    one = fingerprint.of(directory)
    fill(directory / "model.safetensors", shapes)
    assert fingerprint.of(directory) != one


@pytest.mark.parametrize("name", SHAPES)
def test_another_number_in_the_middle_of_any_tensor_counts(directory: Path, name: str) -> None:
    one, path = fingerprint.of(directory), directory / "model.safetensors"
    whole, place = bytearray(path.read_bytes()), path.stat().st_size
    for other in reversed(SHAPES):
        size = 4
        for extent in SHAPES[other]:
            size *= extent
        place -= size
        if other == name:
            whole[place + size // 2] ^= 1
    path.write_bytes(whole)
    assert fingerprint.of(directory) != one
