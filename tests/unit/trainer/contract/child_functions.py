"""What test_child.py calls in a process of its own; a function is found there by its module and name."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from qwensft_trainer.contract.child import call
from qwensft_trainer.contract.errors import Interrupted, PermanentError


class OddError(Exception):
    """Cannot be made again from its arguments, as pickle does it."""

    def __init__(self, first: int, second: int) -> None:
        super().__init__(f"{first} and {second}")


def add(first: int, second: int = 0) -> tuple[int, int]:
    return first + second, os.getpid()


def refuse() -> None:
    raise PermanentError("MergeFailed", "no room")


def raise_odd() -> None:
    raise OddError(1, 2)


def kill(number: int) -> None:
    os.kill(os.getpid(), number)


def say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


def leave() -> None:
    os._exit(3)


def give_what_cannot_be_sent() -> object:
    return lambda: None


def sleep(told: Path) -> None:
    told.write_text(str(os.getpid()))
    time.sleep(60)


def call_and_be_stopped(told: Path) -> None:
    """A stage that gets SIGTERM while it waits for a child."""

    def stop(*_: object) -> None:
        raise Interrupted("stopped")

    signal.signal(signal.SIGTERM, stop)
    call(sleep, told)
