"""The entry points: a command in; its text, or one sentence of what went wrong, and an exit code out.

A kubectl plugin is a program called kubectl-qwensft, so `kubectl qwensft` and `qwensft` are the same.
ADR 0175 says what is printed, and with which code a command ends.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from qwensft.cli.failures import CLUSTER, DONE, FAILED, FAULT, INTERRUPTED, MISSING, CommandError

DEBUG = "QWENSFT_DEBUG"


def main() -> NoReturn:
    """Run the command of this process."""
    sys.exit(run(sys.argv[1:], program=_program()))


def run(arguments: Sequence[str], *, program: str = "qwensft") -> int:
    """Run a command and return its exit code."""
    try:
        return _run(list(arguments) or ["--help"], program)
    except BrokenPipeError:  # a pager or head that has seen enough
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - Python flushes it at its end
        return DONE
    except CommandError as error:
        return _failed(str(error), error.code)
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:
        if os.environ.get(DEBUG):
            raise
        return _known(error) or _failed(
            f"{type(error).__name__}: {error}; this is a fault of qwensft, please report it with what {DEBUG}=1 shows",
            FAULT,
        )


def _run(arguments: list[str], program: str) -> int:
    try:
        from typer.exceptions import Abort, TyperException  # of the extra
        from typer.main import get_command
    except ModuleNotFoundError as error:
        return _failed(f"the command line needs {error.name}: pip install 'qwensft[cli]'", MISSING)
    from qwensft.cli.app import app  # it needs typer

    try:
        code = get_command(app).main(arguments, prog_name=program, standalone_mode=False)
    except Abort:
        return INTERRUPTED
    except TyperException as error:  # of usage
        return _failed(f"{error.format_message().rstrip('.')}; see {program} --help", error.exit_code)
    return int(code or DONE)


def _known(error: Exception) -> int | None:
    """Tell what the client and the API raise; None for anything else."""
    from qwensft.api.v1alpha1 import InvalidJobError  # takes a while to import

    if isinstance(error, InvalidJobError):
        return _failed(str(error), FAILED)
    if "qwensft.client.errors" in sys.modules:
        from qwensft.client.errors import ClientError, MissingPackageError, RunFailedError

        if isinstance(error, MissingPackageError):
            return _failed(str(error), MISSING)
        if isinstance(error, RunFailedError):
            return _failed(str(error), FAILED)
        if isinstance(error, ClientError):
            return _failed(str(error), CLUSTER)
    return None


def _failed(message: str, code: int) -> int:
    sys.stderr.write(f"error: {message}\n")
    return code


def _program() -> str:
    return "kubectl qwensft" if Path(sys.argv[0]).name.startswith("kubectl-") else "qwensft"
