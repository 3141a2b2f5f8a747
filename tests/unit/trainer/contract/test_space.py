"""A volume without room is told with how much there is, how much is needed, and which field to change."""

import errno
import os
import shutil
from pathlib import Path

import pytest

from qwensft_trainer.contract import space
from qwensft_trainer.contract.errors import StageError

MIB = 1 << 20


@pytest.fixture(autouse=True)
def _little_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(2048 * MIB, 2038 * MIB, 10 * MIB))


def test_what_fits_is_nobody_s_matter(tmp_path: Path) -> None:
    space.require(tmp_path, 10 * MIB, "the model needs")


def test_what_does_not_fit_is_told_before_it_is_written(tmp_path: Path) -> None:
    with pytest.raises(StageError) as told:
        space.require(tmp_path, 15 * MIB, "the next checkpoint needs")
    assert (told.value.reason, told.value.exit_code) == ("DiskFull", 1)
    for words in ("10.0 MiB free", "the next checkpoint needs 15.0 MiB", "requests.storage, 5.0 MiB more",
                  "spec.storage.volume"):  # fmt: skip
        assert words in told.value.message


@pytest.mark.parametrize("number", sorted(space.FULL))
def test_an_error_is_told_with_its_file_and_the_room_there_is(number: int, tmp_path: Path) -> None:
    path = tmp_path / "data" / "rows"
    told = space.disk_full(OSError(number, os.strerror(number), str(path)), tmp_path)
    assert told.reason == "DiskFull"
    assert f"while writing {path}" in told.message
    assert "10.0 MiB of 2.0 GiB are free" in told.message
    assert "spec.resources.requests.storage" in told.message


def test_an_error_without_a_file_and_a_volume_that_does_not_answer_are_told_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: Path) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(shutil, "disk_usage", broken)
    told = space.disk_full(OSError(errno.ENOSPC, "No space left on device"), tmp_path)
    assert "No space left (No space left on device; how much is free cannot be told)" in told.message


def test_a_volume_is_full_when_next_to_nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert space.is_full(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(2000 * MIB, 1979 * MIB, 21 * MIB))
    assert not space.is_full(tmp_path)


@pytest.mark.parametrize(("number", "words"), [(0, "0 bytes"), (2000, "2.0 KiB"), (3 * MIB, "3.0 MiB")])
def test_sizes_are_told_in_a_fitting_unit(number: int, words: str) -> None:
    assert space.size(number) == words


def test_a_file_system_that_tells_no_size_is_not_judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(0, 0, 0))
    space.require(tmp_path, 1000, "the model needs")
    assert not space.is_full(tmp_path)
