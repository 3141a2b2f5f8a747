"""The entry points: a command in; its text, or one sentence of what went wrong, and an exit code out.

A kubectl plugin is a program called kubectl-qwensft, so `kubectl qwensft` and `qwensft` are the same.
ADR 0175 says what is printed, and with which code a command ends.
"""

from __future__ import annotations

import errno
import io
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from qwensft.cli.failures import CLUSTER, DONE, FAILED, FAULT, INTERRUPTED, MISSING, USAGE, CommandError
from qwensft.cli.output import OutputClosedError, safe

DEBUG = "QWENSFT_DEBUG"
_HINTS = dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), "make room, then call again") | dict.fromkeys(
    (errno.EACCES, errno.EPERM, errno.EROFS), "name a place that you may write to, or have the right given"
)


def main() -> NoReturn:
    """Run the command of this process."""
    for name in ("SIGTERM", "SIGHUP"):  # as Ctrl-C: pods that were made for files are deleted
        number = getattr(signal, name, None)  # Windows has one of them
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:  # else nohup wants it ignored
            signal.signal(number, signal.default_int_handler)
    if isinstance(sys.stdout, io.TextIOWrapper):  # a code page without a bar's blocks is no reason to end
        sys.stdout.reconfigure(errors="replace")
    sys.exit(run(sys.argv[1:], program=_program()))


def run(arguments: Sequence[str], *, program: str = "qwensft") -> int:
    """Run a command and return its exit code."""
    try:
        return _run(list(arguments) or ["--help"], program)
    except OutputClosedError:
        _forget_output()
        return DONE
    except CommandError as error:
        return _failed(str(error), error.code)
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:
        if isinstance(error, OSError) and not error.filename:
            _forget_output()
        if os.environ.get(DEBUG):
            traceback.print_exc()
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
        from qwensft.client.errors import ClientError, MissingPackageError, RowsError, RunFailedError

        if isinstance(error, MissingPackageError):
            return _failed(str(error), MISSING)
        if isinstance(error, RunFailedError | RowsError):
            return _failed(str(error), FAILED)
        if isinstance(error, ClientError):
            return _failed(str(error), CLUSTER)
    if isinstance(error, OSError):
        return _failed(*_of_system(error))
    return None


def _of_system(error: OSError) -> tuple[str, int]:
    """What the system says of a file or a connection, and the code for it."""
    import socket
    import ssl

    said = error.strerror or str(error)
    if isinstance(error, ConnectionError | TimeoutError | socket.gaierror | ssl.SSLError):
        return f"{said}: the connection to the cluster broke; try again", CLUSTER
    hint = _HINTS.get(error.errno or 0, "correct the path, or try again")
    return (f"{error.filename}: {said}; {hint}" if error.filename else f"{said}; {hint}"), USAGE


def _forget_output() -> None:
    """Write nothing more: Python flushes the standard output at its end, and would fail once more."""
    sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115


def _failed(message: str, code: int) -> int:
    sys.stderr.write(f"error: {' '.join(safe(message).split())}\n")
    return code


def _program() -> str:
    return "kubectl qwensft" if Path(sys.argv[0]).name.startswith("kubectl-") else "qwensft"
