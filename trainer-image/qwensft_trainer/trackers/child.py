"""The process that reports, beside the training: `python -m qwensft_trainer.trackers.child SCRATCH`.

It is told in a file what to report and where, and ends after the line that says how the attempt ended.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qwensft_trainer.base import files
from qwensft_trainer.base.log import log
from qwensft_trainer.base.redaction import clean_output
from qwensft_trainer.contract import credentials
from qwensft_trainer.contract.config import Trackers
from qwensft_trainer.contract.errors import StageError
from qwensft_trainer.contract.stage import LINES_FILE, TOLD_FILE, TRACKERS_FILE
from qwensft_trainer.trackers import secrets
from qwensft_trainer.trackers.lines import Lines
from qwensft_trainer.trackers.told import Board, Told
from qwensft_trainer.trackers.tracker import Subject, Tracker, serve

_NICER = 5  # than the training
_DEFAULTS = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",  # by the library; we try again ourselves, and say so
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "WANDB_ERROR_REPORTING": "false",
}


def main() -> None:
    """Report to every tracker in a thread of its own."""
    scratch = Path(sys.argv[1])
    with contextlib.suppress(OSError):
        os.nice(_NICER)
    with clean_output():
        credentials.read_environment(os.environ)
        _report(scratch)


def _report(scratch: Path) -> None:
    document = files.read_json_object(scratch / TRACKERS_FILE) or {}
    trackers, subject = Trackers.model_validate(document["trackers"]), subject_of(document["subject"])
    try:
        given = secrets.variables(trackers)
    except StageError as error:
        log(f"trackers: {error.message}")
        return
    os.environ.update({name: os.environ.get(name, value) for name, value in _DEFAULTS.items()} | given)
    if trackers.wandb is not None and trackers.wandb.endpoint is not None:
        os.environ["WANDB_BASE_URL"] = trackers.wandb.endpoint
    board = Board(scratch / TOLD_FILE)
    names = [name for name in ("tensorboard", "mlflow", "wandb") if getattr(trackers, name) is not None]
    threads = [
        threading.Thread(target=_serve, args=(name, trackers, subject, Lines(scratch / LINES_FILE), board), daemon=True)
        for name in names
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def subject_of(document: Mapping[str, Any]) -> Subject:
    """Read what `process.Reporting` has written."""
    return Subject(**{**document, "directory": Path(document["directory"])})


def _make(name: str, trackers: Trackers, subject: Subject) -> Tracker:
    """Its library is imported here, in the thread of its own: one that cannot be is no matter to the others."""
    if name == "mlflow" and trackers.mlflow is not None:
        from qwensft_trainer.trackers.mlflow_server import MLflowRun

        return MLflowRun(subject, trackers.mlflow)
    if name == "wandb" and trackers.wandb is not None:
        from qwensft_trainer.trackers.weights_and_biases import WandbRun

        return WandbRun(subject, trackers.wandb)
    from qwensft_trainer.trackers.event_files import EventFiles

    return EventFiles(subject)


def _serve(name: str, trackers: Trackers, subject: Subject, lines: Lines, board: Board) -> None:
    try:
        if name in trackers.directories and files.leads_out(subject.directory / name, subject.directory):
            raise OSError(f"{subject.directory / name} is a link that leads elsewhere: remove it")
        serve(_make(name, trackers, subject), lines, board.tell, step=subject.step)
    except Exception as error:  # of making it: an image without the package, say
        log(f"{name}: cannot report ({type(error).__name__}: {error!s:.500})")
        board.tell(Told(name, undelivered=lines.undelivered()))


if __name__ == "__main__":
    main()
