"""Keeps what the trainer logs for those who report it, in the worker of global rank 0."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from qwensft_trainer.base.log import log
from qwensft_trainer.trackers import lines


class LogCallback(TrainerCallback):  # type: ignore[misc]  # transformers carries no types here
    """`path` is the file that the process beside this one reads; without it nobody reports."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        """Add a line. A scratch volume that takes none ends no training."""
        if state.is_world_process_zero and logs:
            try:
                lines.append(self._path, state.global_step, logs)
            except OSError as error:
                log(f"trackers are not told of step {state.global_step}: {error.strerror}")
