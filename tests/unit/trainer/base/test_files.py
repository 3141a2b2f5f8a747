"""Files and directories are replaced as a whole, and a directory's digest says what is in it."""

from __future__ import annotations

import errno
import hashlib
import math
from pathlib import Path
from typing import Any

import pytest

from qwensft_trainer.base import files

from ..conftest import UNREADABLE


def test_json_is_replaced_as_a_whole_and_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "value.json"
    files.write_json(path, {"a": 1})
    files.write_json(path, {"b": "ä"})
    assert files.read_json_object(path) == {"b": "ä"}
    assert [entry.name for entry in path.parent.iterdir()] == ["value.json"]


def test_two_pods_write_under_names_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.getpid", lambda: 1)
    path = tmp_path / "value.json"
    names = {files.temporary_beside(path) for _ in range(1000)}
    assert len(names) == 1000
    assert {name.parent for name in names} == {tmp_path}


def test_a_volume_that_cannot_sync_directories_is_no_error_and_one_in_trouble_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = {"number": errno.EINVAL}

    def fsync(_: int) -> None:
        raise OSError(answers["number"], "no")

    (tmp_path / "file").touch()
    monkeypatch.setattr("os.fsync", fsync)
    files.sync(tmp_path)
    with pytest.raises(OSError, match="no"):
        files.sync(tmp_path / "file")
    answers["number"] = errno.EIO
    with pytest.raises(OSError, match="no"):
        files.sync(tmp_path)


def test_a_value_json_cannot_hold_is_refused_and_the_old_file_kept(tmp_path: Path) -> None:
    path = tmp_path / "value.json"
    files.write_json(path, {"a": 1})
    with pytest.raises(ValueError, match="Out of range float"):
        files.write_json(path, {"a": math.nan})
    assert files.read_json_object(path) == {"a": 1}


@pytest.mark.parametrize("content", ["", "{", "[1]", '"text"'])
def test_what_is_no_json_object_reads_as_nothing(tmp_path: Path, content: str) -> None:
    (tmp_path / "x.json").write_text(content)
    assert files.read_json_object(tmp_path / "x.json") is None


@pytest.mark.parametrize("missing", ["x.json", "file/x.json", "."])
def test_a_file_that_is_not_there_reads_as_nothing(tmp_path: Path, missing: str) -> None:
    (tmp_path / "file").write_text("")
    assert files.read_json_object(tmp_path / missing) is None


def test_a_file_that_cannot_be_read_now_is_no_missing_one(tmp_path: Path) -> None:
    (tmp_path / "x.json").symlink_to(UNREADABLE)
    with pytest.raises(OSError, match="Input/output error"):
        files.read_json_object(tmp_path / "x.json")


def test_a_file_replaced_by_another_node_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x.json").write_text('{"a": 1}')
    answers = [OSError(errno.ESTALE, "Stale file handle")]
    read = Path.read_text

    def read_text(path: Path, **how: Any) -> str:
        if answers:
            raise answers.pop()
        return read(path, **how)

    monkeypatch.setattr(Path, "read_text", read_text)
    assert files.read_json_object(tmp_path / "x.json") == {"a": 1}


def test_the_digest_is_what_sha256sum_would_print(tmp_path: Path) -> None:
    (tmp_path / "b").write_text("two")
    (tmp_path / "a").write_text("one")
    (tmp_path / "sub").mkdir()
    manifest = files.manifest_of(tmp_path, exclude=["nothing"])
    assert {name: entry["sizeBytes"] for name, entry in manifest.items()} == {"a": 3, "b": 3}
    lines = "".join(f"{hashlib.sha256(text).hexdigest()}  {name}\n" for name, text in (("a", b"one"), ("b", b"two")))
    assert files.manifest_digest(manifest) == "sha256:" + hashlib.sha256(lines.encode()).hexdigest()


def test_a_directory_is_replaced_and_the_old_one_goes(tmp_path: Path) -> None:
    new, target = tmp_path / "new", tmp_path / "merged"
    for path, text in ((target, "old"), (new, "new")):
        path.mkdir()
        (path / "f").write_text(text)
    files.replace_directory(new, target)
    assert (target / "f").read_text() == "new"
    assert [entry.name for entry in tmp_path.iterdir()] == ["merged"]


def test_a_replacement_cut_off_between_its_renames_is_undone(tmp_path: Path) -> None:
    new, target = tmp_path / "new", tmp_path / "merged"
    target.mkdir()
    (target / "f").write_text("old")
    with pytest.raises(FileNotFoundError):
        files.replace_directory(new, target)
    assert not target.exists()
    files.restore_directory(target)
    assert (target / "f").read_text() == "old"
    files.restore_directory(target)
    assert (target / "f").read_text() == "old"


@pytest.mark.parametrize("linkable", [True, False])
def test_a_linked_file_replaces_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, linkable: bool
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError("no hard links here")

    source, target = tmp_path / "a", tmp_path / "b"
    source.write_text("new")
    target.write_text("old")
    if not linkable:
        monkeypatch.setattr("os.link", refuse)
    files.link(source, target)
    files.link(source, target)
    assert target.read_text() == "new"
    assert target.samefile(source) == linkable
    assert len(list(tmp_path.iterdir())) == 2


def test_links_below_a_directory_go_and_what_they_lead_to_stays(tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    (ours / "media").mkdir(parents=True)
    theirs.mkdir()
    for path in (ours / "media" / "1.png", theirs / "2.png"):
        path.write_bytes(b"image")
    (ours / "media" / "ab").symlink_to(theirs)
    (ours / "rows.part").symlink_to(theirs / "2.png")
    (ours / "lost").symlink_to("nowhere")
    files.remove_links(ours)
    files.remove_links(tmp_path / "missing")
    assert sorted(path.name for path in ours.rglob("*")) == ["1.png", "media"]
    assert (theirs / "2.png").read_bytes() == b"image"
