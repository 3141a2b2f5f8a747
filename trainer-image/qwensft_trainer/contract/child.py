"""Calls a function in a process of its own: what it imports and holds is gone afterwards, and a kill is told as one.

The process starts anew (spawn), so it holds nothing of the stage's; arguments and result are pickled.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from qwensft_trainer.base.log import log
from qwensft_trainer.base.redaction import clean_output
from qwensft_trainer.contract import credentials
from qwensft_trainer.contract.errors import StageError

_ENDING_SECONDS = 10.0
Given = ParamSpec("Given")
Result = TypeVar("Result")


def call(function: Callable[Given, Result], *arguments: Given.args, **named: Given.kwargs) -> Result:
    """What the function returns, or raises. Raises StageError OutOfMemory when its process was killed.

    The process is ended when this one is asked to stop.
    """
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe(duplex=False)
    process = spawn.Process(target=_serve, args=(theirs, function, arguments, named), daemon=True)
    process.start()
    theirs.close()
    try:
        failed, answer, peak = ours.recv()
        process.join(_ENDING_SECONDS)
    except (EOFError, OSError):  # OSError: killed while it answered
        process.join()
        raise _ended(process.exitcode) from None
    finally:
        process.kill()
        process.join()
    log(f"{function.__name__}: at most {peak >> 20} MiB of memory")
    if failed:
        raise answer
    result: Result = answer
    return result


def _serve(connection: Connection, function: Callable[..., Any], arguments: Any, named: Any) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    with clean_output():  # what it prints does not go through the stage
        try:
            credentials.read_environment(os.environ)
            answer = (False, function(*arguments, **named), peak_memory())
        except BaseException as error:  # it is raised again where the stage can tell it
            answer = (True, sendable(error), peak_memory())
    connection.send(answer)


def sendable(error: BaseException) -> BaseException:
    """The error, or one with its words: libraries raise what cannot be pickled, or is not the same afterwards."""
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301  # written right here
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error!s:.1000}")
    return error


def peak_memory() -> int:
    """Bytes of memory that this process has held at most."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) << 10
    return 0


def _ended(exit_code: int | None) -> StageError:
    if exit_code == -signal.SIGKILL:
        return StageError(
            "OutOfMemory",
            "The process that merges or verifies was killed, mostly for want of memory: raise memory in "
            "requests and limits of spec.merge.resources.",
        )
    return StageError("MergeFailed", f"The process that merges or verifies ended with exit code {exit_code}.")
