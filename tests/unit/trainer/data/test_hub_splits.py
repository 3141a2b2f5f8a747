"""A split's files are found by the hub's conventions, and what is not clear is told with the choices."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from datasets import data_files

from qwensft_trainer.contract.errors import Interrupted, PermanentError
from qwensft_trainer.data.hub_splits import files_of

from ..elsewhere import elsewhere

FIELD = "spec.datasets[tickets].source.huggingFace"
SUBSETS = """---
configs:
- config_name: en
  data_files:
  - split: train
    path: en/*.jsonl
  - split: test
    path: en-test.jsonl
- config_name: de
  data_files: de/rows.csv
---
# Tickets
"""


def found(
    *names: str, readme: str | None = None, subset: str | None = None, split: str | None = None
) -> tuple[str, ...]:
    descriptions = {} if readme is None else {"README.md": readme.encode()}
    listed = [*names, *descriptions]
    return files_of("acme/tickets", listed, descriptions, subset=subset, split=split, field=FIELD)


def problem(*names: str, **options: str) -> str:
    with pytest.raises(PermanentError) as caught:
        found(*names, **options)
    assert caught.value.reason == "InvalidDataset"
    return caught.value.message


def test_shards_of_a_split_come_in_order() -> None:
    shards = [f"data/train-0000{number}-of-00003.parquet" for number in (2, 0, 1)]
    assert found(*shards, "data/test-00000-of-00001.parquet", ".gitattributes") == tuple(sorted(shards))
    assert found(*shards, "data/test-00000-of-00001.parquet", split="test") == ("data/test-00000-of-00001.parquet",)


def test_a_lone_file_is_the_training_split() -> None:
    assert found("tickets.jsonl") == ("tickets.jsonl",)
    assert found("dump.json.gz", "README.txt") == ("dump.json.gz",)


def test_names_tell_splits() -> None:
    assert found("train.csv", "validation.csv", split="validation") == ("validation.csv",)


def test_a_readme_names_subsets_and_splits() -> None:
    files = ("en/a.jsonl", "en/b.jsonl", "en-test.jsonl", "de/rows.csv")
    assert found(*files, readme=SUBSETS, subset="en") == ("en/a.jsonl", "en/b.jsonl")
    assert found(*files, readme=SUBSETS, subset="en", split="test") == ("en-test.jsonl",)
    assert found(*files, readme=SUBSETS, subset="de") == ("de/rows.csv",)
    assert "['en', 'de']): set spec.datasets[tickets].source.huggingFace.subset" in problem(*files, readme=SUBSETS)
    assert "'fr' not found. Available: ['en', 'de']" in problem(*files, readme=SUBSETS, subset="fr")


def test_a_split_that_is_not_there_is_told_with_those_that_are() -> None:
    message = problem("train.csv", "test.csv", split="dev")
    assert message == f"acme/tickets has no split 'dev', but test, train: set {FIELD}.split to one of them."


def test_a_repository_of_code_is_not_run() -> None:
    assert "a script is not run" in problem("tickets.py", "setup.cfg")
    assert found("tickets.py", "train.jsonl", "dataset_infos.json") == ("train.jsonl",)


@pytest.mark.parametrize("readme", ["---\nconfigs: [\n---\n", "---\nconfigs:\n- nonsense\n---\n"])
def test_a_broken_readme_is_no_crash(readme: str) -> None:
    assert f"set {FIELD}.path to the file with the rows" in problem("a.jsonl", readme=readme)


def described(config: str) -> str:
    return f"---\nconfigs:\n- config_name: default\n  {config}\n---\n"


@pytest.mark.parametrize(
    "names",
    [
        "{outside}/other.jsonl",
        "../*/other.jsonl",
        "en/../../*/other.jsonl",
        "file://{outside}/other.jsonl",
        "zip://rows.jsonl::{outside}/other.zip",
        "simplecache::{outside}/other.jsonl",
        "{url}/rows.jsonl",
        "s3://bucket/rows.jsonl",
        "hf://datasets/acme/private/rows.jsonl",
    ],
)
@pytest.mark.parametrize(
    "where", ["data_files: {}", "data_files: [a.jsonl, '{}']", "data_files: [{{split: x, path: '{}'}}]"]
)
def test_a_readme_has_nothing_looked_for_outside_of_the_repository(
    names: str, where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("datasets.data_files.url_to_fs", only_local(below="repository"))
    (tmp_path / "other.jsonl").write_text("{}")
    with elsewhere(b"{}") as server:
        named = names.format(outside=tmp_path, url=server.url)
        message = problem("a.jsonl", readme=described(where.format(named)))
        assert server.headers == []
    assert f"its README names files that are not in the repository ({named})" in message
    assert f"set {FIELD}.path to the file with the rows" in message


@pytest.mark.parametrize("folder", ["/", "..", "en/../.."])
def test_a_readme_has_no_folder_outside_of_the_repository_listed(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.data_files.url_to_fs", only_local(below="repository"))
    message = problem("en/a.jsonl", readme=described(f"data_dir: {folder}"))
    assert "its README names files that are not in the repository" in message


def test_a_folder_of_the_repository_is_looked_into() -> None:
    assert found("en/train.jsonl", "de/train.jsonl", readme=described("data_dir: de")) == ("de/train.jsonl",)


def only_local(below: str) -> Callable[..., tuple[Any, str]]:
    """What finds a file system by an address, for patterns in a folder of that name alone."""
    find = data_files.url_to_fs

    def find_local(pattern: str, **options: Any) -> tuple[Any, str]:
        path = PurePosixPath(pattern)
        assert below in path.parts, f"asked for {pattern}"
        assert ".." not in path.parts, f"asked for {pattern}"
        found: tuple[Any, str] = find(pattern, **options)
        return found

    return find_local


def test_a_sigterm_is_not_taken_for_a_broken_readme(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise Interrupted("Stopped by SIGTERM")

    monkeypatch.setattr("datasets.load_dataset_builder", interrupted)
    with pytest.raises(Interrupted):
        found("a.jsonl")


def test_a_scratch_volume_in_trouble_is_no_broken_readme(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr("datasets.load_dataset_builder", fail)
    with pytest.raises(OSError, match="Input/output error"):
        found("a.jsonl")
