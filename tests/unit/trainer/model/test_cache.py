"""Ten jobs that start together download a model once, also when one of their pods is killed on the way."""

from __future__ import annotations

import errno
import functools
import multiprocessing
import os
import shutil
import time
from collections.abc import Callable, Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
from tests.hubs import huggingface
from tests.hubs.fixtures import RunningHub, running

from qwensft_trainer.base.lease import Lease
from qwensft_trainer.hubs.download import download_files, open_repository
from qwensft_trainer.hubs.repository import HubFile, Snapshot
from qwensft_trainer.model import cache

SIZE = 2_000_000
PODS = 10


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunningHub]:
    model = tmp_path / "served" / "models" / "Qwen" / "Qwen3-Tiny"
    model.mkdir(parents=True)
    (model / "config.json").write_text("{}")
    (model / "model.safetensors").write_bytes(os.urandom(SIZE))
    monkeypatch.setattr(cache, "Lease", functools.partial(Lease, beat=0.1, lease=60.0, poll=0.05))
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 50_000)
    with running(huggingface, tmp_path / "served") as server:
        yield server


def fill(tmp_path: Path, url: str, number: int) -> None:
    repository = open_repository(
        hub="huggingFace", kind="model", repo="Qwen/Qwen3-Tiny", endpoint=url, token=None, field="spec.model.source"
    )
    snapshot = repository.snapshot(None)
    entry = cache.entry_of(tmp_path / "cache", "huggingFace", snapshot.repo, snapshot.commit)
    cache.fill_shared(entry, repository, snapshot, owner=f"team/job-{number}")
    assert cache.manifest_of(entry) is not None
    (tmp_path / f"done-{number}").touch()


def start(tmp_path: Path, served: RunningHub, pods: int) -> list[BaseProcess]:
    fork = multiprocessing.get_context("fork")
    processes: list[BaseProcess] = [
        fork.Process(target=fill, args=(tmp_path, served.url, number), name=f"job-{number}") for number in range(pods)
    ]
    for process in processes:
        process.start()
    return processes


def holder(tmp_path: Path) -> int:
    """The number of the job that downloads."""
    while True:
        for path in (tmp_path / "cache").glob("*/*/.*.lock.*"):
            text = path.read_text() if path.exists() else ""
            if "team/job-" in text:
                return int(text.partition("team/job-")[2].partition('"')[0])
        time.sleep(0.01)


def test_ten_jobs_download_once(tmp_path: Path, served: RunningHub) -> None:
    processes = start(tmp_path, served, PODS)
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0] * PODS
    assert len(list(tmp_path.glob("done-*"))) == PODS
    assert served.sent("model.safetensors") == SIZE
    (entry,) = [path for path in (tmp_path / "cache").glob("*/*/*") if not path.name.startswith(".")]
    assert (entry / "model.safetensors").stat().st_size == SIZE


