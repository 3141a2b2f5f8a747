"""The servers that stand in for stores speak to the stores' own clients, also as a pod runs them."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import s3fs
from tests.hubs import files, s3
from tests.hubs.fixtures import running

FOLDER = Path(s3.__file__).parent
KEY = {"key": "key", "secret": "secret"}


def filesystem(url: str, **options: Any) -> Any:
    return s3fs.S3FileSystem(endpoint_url=url, skip_instance_cache=True, use_listings_cache=False, **options)


def test_s3_lists_and_reads_with_the_right_key(tmp_path: Path) -> None:
    (tmp_path / "bucket" / "deep er").mkdir(parents=True)
    (tmp_path / "bucket" / "deep er" / "rows+1.jsonl").write_text("one\ntwo\n")
    with running(s3, tmp_path, key=("key", "secret")) as store:
        fs = filesystem(store.url, **KEY)
        assert fs.ls("bucket") == ["bucket/deep er"]
        assert fs.find("bucket") == ["bucket/deep er/rows+1.jsonl"]
        assert fs.info("bucket/deep er/rows+1.jsonl")["size"] == 8
        with fs.open("bucket/deep er/rows+1.jsonl", "rb", block_size=4) as stream:
            assert stream.read() == b"one\ntwo\n"
        with pytest.raises(FileNotFoundError):
            fs.info("bucket/other.jsonl")


@pytest.mark.parametrize(
    "options", [{"anon": True}, {"key": "key", "secret": "wrong"}, {"key": "other", "secret": "secret"}]
)
def test_s3_refuses_other_keys(tmp_path: Path, options: dict[str, Any]) -> None:
    (tmp_path / "bucket").mkdir()
    (tmp_path / "bucket" / "rows.jsonl").write_text("one\n")
    with running(s3, tmp_path, key=("key", "secret")) as store, pytest.raises(PermissionError):
        filesystem(store.url, **options).cat("bucket/rows.jsonl")


def test_plain_files_come_in_ranges_and_ask_for_a_header(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("0123456789")
    (tmp_path / ".authorization").write_text("Bearer good\n")
    with running(files, tmp_path) as server:
        address = f"{server.url}/rows.jsonl"
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(address, timeout=10)  # noqa: S310
        headers = {"Authorization": "Bearer good", "Range": "bytes=4-6"}
        with urllib.request.urlopen(urllib.request.Request(address, headers=headers), timeout=10) as answer:  # noqa: S310
            assert (answer.status, answer.read()) == (206, b"456")


def status_when_up(address: str) -> int:
    for _ in range(600):
        try:
            urllib.request.urlopen(address, timeout=60)  # noqa: S310
        except urllib.error.HTTPError as error:
            return error.code
        except urllib.error.URLError:
            time.sleep(0.1)
    return 0


@pytest.mark.parametrize("server", ["huggingface", "modelscope", "s3", "files"])
def test_each_runs_from_a_folder_of_nothing_but_the_servers(tmp_path: Path, server: str) -> None:
    shutil.copytree(FOLDER, tmp_path / "hubs", ignore=shutil.ignore_patterns("__pycache__"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", f"hubs.{server}", "--root", str(tmp_path), "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=tmp_path) as process:
        try:
            assert status_when_up(f"http://127.0.0.1:{port}/nothing/here") == 404
            assert process.stdout is not None
            assert process.stdout.readline().split()[:3] == ["GET", "/nothing/here", "404"]
        finally:
            process.kill()
