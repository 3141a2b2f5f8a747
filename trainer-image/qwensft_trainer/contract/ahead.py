"""A process that imports libraries ahead of time, while this one waits for downloads, and then calls a function there.

Python runs one thread at a time, so a thread would import only while this process does nothing else. The process starts
anew (spawn) and gets its environment at once: libraries read it when they are imported. It may have children, too.
ADR 0133 says why.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import signal
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar

from qwensft_trainer.base import redaction
from qwensft_trainer.contract.child import sendable
from qwensft_trainer.contract.errors import StageError

_ENDING_SECONDS = 10.0
Given = ParamSpec("Given")
Result = TypeVar("Result")


class Ahead:
    """Imports `modules` from when it is entered, and is ended when it is left; calls at most one function."""

    def __init__(self, modules: Sequence[str], environment: Mapping[str, str], *, killed: Callable[[int], StageError]):
        """`killed` makes the error of a process that ended with that exit code, negative for a signal."""
        spawn = multiprocessing.get_context("spawn")
        self._ours, self._theirs = spawn.Pipe()
        self._process = spawn.Process(target=_serve, args=(self._theirs, modules, dict(environment)))
        self._killed = killed

    def __enter__(self) -> Self:
        self._process.start()
        self._theirs.close()
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.join()
        self._ours.close()

    def call(self, function: Callable[Given, Result], *arguments: Given.args, **named: Given.kwargs) -> Result:
        """What the function returns, or raises. Raises what `killed` makes when the process has ended."""
        try:
            self._ours.send((redaction.secrets, function, arguments, named))
            failed, answer = self._ours.recv()
            self._process.join(_ENDING_SECONDS)  # what it holds of the system is given back in order
        except (EOFError, OSError):
            self._process.join()
            raise self._killed(self._process.exitcode or 0) from None
        if failed:
            raise answer
        result: Result = answer
        return result


def _serve(connection: Connection, modules: Sequence[str], environment: Mapping[str, str]) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.environ.update(environment)
    with suppress(Exception):  # whoever uses them fails in the same way, and is told
        for module in modules:
            importlib.import_module(module)
    with suppress(EOFError):  # the other side has gone, and wants nothing
        redaction.secrets, function, arguments, named = connection.recv()
        with redaction.clean_output():
            answer = _called(function, arguments, named)
        connection.send(answer)


def _called(function: Callable[..., Any], arguments: Any, named: Any) -> tuple[bool, Any]:
    try:
        return False, function(*arguments, **named)
    except BaseException as error:  # it is raised again where the stage can tell it
        if not isinstance(error, StageError):
            traceback.print_exc()  # which does not survive the way
        return True, sendable(error)
