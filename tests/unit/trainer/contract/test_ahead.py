"""A process imports ahead of time, and does then what it is told, as if it were done here."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from qwensft_trainer.base import redaction
from qwensft_trainer.contract.ahead import Ahead
from qwensft_trainer.contract.errors import PermanentError, StageError

from ..waiting import eventually
from . import child_functions


def killed(exit_code: int) -> StageError:
    return StageError("PreparationFailed", f"exit code {exit_code}")


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module that leaves a file when it is imported, with what it sees of the environment."""
    text = "import os, pathlib\npathlib.Path(__file__).with_name('imported').write_text(os.environ['COLOUR'])\n"
    (tmp_path / "slow_library.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


@pytest.fixture
def ahead(modules: Path) -> Iterator[Ahead]:
    with Ahead(["slow_library", "no_such_library"], {"COLOUR": "green"}, killed=killed) as process:
        yield process


def test_libraries_are_imported_before_anything_is_asked_in_the_given_environment(ahead: Ahead, modules: Path) -> None:
    eventually(lambda: (modules / "imported").exists() and (modules / "imported").read_text() == "green")
    assert "COLOUR" not in os.environ


def test_the_answer_comes_back(ahead: Ahead) -> None:
    total, process = ahead.call(child_functions.add, 2, second=3)
    assert (total, process != os.getpid()) == (5, True)


def test_errors_come_back_as_they_are(ahead: Ahead) -> None:
    with pytest.raises(PermanentError) as caught:
        ahead.call(child_functions.refuse)
    assert (caught.value.reason, caught.value.message) == ("MergeFailed", "no room")


def test_an_error_that_cannot_be_sent_comes_back_with_its_words(capfd: pytest.CaptureFixture[str]) -> None:
    with Ahead([], {}, killed=killed) as process, pytest.raises(RuntimeError, match="OddError: 1 and 2"):
        process.call(child_functions.raise_odd)
    assert "in raise_odd" in capfd.readouterr().err


def test_a_killed_process_is_told(ahead: Ahead) -> None:
    with pytest.raises(StageError, match="exit code -9"):
        ahead.call(child_functions.kill, signal.SIGKILL)


def test_what_it_prints_has_no_secrets(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = redaction.Secrets()
    secrets.add("0123456789abcdef")
    monkeypatch.setattr(redaction, "secrets", secrets)
    with Ahead([], {}, killed=killed) as process:
        process.call(print, "logging in with 0123456789abcdef")
    assert capfd.readouterr().out == "logging in with [redacted]\n"


def test_it_has_ended_when_it_is_left(modules: Path) -> None:
    with Ahead([], {}, killed=killed) as process:
        inner = process._process
        assert inner.is_alive()
    assert not inner.is_alive()
