"""Whether a training process died of the checkpoint that it was to go on from: it does not load.

Only then a later attempt shall take an older one. An exception of the machine, the volume or the network proves nothing
about the checkpoint, wherever it was raised.
"""

from __future__ import annotations

import traceback

from qwensft_trainer.base.causes import raise_unless_inputs

# The functions of transformers 5.5.4 that read a checkpoint's files.
_LOADERS = {
    *("_load_from_checkpoint", "_load_optimizer_and_scheduler", "_load_scaler", "_load_rng_state"),
    *("deepspeed_load_checkpoint", "load_from_json"),
}


def failed(error: Exception) -> bool:
    """Whether the exception was raised while a checkpoint was read, by what is in it."""
    if not any(frame.f_code.co_name in _LOADERS for frame, _ in traceback.walk_tb(error.__traceback__)):
        return False
    try:
        raise_unless_inputs(error)
    except Exception:
        return False
    return True
