"""What an attempt deletes when it ends, as far as the volume lets it: a later attempt deletes what stays."""

from __future__ import annotations

from pathlib import Path

from qwensft_trainer.base.log import log
from qwensft_trainer.training import checkpoints


def remove_superseded(output: Path, limit: int | None) -> None:
    """After a drain: checkpoints beyond `limit` (`save_total_limit`) of an attempt's directory."""
    try:
        for folder in checkpoints.remove_superseded(output, limit):
            log(f"removed {folder.parent.name}/{folder.name}")
    except OSError as error:
        log(f"old checkpoints stay for now: {error}")


def remove_incomplete(output: Path) -> None:
    """After a failure: half a checkpoint is of no use, and may be what fills the volume."""
    try:
        for folder in checkpoints.remove_incomplete(output):
            log(f"removed {folder.parent.name}/{folder.name}, which is not complete")
    except OSError as error:
        log(f"checkpoints that are not complete stay for now: {error}")
