"""What is told of a training process that failed: by its error file, and by what was printed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from qwensft_trainer.contract.errors import StageError
from qwensft_trainer.training import failures as under_test
from qwensft_trainer.training.failures import WorkerFailure, read_error_files
from qwensft_trainer.training.output import Output

from .. import error_files

PEER = "RuntimeError: [../gloo/transport/tcp/pair.cc:534] Connection closed by peer [10.0.0.7]:29500"


def cause(failures: Sequence[WorkerFailure], printed: Iterable[str], exit_code: int) -> StageError:
    """What is told, where no access was denied, of these error files and of what workers and torchrun have printed."""
    output = Output()
    for line in printed:
        output.add(line)
    return under_test.cause(failures, output, exit_code, lambda _: None)


def worker(message: str, *, time: float = 1.0, rank: int = 0, traceback: str = "") -> WorkerFailure:
    return WorkerFailure(rank, time, message, traceback)


def name_of(exception: str) -> str:
    """The type's name without its module."""
    return exception.partition(":")[0].rpartition(".")[2]


def cause_of(temporary: Path, callstack: str) -> StageError:
    """What is told of a worker that left this traceback in its error file."""
    error_files.write(temporary, callstack)
    return cause(read_error_files(temporary), ["[rank0]: " + line for line in callstack.splitlines()], 1)
