"""`qwensft-trainer {prepare|train|merge}`: runs one stage and reports how it ended, whatever happens.

Stages are imported only when asked for: torch and LLaMA-Factory take many seconds to import.
"""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from qwensft_trainer.base import causes
from qwensft_trainer.base.causes import STORAGE_ADVICE, STORAGE_ERRNOS
from qwensft_trainer.base.environment import prepare_environment
from qwensft_trainer.base.log import log
from qwensft_trainer.base.redaction import clean_output
from qwensft_trainer.contract import certificates, credentials, memory, places, space, termination
from qwensft_trainer.contract.access import access_denied, denied_later, error_told
from qwensft_trainer.contract.errors import Interrupted, StageError
from qwensft_trainer.contract.stage import StageContext
from qwensft_trainer.contract.termination import Report

# The stages that the operator knows, and what a failure nobody has foreseen is called in each.
STAGES = {"prepare": "PreparationFailed", "train": "TrainingFailed", "merge": "MergeFailed"}

_ASK_AGAIN_SECONDS = 0.1


def main(argv: Sequence[str] | None = None) -> int:
    """Run one stage; the return value is the process's exit code (0, 1, 78 or 143)."""
    options = _parser().parse_args(argv)
    attempt = int(os.environ.get("QWENSFT_ATTEMPT", "1"))
    os.environ.setdefault("QWENSFT_STAGE", options.stage)
    os.umask(0o002)
    context = StageContext(
        name=options.stage,
        attempt=attempt,
        config=options.config,
        workspace=options.workspace,
        scratch=options.scratch,
        termination_log=options.termination_log,
        metrics_port=options.metrics_port,
    )
    with clean_output():
        return _reported(context)


def _reported(context: StageContext) -> int:
    """Run the stage and tell how it ended, in the log and the termination message; returns the exit code."""
    # As PID 1 of its container a process ignores SIGTERM unless it asks for it. Training puts its own handler on top.
    previous = signal.signal(signal.SIGTERM, _interrupt)
    try:
        with _no_stop_request_lost():
            report = _run(context)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the result stands; only its writing is left
        termination.write(context.termination_log, report)
    finally:
        signal.signal(signal.SIGTERM, previous)
    log(f"{report.outcome.lower()}" + (f" ({report.reason}): {report.message}" if report.reason else ""))
    return report.exit_code


def _run(context: StageContext) -> Report:
    node_rank = int(os.environ.get("NODE_RANK", "0")) if context.name == "train" else None
    try:
        credentials.read_environment(os.environ)
        memory.suffices(context.name)
        prepare_environment(context.scratch)
        if bundle := os.environ.get("QWENSFT_CA_BUNDLE"):
            certificates.trust(Path(bundle), context.scratch)
        result = importlib.import_module(f"qwensft_trainer.stages.{context.name}").main(context)
        return Report(
            outcome="Succeeded",
            stage=context.name,
            attempt=context.attempt,
            rank=node_rank,
            exit_code=0,
            message=result.message,
            metrics=result.metrics,
            outputs=result.outputs,
        )
    except Interrupted as stopped:
        failure: StageError | Interrupted = stopped
    except OSError as error:
        failure = _of_system(context, error)
    except StageError as error:
        failure = error
    except MemoryError:
        failure = StageError("OutOfMemory", f"The {context.name} stage ran out of memory: raise its memory limit.")
    except Exception as error:
        failure = _unexpected(context, error)
    return Report(
        outcome="Interrupted" if isinstance(failure, Interrupted) else "Failed",
        stage=context.name,
        attempt=context.attempt,
        rank=node_rank,
        exit_code=failure.exit_code,
        reason=failure.reason,
        message=failure.message,
        metrics=failure.metrics,
    )


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise Interrupted("Stopped by SIGTERM; the next attempt does this stage again.")


@contextmanager
def _no_stop_request_lost() -> Iterator[None]:
    """Ask once more where Python drops the exception: in __del__ and callbacks of weak references it only prints it."""
    others = sys.unraisablehook

    def ask_again(unraisable: sys.UnraisableHookArgs) -> None:
        if isinstance(unraisable.exc_value, Interrupted):
            threading.Timer(_ASK_AGAIN_SECONDS, os.kill, (os.getpid(), signal.SIGTERM)).start()
        else:
            others(unraisable)

    sys.unraisablehook = ask_again
    try:
        yield
    finally:
        sys.unraisablehook = others


def _of_system(context: StageContext, error: OSError) -> StageError:
    if error.errno in space.FULL:
        return space.disk_full(error, context.workspace)
    if (denied := _denied(context, error)) is not None:
        return denied
    if (blocked := places.in_the_way(error, STAGES[context.name], context.workspace)) is not None:
        return blocked
    failure = _unexpected(context, error)
    if error.errno in STORAGE_ERRNOS:
        return StageError(failure.reason, f"{failure.message}. {STORAGE_ADVICE}")
    return failure


def _denied(context: StageContext, error: OSError) -> StageError | None:
    judge = access_denied if context.name == "prepare" else denied_later
    return judge(error, workspace=context.workspace, scratch=context.scratch)


def _unexpected(context: StageContext, error: Exception) -> StageError:
    traceback.print_exception(error)
    told = error_told(type(error).__name__, str(error))
    if not isinstance(error, OSError) and told is not None and (denied := _denied(context, told)) is not None:
        return denied
    for before in causes.chain(error):
        if before is not error and isinstance(before, OSError) and (denied := _denied(context, before)) is not None:
            # Retryable: what came of it may have had another cause.
            return StageError(denied.reason, f"{type(error).__name__}: {error}. Before that: {denied.message}")
    return StageError(STAGES[context.name], f"{type(error).__name__}: {error}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="qwensft-trainer", description="Run one stage of a Qwen fine-tuning run.")
    parser.add_argument("stage", choices=STAGES)
    parser.add_argument("--config", type=Path, default=Path("/etc/qwensft"), help="run.yaml, train.yaml, export.yaml")
    parser.add_argument("--workspace", type=Path, default=Path("/workspace"), help="root of the run's volume")
    parser.add_argument("--scratch", type=Path, default=Path("/tmp/qwensft"), help="caches and temporary files")  # noqa: S108
    parser.add_argument("--termination-log", type=Path, default=Path("/dev/termination-log"))
    parser.add_argument("--metrics-port", type=int, default=9400, help="of /metrics, in train and merge")
    return parser


if __name__ == "__main__":
    sys.exit(main())
