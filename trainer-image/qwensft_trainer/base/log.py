"""Lines on stdout for people: time, stage, message. LLaMA-Factory and torchrun write their own lines beside them."""

from __future__ import annotations

import os
import sys
import time


def log(message: str) -> None:
    """Print one line; a newline inside `message` becomes ' | ', so that log collectors see one record."""
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    stage = os.environ.get("QWENSFT_STAGE", "trainer")
    sys.stdout.write(f"{stamp} [{stage}] {' | '.join(message.splitlines())}\n")
    sys.stdout.flush()
