"""A worker that may not use a volume is told as such, with its rank and the fix: for good on the run's own volume."""

from __future__ import annotations

import errno
import functools
import io
import os
import tempfile
from pathlib import Path
from typing import Any

import pytest

from qwensft_trainer.contract.access import denied_later, error_told
from qwensft_trainer.contract.errors import EXIT_PERMANENT, EXIT_RETRYABLE, StageError
from qwensft_trainer.training.failures import cause, read_error_files
from qwensft_trainer.training.output import Output

from .. import error_files
from ..error_files import TRAINER, raised_from, traceback


@pytest.fixture(autouse=True)
def volumes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The run's volume refuses files, also to root, as whom tests may run; the rest of the image is no volume."""
    monkeypatch.setattr(Path, "is_mount", lambda place: str(place) in ("/", "/workspace", "/model"))

    def probe(**where: Path) -> io.BytesIO:
        if where["dir"].is_relative_to("/workspace"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return io.BytesIO()

    monkeypatch.setattr(tempfile, "TemporaryFile", probe)


def told(temporary: Path, callstack: str, *, local_rank: int = 0) -> StageError:
    """What ends the stage after a worker has left this traceback."""
    error_files.write(temporary, callstack, local_rank=local_rank)
    judge = functools.partial(denied_later, workspace=Path("/workspace"), scratch=Path("/tmp/qwensft"))  # noqa: S108
    return cause(read_error_files(temporary), Output(), 1, judge)


@pytest.mark.parametrize(
    "exception",
    [
        "PermissionError: [Errno 13] Permission denied: '/workspace/support-1/train/1/checkpoint-5'",
        "PermissionError: [Errno 13] Permission denied: '/workspace/support-1/a' -> '/workspace/support-1/b'",
        "PermissionError: [Errno 1] Operation not permitted: '/workspace/support-1/train/1/trainer_state.json'",
        "RuntimeError: File /workspace/support-1/train/1/optimizer.pt cannot be opened.",
        "safetensors._safetensors_rust.SafetensorError: Error while serializing: I/O error: Permission denied "
        '(os error 13) at path "/workspace/support-1/train/1/.tmpSf1bS9"',
    ],
    ids=["a directory", "a renamed file", "not permitted", "PyTorch", "safetensors"],
)
def test_the_run_s_own_volume_is_told_once_and_for_all(tmp_path: Path, exception: str) -> None:
    error = told(tmp_path, traceback(exception, *TRAINER), local_rank=3)
    assert (error.reason, error.exit_code) == ("VolumeAccessDenied", EXIT_PERMANENT)
    for words in ("local rank 3: /workspace/support-1/", f"user {os.getuid()}", "spec.worker.securityContext"):
        assert words in error.message


@pytest.mark.parametrize(
    "exception",
    [
        "OSError: [Errno 30] Read-only file system: '/workspace/support-1/train/1/checkpoint-5'",
        "PermissionError: [Errno 13] Permission denied: '/model/config.json'",
    ],
    ids=["turned read-only", "another volume"],
)
def test_what_may_be_well_again_is_tried_again(tmp_path: Path, exception: str) -> None:
    error = told(tmp_path, traceback(exception, *TRAINER))
    assert (error.reason, error.exit_code) == ("VolumeAccessDenied", EXIT_RETRYABLE)


def test_what_came_of_it_may_have_had_another_cause(tmp_path: Path) -> None:
    denial = traceback("PermissionError: [Errno 13] Permission denied: '/workspace/support-1/train/1/x'", *TRAINER)
    error = told(tmp_path, raised_from(denial, traceback("RuntimeError: cannot save", *TRAINER)))
    assert (error.reason, error.exit_code) == ("VolumeAccessDenied", EXIT_RETRYABLE)
    assert "cannot save Before that: /workspace/support-1/train/1/x: Permission denied." in error.message
    full = raised_from(denial, traceback("torch.OutOfMemoryError: CUDA out of memory.", *TRAINER))
    assert told(tmp_path, full).reason == "OutOfMemory"


@pytest.mark.parametrize(
    "exception",
    [
        "PermissionError: [Errno 13] Permission denied: '/opt/qwensft/lib/cache/kernel.so'",
        "PermissionError: [Errno 13] Permission denied: '/tmp/qwensft/triton/kernel.so'",
        "PermissionError: [Errno 13] Permission denied",
        "OSError: [Errno 5] Input/output error: '/workspace/support-1/train/1/checkpoint-5'",
        "ValueError: row 7 says [Errno 13] Permission denied: '/workspace/support-1/train/1'",
        "RuntimeError: cannot read PermissionError: [Errno 13] Permission denied: '/workspace/support-1/data'",
        "RuntimeError: File /opt/weights.pt cannot be opened.",
        "ValueError: File /workspace/support-1/data/rows.json cannot be opened.",
    ],
)
def test_paths_that_are_no_volume_s_and_texts_of_others_are_not_taken_for_it(tmp_path: Path, exception: str) -> None:
    error = told(tmp_path, traceback(exception, *TRAINER))
    assert (error.reason, error.exit_code) == ("TrainingFailed", EXIT_RETRYABLE)


def test_what_a_library_says_of_a_volume_that_takes_files_proves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **_: io.BytesIO())
    gone = traceback("RuntimeError: File /workspace/support-1/train/1/optimizer.pt cannot be opened.", *TRAINER)
    assert told(tmp_path, gone).reason == "TrainingFailed"


@pytest.mark.parametrize("path", ["/workspace/it's", "/workspace/a 'b' \\ c", "/workspace/über", "/workspace/a\nb"])
def test_paths_are_read_as_python_writes_them(path: str) -> None:
    error = PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
    read: Any = error_told("PermissionError", str(error))
    assert (read.errno, read.filename, read.filename2) == (errno.EACCES, path, None)
