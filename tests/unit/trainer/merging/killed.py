"""What test_streaming.py calls in a process of its own."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from qwensft_trainer.merging import streaming
from qwensft_trainer.merging.plan import Plan


def write(plan: Plan, directory: Path, *, after: int) -> None:
    """Write the plan's files, and be killed after so many bytes of tensors."""
    streaming._COPIED = 64

    def kill(done: int) -> None:
        if done > after:
            os.kill(os.getpid(), signal.SIGKILL)

    streaming.write(plan, directory, digest="1", tell=kill)