def test_when_the_downloading_pod_is_killed_another_one_goes_on_where_it_stopped(
    tmp_path: Path, served: RunningHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Soon over for the test's sake, but longer than a busy machine keeps a living holder from its heartbeat.
    monkeypatch.setattr(cache, "Lease", functools.partial(Lease, beat=0.1, lease=3.0, poll=0.05))
    served.fault(delay=0.3)  # some 9 s for the weights: they must not be here before the pod is killed
    processes = start(tmp_path, served, 4)
    at_it = holder(tmp_path)
    part = None
    while part is None or part.stat().st_size < 200_000:
        part = next(iter((tmp_path / "cache").glob("*/*/.*.partial/model.safetensors.part")), None)
        time.sleep(0.01)
    processes[at_it].kill()
    served.fault()
    for process in processes:
        process.join(120)
    assert sorted(str(process.exitcode) for process in processes) == ["-9", "0", "0", "0"]
    assert len(list(tmp_path.glob("done-*"))) == 3
    resumed = [line for line in served.asked_for("_lfs") if " 206 " in line]
    assert len(resumed) == 1
    assert int(resumed[0].split()[-1]) <= SIZE - 200_000


def test_when_a_download_fails_the_next_in_line_tries(tmp_path: Path, served: RunningHub) -> None:
    served.fault(status=403, path="config.json", times=1)
    processes = start(tmp_path, served, 3)
    for process in processes:
        process.join(120)
    assert sorted(process.exitcode or 0 for process in processes) == [0, 0, 1]
    assert len(list(tmp_path.glob("done-*"))) == 2


class Asleep:
    """A pod that has lost its lease in the middle of its download, and finishes it while another one is at it."""

    def __init__(self, tmp_path: Path, served: RunningHub) -> None:
        self.repository = open_repository(
            hub="huggingFace", kind="model", repo="Qwen/Qwen3-Tiny", endpoint=served.url, token=None, field="a"
        )
        self.snapshot = self.repository.snapshot(None)
        self.entry = cache.entry_of(tmp_path / "cache", "huggingFace", "Qwen/Qwen3-Tiny", self.snapshot.commit)
        self.partial = self.entry.with_name(f".{self.entry.name}.partial")

    def finishes(self) -> None:
        cache._fill(self.entry, self.partial, self.repository, self.snapshot, lambda: None)

    def other(self) -> None:
        cache.fill_shared(self.entry, self.repository, self.snapshot, owner="team/other")


def test_what_a_sleeper_finishes_after_the_lease_was_taken_over_is_not_fetched_again(
    tmp_path: Path, served: RunningHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    sleeper = Asleep(tmp_path, served)

    class Slow(Lease):
        def acquire(self, unless: Callable[[], bool]) -> bool:
            is_ours = super().acquire(unless)
            sleeper.finishes()
            return is_ours

    monkeypatch.setattr(cache, "Lease", functools.partial(Slow, beat=0.1, poll=0.05))
    sleeper.other()
    assert cache.manifest_of(sleeper.entry) is not None
    assert served.sent("model.safetensors") == SIZE
    assert not sleeper.partial.exists()


@pytest.mark.parametrize("moment", ["before the first byte", "after the last byte"])
def test_what_a_sleeper_finishes_while_another_pod_downloads_counts_and_nothing_is_left_beside_it(
    tmp_path: Path, served: RunningHub, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    sleeper = Asleep(tmp_path, served)
    download = download_files

    def beside(*arguments: Any, **named: Any) -> None:
        monkeypatch.setattr(cache, "download_files", download)
        if moment == "before the first byte":
            sleeper.finishes()
        download(*arguments, **named)
        if moment == "after the last byte":
            shutil.copytree(sleeper.partial, sleeper.entry)
            cache._write_manifest(sleeper.entry, sleeper.snapshot, sleeper.snapshot.files, complete=True)

    monkeypatch.setattr(cache, "download_files", beside)
    sleeper.other()
    assert cache.manifest_of(sleeper.entry) is not None
    assert not sleeper.partial.exists()


def test_a_volume_in_trouble_is_told_also_while_the_lease_is_held(
    tmp_path: Path, served: RunningHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise OSError(errno.EIO, "Input/output error")

    sleeper = Asleep(tmp_path, served)
    monkeypatch.setattr(cache, "download_files", fails)
    with pytest.raises(OSError, match="Input/output error"):
        sleeper.other()


def test_other_formats_of_the_weights_stay_at_the_hub() -> None:
    other = (
        "pytorch_model.bin",
        "original/consolidated.00.pth",
        "a.gguf",
        "adapter_config.json",
        "adapter_model.safetensors",
    )
    names = ("model-00001-of-00002.safetensors", *other, "vocab.json")
    snapshot = Snapshot("huggingFace", "a/b", "c", tuple(HubFile(name, 1) for name in names))
    assert [file.path for file in cache.model_files(snapshot)] == [names[0], "vocab.json"]


def test_a_directory_without_all_its_files_is_no_model(tmp_path: Path) -> None:
    assert cache.manifest_of(tmp_path) is None
    (tmp_path / cache.MANIFEST).write_text('{"complete": true, "files": {"config.json": {"size": 2}}}')
    assert cache.manifest_of(tmp_path) is None
    (tmp_path / "config.json").write_text("{}")
    assert cache.manifest_of(tmp_path) is not None
    (tmp_path / cache.MANIFEST).write_text('{"complete": false, "files": {}}')
    assert cache.manifest_of(tmp_path) is None
