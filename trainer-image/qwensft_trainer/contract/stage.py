"""What every stage gets and gives back: its place in the file system and the attempt, and the result to be reported."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# Files in the scratch directory by which the entrypoint and the workers of a training pod talk.
DRAIN_FLAG = "drain"  # the workers shall save and stop
BEGUN_FILE = "begun"  # a step is done, so that there is something to save
START_FILE = "start.json"  # where this node starts
DIFFERENT_FILE = "different.json"  # the ranks were to start from different places, and have not
UNLOADABLE_FILE = "unloadable.json"  # the checkpoint does not load
DRAINED_FILE = "drained.json"  # all ranks have saved and stopped
PROGRESS_FILE = "progress.json"
SELECTION_FILE = "selection.json"
ACTIVITY_FILE = "activity.json"
STARTUP_FILE = "startup.json"
LINES_FILE = "lines.jsonl"  # what the training has logged, for trackers; there only if there are any
TRACKERS_FILE = "trackers.json"  # what the process that reports is told
SAMPLES_FILE = "samples.json"  # what the process that generates samples is told
TOLD_FILE = "told.json"  # what it tells of each tracker


@dataclass(frozen=True)
class StageContext:
    """Which stage runs, which attempt at it, and where.

    The defaults of the command line are the mount points that the operator uses.
    """

    name: str
    attempt: int
    config: Path
    workspace: Path
    scratch: Path
    termination_log: Path
    metrics_port: int


@dataclass(frozen=True)
class Result:
    """A stage that succeeded: numbers and outputs for the termination message."""

    message: str = ""
    metrics: Mapping[str, Any] = field(default_factory=dict)
    outputs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
