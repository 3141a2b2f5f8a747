"""A function in a process of its own: its result, its errors, its end."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from qwensft_trainer.contract.child import call
from qwensft_trainer.contract.errors import PermanentError, StageError

from . import child_functions


def eventually(condition: Callable[[], bool]) -> bool:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.05)
    return False


def is_gone(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    return "Z" in Path(f"/proc/{process}/stat").read_text().split()[2]


def test_the_result_comes_from_another_process(capfd: pytest.CaptureFixture[str]) -> None:
    total, process = call(child_functions.add, 1, second=2)
    assert total == 3
    assert process != os.getpid()
    assert is_gone(process)
    assert "add: at most " in "".join(capfd.readouterr())


def test_what_it_prints_is_cleaned(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKER_API_KEY", "a-key-of-the-tracker")
    call(child_functions.say, "refused: a-key-of-the-tracker \x1b[2J")
    assert "refused: [redacted] \\x1b[2J\n" in "".join(capfd.readouterr())


def test_a_failure_is_raised_as_it_was() -> None:
    with pytest.raises(PermanentError) as caught:
        call(child_functions.refuse)
    assert (caught.value.reason, caught.value.message) == ("MergeFailed", "no room")


def test_an_error_that_cannot_be_sent_is_told_by_its_words() -> None:
    with pytest.raises(RuntimeError, match="OddError: 1 and 2"):
        call(child_functions.raise_odd)


def test_a_killed_process_wants_memory() -> None:
    with pytest.raises(StageError, match=r"requests and limits of spec\.merge\.resources") as caught:
        call(child_functions.kill, signal.SIGKILL)
    assert caught.value.reason == "OutOfMemory"
    assert not isinstance(caught.value, PermanentError)


@pytest.mark.parametrize(
    ("function", "code"), [(child_functions.leave, 3), (child_functions.give_what_cannot_be_sent, 1)]
)
def test_any_other_end_is_told_with_its_code(function: Callable[[], object], code: int) -> None:
    with pytest.raises(StageError, match=f"exit code {code}") as caught:
        call(function)
    assert caught.value.reason == "MergeFailed"


def test_it_is_ended_with_the_stage(tmp_path: Path) -> None:
    told = tmp_path / "process"
    stage = multiprocessing.get_context("spawn").Process(target=child_functions.call_and_be_stopped, args=(told,))
    stage.start()
    assert eventually(lambda: told.is_file() and bool(told.read_text()))
    child = int(told.read_text())
    stage.terminate()
    stage.join(60)
    assert not stage.is_alive()
    assert eventually(lambda: is_gone(child))
