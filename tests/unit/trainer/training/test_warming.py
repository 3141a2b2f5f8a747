"""What the workers will read is read before, and whatever goes wrong there is no matter."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

import pytest

from qwensft_trainer.training import warming
from qwensft_trainer.training.warming import Warming, files_of

from ..waiting import eventually


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    for name, size in (("rows/a", 10), ("rows/b/c", 20), ("model/one", 300), ("model/two", 400)):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(bytes(size))
    return tmp_path


def wait() -> None:
    eventually(lambda: not any(thread.name == "warming" for thread in threading.enumerate()))


def read_by(volume: Path, monkeypatch: pytest.MonkeyPatch, memory: int) -> list[tuple[str, int]]:
    """Names and bytes of what is read with so much memory, in order."""
    monkeypatch.setattr(warming, "memory_limit", lambda: memory)
    found: list[tuple[str, int]] = []
    read = warming._read_file

    def note(path: Path, most: int) -> int:
        found.append((path.name, read(path, most)))
        return found[-1][1]

    monkeypatch.setattr(warming, "_read_file", note)
    under_way = Warming([volume / "rows", volume / "model", volume / "absent"])
    under_way.start(imports=False)
    wait()
    under_way.stop()
    return found


def test_rows_are_read_first_and_then_the_model(volume: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_by(volume, monkeypatch, 1 << 20) == [("a", 10), ("c", 20), ("one", 300), ("two", 400)]


def test_no_more_is_read_than_half_of_the_memory_holds(volume: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_by(volume, monkeypatch, 200) == [("a", 10), ("c", 20), ("one", 70)]


def test_a_file_that_cannot_be_read_is_no_matter(volume: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[str] = []

    def fail(path: Path, _: int) -> int:
        tried.append(path.name)
        raise OSError(5, "Input/output error", str(path))

    monkeypatch.setattr(warming, "_read_file", fail)
    Warming([volume]).start(imports=False)
    wait()
    assert sorted(tried) == ["a", "c", "one", "two"]


def test_a_folder_that_vanishes_is_no_matter(volume: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = files_of([volume / "rows", volume / "model"])
    assert next(files) == volume / "rows" / "a"
    shutil.rmtree(volume / "rows")
    assert [path.name for path in files] == ["one", "two"]
    assert read_by(volume, monkeypatch, 1 << 20) == [("one", 300), ("two", 400)]


def test_the_libraries_are_imported_while_there_is_time_and_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warming, "_IMPORTS", "import time; time.sleep(600)")
    under_way = Warming([])
    under_way.start(imports=True)
    process = under_way._process
    assert process is not None
    assert process.poll() is None
    under_way.stop()
    assert process.poll() is not None


def test_files_are_found_in_all_folders(volume: Path) -> None:
    assert [path.name for path in files_of([volume / "model", volume / "rows"])] == ["one", "two", "a", "c"]
