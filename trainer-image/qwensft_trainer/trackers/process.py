"""Keeps the process that reports: starts it beside the workers, tells it the end, and waits for it no longer than that.

What it does, and whether it lives, is no matter to the training.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from qwensft_trainer.base import files
from qwensft_trainer.base.log import log
from qwensft_trainer.contract.config import Run
from qwensft_trainer.contract.errors import Interrupted
from qwensft_trainer.contract.stage import LINES_FILE, TOLD_FILE, TRACKERS_FILE
from qwensft_trainer.trackers import lines, told
from qwensft_trainer.trackers.lines import Outcome
from qwensft_trainer.trackers.tracker import Subject

_ENDING_SECONDS = 20.0  # for which accelerators are held once the training is over
_ENDING_SECONDS_OTHERWISE = 5.0  # when it has failed, or was told to stop
_LOOK_SECONDS = 0.1
_MODULE = ("-m", "qwensft_trainer.trackers.child")
_OF_THIS_POD = ("dataset_dir", "media_dir", "tokenized_path", "overwrite_cache", "model_name_or_path", "report_to")


class Reporting:
    """Around an attempt of node rank 0. Nothing is started before `begin`, nor for a run without trackers.

    `is_stopping` says whether this pod was asked to stop.
    """

    def __init__(self, scratch: Path, workspace: Path, is_stopping: Callable[[], bool]) -> None:
        self._scratch, self._workspace, self._is_stopping = scratch, workspace, is_stopping
        self._process: subprocess.Popen[bytes] | None = None

    def begin(self, run: Run, arguments: Mapping[str, Any], attempt: int, step: int, processes: int) -> None:
        """Report what the workers log from now on. `processes` train together, from `step` on."""
        if run.trackers is None:
            return
        trackers = run.trackers
        subject = Subject(
            namespace=run.owner.namespace,
            name=run.owner.name,
            uid=run.owner.uid,
            attempt=attempt,
            step=step,
            directory=run.run_directory,
            place=f"/{run.run_directory.relative_to(self._workspace)}",
            run_name=trackers.run_name,
            group=trackers.group,
            tags=trackers.tags,
            parameters=_parameters(run, arguments, processes),
        )
        document = {
            "trackers": trackers.model_dump(mode="json", by_alias=True),
            "subject": asdict(subject) | {"directory": str(subject.directory)},
        }
        try:
            (self._scratch / LINES_FILE).touch()
            files.write_json(self._scratch / TRACKERS_FILE, document)
            self._process = subprocess.Popen(
                [sys.executable, *_MODULE, str(self._scratch)],
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError as error:
            log(f"nothing is reported to trackers: {error}")

    def metrics(self) -> dict[str, Any]:
        """What is known of each tracker, for the termination message."""
        known = told.read(self._scratch / TOLD_FILE) if self._process else []
        return {"trackers": [one.document() for one in known]} if known else {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        outcome: Outcome = "Succeeded"
        if error is not None:
            outcome = "Interrupted" if isinstance(error, Interrupted) else "Failed"
        self._end(outcome)

    def _end(self, outcome: Outcome) -> None:
        if self._process is None:
            return
        try:
            if (code := self._process.poll()) is not None:
                log(f"trackers: the process that reports has ended before (exit code {code}), and told nothing since")
            lines.end(self._scratch / LINES_FILE, outcome)
            self._wait(self._process, outcome)
        except OSError as error:
            log(f"trackers: {error}")
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)  # with what the libraries have started
            self._process.wait()
        for one in told.read(self._scratch / TOLD_FILE):
            if one.undelivered:
                log(f"{one.name}: {one.undelivered} log lines were not delivered; trainer_log.jsonl has them")

    def _wait(self, process: subprocess.Popen[bytes], outcome: Outcome) -> None:
        began = time.monotonic()
        while process.poll() is None:
            waited = time.monotonic() - began
            # Of a gang that fails, the pod that ends first is the one whose error is told.
            is_hasty = outcome != "Succeeded" or self._is_stopping()
            if waited >= (_ENDING_SECONDS_OTHERWISE if is_hasty else _ENDING_SECONDS):
                log(f"trackers: not all is delivered after {waited:.0f} s; going on without")
                return
            time.sleep(_LOOK_SECONDS)


def _parameters(run: Run, arguments: Mapping[str, Any], processes: int) -> dict[str, Any]:
    """LLaMA-Factory's arguments, but for where things lie in a pod."""
    kept = {name: value for name, value in arguments.items() if name not in _OF_THIS_POD}
    return {"model": run.model.name, "processes": processes, **kept}
