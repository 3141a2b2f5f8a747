"""Models come from hubs that speak Hugging Face's and ModelScope's protocols, by the hubs' own clients."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from huggingface_hub.hf_api import RepoFile
from tests.hubs.fixtures import HUBS, RunningHub, running

from qwensft_trainer.contract.config import HubName
from qwensft_trainer.contract.errors import EXIT_PERMANENT, EXIT_RETRYABLE, Interrupted, StageError
from qwensft_trainer.hubs.download import download_files, is_there, open_repository
from qwensft_trainer.hubs.repository import HubFile, Repository, Stopped
from qwensft_trainer.model import cache

from ..elsewhere import elsewhere

FIELD = "spec.model.source.somewhere"
GOOD = "good-token"
WEIGHTS = bytes(range(256)) * 2000  # 512000 bytes, no two pieces of it alike in position


@pytest.fixture(params=["huggingFace", "modelScope"])
def name(request: pytest.FixtureRequest) -> HubName:
    chosen: HubName = request.param
    return chosen


@pytest.fixture
def served(tmp_path: Path, name: HubName, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunningHub]:
    monkeypatch.setenv("MODELSCOPE_CACHE", str(tmp_path / "modelscope-cache"))
    monkeypatch.setenv("HOME", str(tmp_path))
    model = tmp_path / "served" / "models" / "Qwen" / "Qwen3-Tiny"
    (model / "deep").mkdir(parents=True)
    (model / "config.json").write_text('{"model_type": "qwen3"}')
    (model / "empty.txt").touch()
    (model / "deep" / "notes.txt").write_text("a file in a folder\n" * 5)
    (model / "model.safetensors").write_bytes(WEIGHTS)
    with running(HUBS[name], tmp_path / "served") as server:
        yield server


def repository(
    served: RunningHub, name: HubName, repo: str = "Qwen/Qwen3-Tiny", token: str | None = None
) -> Repository:
    return open_repository(hub=name, kind="model", repo=repo, endpoint=served.url, token=token, field=FIELD)


def fetch(served: RunningHub, name: HubName, directory: Path, **options: Any) -> None:
    found = repository(served, name)
    snapshot = found.snapshot(None)
    download_files(found, snapshot, snapshot.files, directory, **options)


def failure(served: RunningHub, name: HubName, *, revision: str | None = None, **options: Any) -> StageError:
    found = repository(served, name, **options)

    def fetch_all() -> None:
        snapshot = found.snapshot(revision)
        download_files(found, snapshot, snapshot.files, served.root / "down")

    with pytest.raises(StageError) as caught:
        fetch_all()
    return caught.value


def test_a_snapshot_lists_every_file_with_a_checksum(served: RunningHub, name: HubName) -> None:
    snapshot = repository(served, name).snapshot(None)
    assert {file.path: file.size for file in snapshot.files} == {
        "config.json": 23,
        "deep/notes.txt": 95,
        "empty.txt": 0,
        "model.safetensors": len(WEIGHTS),
    }
    assert all(file.sha256 or file.git_sha1 for file in snapshot.files)
    assert len(snapshot.commit) == 40


def test_a_download_is_the_repository(served: RunningHub, name: HubName, tmp_path: Path) -> None:
    fetch(served, name, tmp_path / "down")
    original = served.root / "models" / "Qwen" / "Qwen3-Tiny"
    for path in ("config.json", "deep/notes.txt", "empty.txt", "model.safetensors"):
        assert (tmp_path / "down" / path).read_bytes() == (original / path).read_bytes()
    left = {path.name for path in (tmp_path / "down").rglob("*") if path.is_file()}
    assert left == {"config.json", "notes.txt", "empty.txt", "model.safetensors"}


def test_what_is_there_is_not_fetched_again(served: RunningHub, name: HubName, tmp_path: Path) -> None:
    fetch(served, name, tmp_path / "down")
    fetch(served, name, tmp_path / "down")
    assert served.sent("model.safetensors") == len(WEIGHTS)


def test_a_volume_in_trouble_does_not_make_a_downloaded_file_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stat(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("os.stat", stat)
    with pytest.raises(OSError, match="Input/output error"):
        is_there(tmp_path / "model.safetensors", 12)
    monkeypatch.undo()
    assert not is_there(tmp_path / ("x" * 300), 12)


def test_a_connection_that_breaks_is_taken_up_where_it_broke(
    served: RunningHub, name: HubName, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 1000)  # what is lost at most, else 10 MB
    served.fault(breakAfter=200_000, path="model.safetensors")
    fetch(served, name, tmp_path / "down")
    assert (tmp_path / "down" / "model.safetensors").read_bytes() == WEIGHTS
    assert served.sent("model.safetensors") == len(WEIGHTS)


def test_a_killed_download_is_continued_by_the_next(served: RunningHub, name: HubName, tmp_path: Path) -> None:
    suffix = {"huggingFace": ".part", "modelScope": ".incomplete"}[name]
    (tmp_path / "down").mkdir()
    (tmp_path / "down" / f"model.safetensors{suffix}").write_bytes(WEIGHTS[:400_000])
    fetch(served, name, tmp_path / "down")
    assert (tmp_path / "down" / "model.safetensors").read_bytes() == WEIGHTS
    assert served.sent("model.safetensors") == len(WEIGHTS) - 400_000


def test_a_damaged_rest_of_an_earlier_download_is_found_by_the_checksum(
    served: RunningHub, name: HubName, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)
    suffix = {"huggingFace": ".part", "modelScope": ".incomplete"}[name]
    (tmp_path / "down").mkdir()
    (tmp_path / "down" / f"model.safetensors{suffix}").write_bytes(bytes(400_000))
    fetch(served, name, tmp_path / "down")
    assert (tmp_path / "down" / "model.safetensors").read_bytes() == WEIGHTS


@pytest.mark.parametrize("damaged", ["model.safetensors", "config.json"])
def test_a_mirror_with_damaged_files_is_found_out(
    served: RunningHub, name: HubName, damaged: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modelscope_hub._download.DOWNLOAD_INTEGRITY_RETRY_BACKOFF", 0)
    served.fault(corrupt=damaged, times=100)
    error = failure(served, name)
    assert (error.reason, error.exit_code) == ("DownloadFailed", EXIT_RETRYABLE)
    assert damaged in error.message or "Hash mismatch" in error.message
    assert not (served.root / "down" / damaged).exists()


def test_a_missing_repository_is_permanent_and_names_the_field(served: RunningHub, name: HubName) -> None:
    error = failure(served, name, repo="Qwen/Qwen3-Huge")
    assert (error.reason, error.exit_code) == ("InvalidModel", EXIT_PERMANENT)
    assert "There is no model Qwen/Qwen3-Huge" in error.message
    assert f"{FIELD}.repo" in error.message
    assert f"{FIELD}.tokenSecretRef" in error.message


def test_a_missing_revision_is_permanent_and_named(served: RunningHub, name: HubName) -> None:
    error = failure(served, name, revision="v9")
    assert (error.reason, error.exit_code) == ("InvalidModel", EXIT_PERMANENT)
    assert "'v9'" in error.message
    assert f"{FIELD}.revision" in error.message


def test_a_revision_by_name_is_found(served: RunningHub, name: HubName) -> None:
    (served.root / "models" / "Qwen" / "Qwen3-Tiny" / ".revisions").write_text("v1.0\nrelease/2\n")
    assert repository(served, name).snapshot("v1.0").files
    assert repository(served, name).snapshot("release/2").files


def test_a_private_repository_opens_with_its_token_only(served: RunningHub, name: HubName, tmp_path: Path) -> None:
    (served.root / "models" / "Qwen" / "Qwen3-Tiny" / ".private").write_text("good-token\n")
    found = repository(served, name, token=GOOD)
    snapshot = found.snapshot(None)
    download_files(found, snapshot, snapshot.files, tmp_path / "down")
    assert (tmp_path / "down" / "model.safetensors").read_bytes() == WEIGHTS
    for token in (None, "bad-token"):
        error = failure(served, name, token=token)
        assert (error.reason, error.exit_code) == ("InvalidModel", EXIT_PERMANENT)
        assert f"{FIELD}.tokenSecretRef" in error.message
        assert "bad-token" not in error.message


def test_a_token_in_the_environment_goes_to_no_other_hub(
    served: RunningHub, name: HubName, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "good-token")
    monkeypatch.setenv("MODELSCOPE_API_TOKEN", "good-token")
    (served.root / "models" / "Qwen" / "Qwen3-Tiny" / ".private").write_text("good-token\n")
    assert failure(served, name, token=None).exit_code == EXIT_PERMANENT


def test_an_unreachable_hub_may_come_back(served: RunningHub, name: HubName, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)
    monkeypatch.setattr("modelscope_hub._download_control._DownloadControl.sleep", lambda *_: None)
    served.url = "http://127.0.0.1:9"
    error = failure(served, name)
    assert (error.reason, error.exit_code) == ("DownloadFailed", EXIT_RETRYABLE)
    assert "http://127.0.0.1:9" in error.message
    assert f"{FIELD}.endpoint" in error.message


def test_what_cannot_fit_is_refused_before_the_first_byte(
    served: RunningHub, name: HubName, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: shutil._ntuple_diskusage(2000, 1000, 1000))
    error = failure(served, name)
    assert (error.reason, error.exit_code) == ("DiskFull", EXIT_RETRYABLE)
    assert served.sent("model.safetensors") == 0


def test_a_guard_ends_a_download_and_its_threads(served: RunningHub, name: HubName, tmp_path: Path) -> None:
    class Ended(BaseException):
        pass

    def guard() -> None:
        raise Ended

    with pytest.raises((Ended, Stopped)):
        fetch(served, name, tmp_path / "down", guard=guard)
    assert not (tmp_path / "down" / "model.safetensors").exists()


def test_a_token_stays_with_its_hub_when_that_sends_on_to_another_host(
    served: RunningHub, name: HubName, tmp_path: Path
) -> None:
    (served.root / "models" / "Qwen" / "Qwen3-Tiny" / ".private").write_text("good-token\n")
    found = repository(served, name, token=GOOD)
    snapshot = found.snapshot(None)
    with elsewhere(WEIGHTS) as store:
        served.fault(store=store.url, path="model.safetensors", times=100)
        download_files(found, snapshot, snapshot.files, tmp_path / "down")
    assert (tmp_path / "down" / "model.safetensors").read_bytes() == WEIGHTS
    assert store.headers
    assert not any(GOOD in headers for headers in store.headers)


def test_no_redirect_of_a_hub_leads_to_the_nodes_own_addresses(
    served: RunningHub, name: HubName, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)
    served.fault(store="http://169.254.169.254", path="model.safetensors", times=100)
    error = failure(served, name)
    assert (error.reason, error.exit_code) == ("InvalidModel", EXIT_PERMANENT)
    assert f"{served.url} leads to 169.254.169.254, by its name or by a redirect" in error.message
    assert error.message.endswith(f"correct {FIELD}.endpoint.")
    asked = open_repository(
        hub=name, kind="model", repo="a/b", endpoint="http://[fe80::1]", token=None, field=FIELD
    ).snapshot
    with pytest.raises(StageError, match=r"leads to fe80::1, .* correct spec\.model\.source\.somewhere\.endpoint"):
        asked(None)


def lists(name: HubName, monkeypatch: pytest.MonkeyPatch, *paths: str) -> None:
    """Have the hub answer that a repository holds these files."""
    if name == "huggingFace":
        answer = [RepoFile(path=path, size=1, oid="0" * 40) for path in paths]  # type: ignore[no-untyped-call, unused-ignore]
        monkeypatch.setattr("qwensft_trainer.hubs.hugging_face.HfApi.list_repo_tree", lambda *_, **__: answer)
    else:
        entries = [SimpleNamespace(path=path, size=1, sha256="0" * 64, type="blob") for path in paths]
        monkeypatch.setattr("qwensft_trainer.hubs.model_scope.HubApi.list_repo_files", lambda *_, **__: entries)


@pytest.mark.parametrize("path", ["a\0b", "x" * 256, "deep/" + "ä" * 128, "\ud800.json"])
def test_a_hub_that_lists_a_name_that_no_file_can_have_is_refused(
    served: RunningHub, name: HubName, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    lists(name, monkeypatch, "config.json", path)
    error = failure(served, name)
    assert (error.reason, error.exit_code) == ("InvalidModel", EXIT_PERMANENT)
    assert "which no file can be called" in error.message


@pytest.mark.parametrize("paths", [("data", "data/x"), ("data/x/y", "data"), ("data/./x", "data/x/y")])
def test_a_hub_that_lists_a_file_below_a_file_is_refused(
    served: RunningHub, name: HubName, monkeypatch: pytest.MonkeyPatch, paths: tuple[str, ...]
) -> None:
    lists(name, monkeypatch, *paths)
    error = failure(served, name)
    assert (error.reason, error.exit_code) == ("InvalidModel", EXIT_PERMANENT)
    assert "so that it cannot be written to a volume" in error.message


@pytest.mark.parametrize("path", ["../../evil", "/etc/evil", "a/../../evil", ""])
def test_a_hub_that_lists_a_file_outside_of_the_directory_is_refused(
    served: RunningHub, name: HubName, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    lists(name, monkeypatch, path)
    error = failure(served, name)
    assert (error.reason, error.exit_code) == ("InvalidModel", EXIT_PERMANENT)
    assert "outside" in error.message


def test_a_sigterm_is_not_taken_for_a_hub_in_trouble(
    served: RunningHub, name: HubName, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise Interrupted("Stopped by SIGTERM")

    monkeypatch.setattr("qwensft_trainer.hubs.hugging_face.HfApi.list_repo_tree", interrupted)
    monkeypatch.setattr("qwensft_trainer.hubs.model_scope.HubApi.list_repo_files", interrupted)
    with pytest.raises(Interrupted):
        repository(served, name).snapshot(None)


def test_a_commit_that_is_no_name_of_a_directory_is_refused(served: RunningHub, name: HubName) -> None:
    for commit in ("../../other-run", "/workspace", "a/../..", ""):
        with pytest.raises(StageError, match="is at a commit named"):
            repository(served, name).listing(commit, (HubFile("config.json", 1),), None)


def test_an_error_names_no_signature_of_an_address(served: RunningHub, name: HubName) -> None:
    error = ValueError("403 for 'https://cdn.example/file?Signature=abc&Key=d', url='http://x.example/y?sig=abc'")
    message = repository(served, name).unavailable(error).message
    assert "(ValueError: 403 for 'https://cdn.example/file', url='http://x.example/y')" in message


def test_a_model_published_from_a_cache_can_be_cached_again(served: RunningHub, name: HubName, tmp_path: Path) -> None:
    (served.root / "models" / "Qwen" / "Qwen3-Tiny" / cache.MANIFEST).write_text('{"complete": true, "files": {}}')
    found = repository(served, name)
    cache.fill_shared(tmp_path / "cache" / "c", found, found.snapshot(None), owner="team/job")
    assert "config.json" in (cache.manifest_of(tmp_path / "cache" / "c") or {})["files"]


def test_a_gated_repository_shows_its_files_but_asks_for_the_terms(tmp_path: Path) -> None:
    model = tmp_path / "served" / "models" / "Qwen" / "Qwen3-Tiny"
    model.mkdir(parents=True)
    (model / "config.json").write_text("{}")
    (model / ".gated").write_text("good-token\n")
    with running(HUBS["huggingFace"], tmp_path / "served") as served:
        for token in (None, "bad-token"):
            error = failure(served, "huggingFace", token=token)
            assert (error.reason, error.exit_code) == ("InvalidModel", EXIT_PERMANENT)
            assert "is gated: accept its terms" in error.message
            assert f"{FIELD}.tokenSecretRef" in error.message
        found = repository(served, "huggingFace", token=GOOD)
        snapshot = found.snapshot("main")
        download_files(found, snapshot, snapshot.files, tmp_path / "down")
        assert (tmp_path / "down" / "config.json").exists()


def test_a_dataset_is_another_kind_of_repository(
    tmp_path: Path, name: HubName, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODELSCOPE_CACHE", str(tmp_path / "modelscope-cache"))
    data = tmp_path / "served" / "datasets" / "team" / "chats"
    data.mkdir(parents=True)
    for number in range(120):  # more than one page of the listing
        (data / f"part-{number:03}.jsonl").write_text(f'{{"number": {number}}}\n')
    with running(HUBS[name], tmp_path / "served") as served:
        found = open_repository(
            hub=name, kind="dataset", repo="team/chats", endpoint=served.url, token=None, field="spec.datasets[chats]"
        )
        snapshot = found.snapshot(None)
        assert len(snapshot.files) == 120
        download_files(found, snapshot, snapshot.files[7:9], tmp_path / "down")
        assert sorted(os.listdir(tmp_path / "down")) == ["part-007.jsonl", "part-008.jsonl"]
        missing = open_repository(
            hub=name, kind="dataset", repo="team/nothing", endpoint=served.url, token=None, field="spec.datasets[chats]"
        )
        with pytest.raises(StageError, match="There is no dataset team/nothing") as caught:
            missing.snapshot(None)
        assert caught.value.reason == "InvalidDataset"
