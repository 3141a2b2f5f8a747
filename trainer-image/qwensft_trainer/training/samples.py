"""samples.json: what the model answers before and after the training, for the report. By node rank 0, in the end.

A process of its own generates (generation.py): whatever becomes of it, the training has its result. It is begun once
for each result, so that what ends the pod, too, does not end the next one. ADR 0193 says why.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.alias_generators import to_camel

from qwensft_trainer.base import files
from qwensft_trainer.base.environment import forbid_hub_access, training_environment
from qwensft_trainer.base.log import log
from qwensft_trainer.contract import arguments, workspace
from qwensft_trainer.contract.config import Run
from qwensft_trainer.contract.stage import SAMPLES_FILE
from qwensft_trainer.training.output import printed

ALLOWED_SECONDS = 600.0  # for which accelerators are held for it at most, loading the model included
_MORE_SECONDS = 30.0  # for a process that is in the middle of a token, or of writing
_LOOK_SECONDS = 0.2
_MODULE = ("-m", "qwensft_trainer.training.generation")
_KILLED = "the pod ended while they were generated"


class _Document(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="ignore", frozen=True)

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return self.model_dump(mode="json", by_alias=True)


class Answer(_Document):
    """What a model has answered; it has come to its end by itself where it is `complete`."""

    text: str
    complete: bool


class Sample(_Document):
    """A prompt as the model sees it, what the row answers, and what the model does; None: it did not come to that.

    `row` is its place among the rows that were prepared, from 1.
    """

    row: int
    prompt: str
    wanted: str
    before: Answer | None = None
    after: Answer | None = None


class Generated(_Document):
    """What the process has generated so far: `rows` there are to choose from, `why` says why it is not all.

    Answers have `new_tokens` at most.
    """

    source: Literal["evaluation", "training"] = "training"
    rows: int = 0
    new_tokens: int = 0
    samples: tuple[Sample, ...] = ()
    why: str | None = None

    @classmethod
    def read(cls, path: Path) -> Self | None:
        """What a file holds; None where there is none, or anything else in its place."""
        try:
            return cls.model_validate(files.read_json_object(path))
        except ValidationError:
            return None


class Samples(Generated):
    """The same with the result that it is about, by what train.json says of it, and how long it took."""

    directory: str
    completed_at: str | None = None
    asked: int
    seconds: float | None = None

    def is_of(self, recorded: Mapping[str, Any]) -> bool:
        """Whether it is about the result that train.json tells of."""
        return (self.directory, self.completed_at) == (recorded.get("directory"), recorded.get("completedAt"))


class Task(_Document):
    """What the process is told: LLaMA-Factory's arguments, where rows and weights lie, and until when it may work.

    `begun_with` is an adapter that was trained on. `adapter`: what was trained is one, and no whole model. `until` are
    seconds of the monotonic clock, which processes share. Into `target` it writes what it has.
    """

    arguments: dict[str, Any]
    rows: Path
    count: int
    base: Path
    begun_with: Path | None = None
    trained: Path
    adapter: bool
    until: float
    target: Path


def read(run: Run, recorded: Mapping[str, Any]) -> Samples | None:
    """The samples of the result that train.json tells of; None without any."""
    found = Samples.read(run.run_directory / workspace.SAMPLES)
    return found if found is not None and found.is_of(recorded) else None


def leave(
    run: Run, train_arguments: Mapping[str, Any], scratch: Path, is_stopping: Callable[[], bool] = lambda: False
) -> None:
    """Generate what spec.evaluation.samples asks for, unless that was begun before. Failures are lines in the log.

    Returns early once `is_stopping` says that the pod was asked to stop. Raises nothing but Interrupted.
    """
    if run.samples.count == 0:
        return
    try:
        recorded = files.read_json_object(run.train_result) or {}
        known = read(run, recorded)
        if known is None or known.asked != run.samples.count:
            _generate(run, recorded, train_arguments, scratch, is_stopping)
    except Exception as error:  # whatever strange files and volumes raise
        log(f"warning: no samples: {type(error).__name__}: {error}")


def _generate(
    run: Run,
    recorded: Mapping[str, Any],
    train_arguments: Mapping[str, Any],
    scratch: Path,
    is_stopping: Callable[[], bool],
) -> None:
    path, began = run.run_directory / workspace.SAMPLES, time.monotonic()
    workspace.require_ownership(run)  # another job may have been told to take the directory over meanwhile
    about = {
        "directory": recorded["directory"],
        "completed_at": recorded.get("completedAt"),
        "asked": run.samples.count,
    }
    files.write_json(path, Samples(**about, why=_KILLED).document())
    task = Task(
        arguments=arguments.generation_arguments(train_arguments, run),
        rows=run.tokenized_directory,
        count=run.samples.count,
        base=run.model.path,
        begun_with=run.adapter_directory if run.model.adapter else None,
        trained=run.run_directory / recorded["directory"],
        adapter=run.tuning.method == "lora",
        until=began + ALLOWED_SECONDS,
        target=scratch / f"generated-{SAMPLES_FILE}",
    )
    log(f"generating what the model answers to {task.count} prompts before and after the training")
    forbid_hub_access()
    training_environment(processes=1, accelerators=run.accelerator.count)
    why = _run(task, scratch / SAMPLES_FILE, is_stopping)
    generated = Generated.read(task.target) or Generated(why="nothing was generated")
    left = Samples(
        **about,
        **dict(generated) | {"why": why or generated.why},
        seconds=round(time.monotonic() - began, 1),
    )
    workspace.require_ownership(run)
    files.write_json(path, left.document())
    log(f"{path.name} has {len(left.samples)} samples" + (f"; warning: {left.why}" if left.why else ""))


def _run(task: Task, path: Path, is_stopping: Callable[[], bool]) -> str | None:
    """Have the task done; returns why it was not done to its end, None where the process says itself how it went."""
    task.target.unlink(missing_ok=True)
    files.write_json(path, task.document())
    # LLaMA-Factory refuses what it trains by among the arguments of a model that answers, unless told to ignore it.
    process = subprocess.Popen(
        [sys.executable, *_MODULE, str(path)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
        env=os.environ | {"ALLOW_EXTRA_ARGS": "1"},
    )
    relay = threading.Thread(target=_relay, args=(process,), name="samples", daemon=True)
    try:
        relay.start()
        while process.poll() is None:
            if is_stopping():
                return "the pod was asked to stop"
            if time.monotonic() > task.until + _MORE_SECONDS:
                return f"it took longer than {ALLOWED_SECONDS:.0f} s"
            time.sleep(_LOOK_SECONDS)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        relay.join(timeout=10)
    if process.returncode < 0:
        return f"the process was killed by signal {-process.returncode}, mostly for want of memory"
    return f"the process ended with exit code {process.returncode}" if process.returncode else None


def _relay(process: subprocess.Popen[str]) -> None:
    if process.stdout is not None:
        deque(printed(process.stdout), maxlen=0)
