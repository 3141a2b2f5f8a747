"""Whether a file of a checkpoint is whole is told by its own format."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from qwensft_trainer.training.intact import garbled

from ..conftest import UNREADABLE, safetensors


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Whole files of every kind; archives as torch.save makes them."""
    (tmp_path / "global_step8").mkdir()
    for name in ("optimizer.pt", "rng_state_0.pth", "training_args.bin", "global_step8/zero_rank_0.pt"):
        with zipfile.ZipFile(tmp_path / name, "w", zipfile.ZIP_STORED) as archive:
            archive.writestr("archive/data.pkl", b"\x80\x02}q\x00.")
            archive.writestr("archive/data/0", bytes(range(256)) * 100)
    (tmp_path / "adapter_model.safetensors").write_bytes(safetensors({"lora_A": (2, 8), "lora_B": (8, 2)}))
    (tmp_path / "trainer_state.json").write_text('{"global_step": 8}')
    (tmp_path / "README.md").write_bytes(b"\xff any bytes")
    return tmp_path


def flip(path: Path, at: int) -> None:
    """Another byte at a place, from the end where it is negative."""
    content = bytearray(path.read_bytes())
    content[at] ^= 0xFF
    path.write_bytes(content)


def test_whole_files_are_whole(folder: Path) -> None:
    assert garbled(folder) is None


@pytest.mark.parametrize(
    ("name", "harm"),
    [
        ("optimizer.pt", lambda p: p.write_bytes(b"")),
        ("optimizer.pt", lambda p: p.write_bytes(bytes(p.stat().st_size))),
        ("optimizer.pt", lambda p: os.truncate(p, p.stat().st_size // 2)),
        ("rng_state_0.pth", lambda p: flip(p, 5000)),  # in the middle of the numbers
        ("training_args.bin", lambda p: flip(p, -65)),  # in the table at its end
        ("global_step8/zero_rank_0.pt", lambda p: flip(p, 0)),
        ("adapter_model.safetensors", lambda p: p.write_bytes(b"")),
        ("adapter_model.safetensors", lambda p: p.write_bytes(bytes(p.stat().st_size))),
        ("adapter_model.safetensors", lambda p: os.truncate(p, p.stat().st_size - 1)),
        ("adapter_model.safetensors", lambda p: p.write_bytes(b"\xff" * 64)),
        ("adapter_model.safetensors", lambda p: p.write_bytes(b"\x02" + bytes(7) + b"[]")),
        ("trainer_state.json", lambda p: p.write_text('{"global_step": ')),
        ("trainer_state.json", lambda p: p.write_text("[" * 200_000)),
    ],
)
def test_a_damaged_file_is_named(folder: Path, name: str, harm: Callable[[Path], object]) -> None:
    harm(folder / name)
    told = garbled(folder)
    assert told is not None
    assert told.startswith(name)


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "trainer_state.json"])
def test_a_volume_in_trouble_is_no_damage(folder: Path, name: str) -> None:
    (folder / name).unlink()
    (folder / name).symlink_to(UNREADABLE)
    with pytest.raises(OSError, match="Input/output error"):
        garbled(folder)
