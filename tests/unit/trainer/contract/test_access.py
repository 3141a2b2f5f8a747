"""What a user may not do on a volume is told with the fix, once and for all."""

import errno
import io
import os
import tempfile
from pathlib import Path
from typing import Any

import pytest

from qwensft_trainer.contract.access import access_denied
from qwensft_trainer.contract.errors import StageError


def denied(number: int, path: Path | str | None, tmp_path: Path) -> StageError | None:
    error = OSError(number, os.strerror(number), str(path)) if path else OSError(number, os.strerror(number))
    return access_denied(error, workspace=tmp_path / "workspace", scratch=tmp_path / "scratch")


def refuse_files(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Let every new file be refused; root, as whom tests may run, could write anywhere."""

    def refused(**_: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(tempfile, "TemporaryFile", refused)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM])
def test_a_directory_of_somebody_else_is_told_with_user_groups_and_fix(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_files(monkeypatch, errno.EACCES)
    failure = denied(number, tmp_path / "workspace" / "demo", tmp_path)
    assert failure is not None
    assert (failure.reason, failure.exit_code) == ("VolumeAccessDenied", 78)
    for words in (f"user {os.getuid()}", str(os.getgid()), f"{tmp_path}/workspace/demo", "spec.worker.securityContext"):
        assert words in failure.message


@pytest.mark.parametrize("name", ["", "weights.bin", "new.bin"], ids=["a directory", "a file", "no file yet"])
def test_a_call_that_the_storage_does_not_know_is_no_matter_of_rights_where_files_can_be_written(
    name: str, tmp_path: Path
) -> None:
    run = tmp_path / "workspace" / "demo"
    run.mkdir(parents=True)
    (run / "weights.bin").touch()
    assert denied(errno.EPERM, run / name, tmp_path) is None
    assert sorted(run.iterdir()) == [run / "weights.bin"]


def test_a_link_is_judged_by_where_it_was_to_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Path] = []

    def probe(**where: Path) -> io.BytesIO:
        asked.append(where["dir"])
        return io.BytesIO()

    monkeypatch.setattr(tempfile, "TemporaryFile", probe)
    source, target = (str(tmp_path / "workspace" / name) for name in ("cache/weights.bin", "demo/weights.bin"))
    error = PermissionError(errno.EPERM, os.strerror(errno.EPERM), source, None, target)
    assert access_denied(error, workspace=tmp_path / "workspace", scratch=tmp_path / "scratch") is None
    assert asked == [tmp_path / "workspace" / "demo"]


def test_a_full_volume_is_no_matter_of_rights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_files(monkeypatch, errno.ENOSPC)
    assert denied(errno.EPERM, tmp_path / "workspace" / "demo", tmp_path) is None


def test_a_read_only_file_system_asks_for_another_claim(tmp_path: Path) -> None:
    failure = denied(errno.EROFS, tmp_path / "workspace" / "demo", tmp_path)
    assert failure is not None
    assert "use a claim whose volume can be written" in failure.message
    assert failure.exit_code == 1, "it may have turned so, and be mended"


def test_other_volumes_are_named_by_where_they_are_mounted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "is_mount", lambda place: str(place) in ("/", "/model"))
    failure = denied(errno.EACCES, "/model/config.json", tmp_path)
    assert failure is not None
    assert "the volume at /model" in failure.message


@pytest.mark.parametrize(
    ("number", "path"),
    [
        (errno.EIO, "workspace/demo"),
        (errno.ENOSPC, "workspace/demo"),
        (errno.EACCES, "scratch/tmp"),  # the pod's own
        (errno.EACCES, None),
    ],
)
def test_what_is_no_matter_of_rights_on_a_volume_is_left_to_others(
    number: int, path: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "is_mount", lambda place: place in (Path("/"), tmp_path))
    assert denied(number, path and tmp_path / path, tmp_path) is None
