"""One training process, as torchrun starts it: LLaMA-Factory's run_exp with our callbacks, recording what it dies of.

`python -m qwensft_trainer.training.worker train.yaml`. The file's directory is the scratch directory shared with the
entrypoint.
ADR 0010 says why.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from torch.distributed.elastic.multiprocessing.errors import record

from qwensft_trainer.base import files, upstream
from qwensft_trainer.contract.config import load_arguments
from qwensft_trainer.contract.stage import DRAIN_FLAG, DRAINED_FILE, PROGRESS_FILE, SELECTION_FILE


@record  # type: ignore[untyped-decorator, unused-ignore]  # writes the traceback where the entrypoint finds it
def main() -> None:
    """Train to the end, or to the step at which all ranks agreed to stop (then drained.json tells where)."""
    import torch.distributed as dist
    from llamafactory.train.tuner import run_exp

    from qwensft_trainer.training.callback import Drained, PissaCallback, RunCallback
    from qwensft_trainer.training.evaluations import EarlyStopping

    path = Path(sys.argv[1])
    scratch = path.parent
    arguments = load_arguments(path)
    upstream.mend(deepspeed="deepspeed" in arguments)
    callbacks: list[Any] = [RunCallback(drain_flag=scratch / DRAIN_FLAG, progress_file=scratch / PROGRESS_FILE)]
    selection = files.read_json_object(scratch / SELECTION_FILE) or {}
    if stopping := selection.get("earlyStopping"):
        callbacks.append(EarlyStopping(stopping["patience"], stopping["minDelta"]))
    if arguments.get("pissa_init"):
        callbacks.append(PissaCallback())
    try:
        run_exp(arguments, callbacks=callbacks)
    except Drained as drained:
        if os.environ.get("LOCAL_RANK", "0") == "0":
            files.write_json(scratch / DRAINED_FILE, {"step": drained.step, "checkpoint": drained.checkpoint})
        if dist.is_initialized():
            dist.destroy_process_group()


if __name__ == "__main__":
    main()
