"""What a user may not do on a volume is told with the fix, once and for all."""

import errno
import os
from pathlib import Path

import pytest

from qwensft_trainer.contract.access import access_denied
from qwensft_trainer.contract.errors import PermanentError


def denied(number: int, path: Path | str | None, tmp_path: Path) -> PermanentError | None:
    error = OSError(number, os.strerror(number), str(path)) if path else OSError(number, os.strerror(number))
    return access_denied(error, workspace=tmp_path / "workspace", scratch=tmp_path / "scratch")


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM])
def test_a_directory_of_somebody_else_is_told_with_user_groups_and_fix(number: int, tmp_path: Path) -> None:
    failure = denied(number, tmp_path / "workspace" / "demo", tmp_path)
    assert failure is not None
    assert (failure.reason, failure.exit_code) == ("VolumeAccessDenied", 78)
    for words in (f"user {os.getuid()}", str(os.getgid()), f"{tmp_path}/workspace/demo", "spec.worker.securityContext"):
        assert words in failure.message


def test_a_read_only_file_system_asks_for_another_claim(tmp_path: Path) -> None:
    failure = denied(errno.EROFS, tmp_path / "workspace" / "demo", tmp_path)
    assert failure is not None
    assert "is read-only: use a claim whose volume can be written" in failure.message


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
