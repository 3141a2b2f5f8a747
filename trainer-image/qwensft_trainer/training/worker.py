"""One training process, as torchrun starts it: LLaMA-Factory's run_exp with our callbacks, recording what it dies of.

`python -m qwensft_trainer.training.worker train.yaml`. The file's directory is the scratch directory shared with the
entrypoint.
ADR 0010 says why.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch.distributed.elastic.multiprocessing.errors import record

from qwensft_trainer.base import files, upstream
from qwensft_trainer.contract.config import load_arguments
from qwensft_trainer.contract.stage import (
    DIFFERENT_FILE,
    DRAINED_FILE,
    LINES_FILE,
    PROGRESS_FILE,
    SELECTION_FILE,
    STARTUP_FILE,
    UNLOADABLE_FILE,
)
from qwensft_trainer.training import imports, loading, stalls, startup
from qwensft_trainer.training.startup import Marks

if TYPE_CHECKING:
    from qwensft_trainer.training.tokens import TokenCount


@record  # type: ignore[untyped-decorator, unused-ignore]  # writes the traceback where the entrypoint finds it
def main() -> None:
    """Train to the end, or to the step at which all ranks agreed to stop (then drained.json tells where).

    Ranks that were to start from different places leave without an error; different.json has what each says.
    """
    path = Path(sys.argv[1])
    scratch = path.parent
    arguments = load_arguments(path)
    run_exp = imports.run_exp(arguments)

    import torch.distributed as dist
    from llamafactory.train.sft import workflow

    from qwensft_trainer.training.tokens import TokenCount, count

    waits = timedelta(seconds=float(arguments["ddp_timeout"])) if "ddp_timeout" in arguments else None
    upstream.mend(deepspeed="deepspeed" in arguments, collective_timeout=waits)
    marks = Marks(scratch / STARTUP_FILE if os.environ.get("RANK", "0") == "0" else None)
    marks.mark(startup.IMPORTED)
    startup.follow_workflow(workflow, marks)
    watched = float(os.environ.get("QWENSFT_STALL_TIMEOUT_SECONDS", "0")) > 0
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    if watched:
        stalls.answer_with_stacks(scratch, local_rank)
    tokens = TokenCount()
    count(tokens)
    callbacks = our_callbacks(scratch, arguments, tokens, marks)
    if watched and local_rank == 0:
        from qwensft_trainer.training.pulse import PulseCallback

        callbacks.append(PulseCallback(scratch))
    _train(lambda: run_exp(arguments, callbacks=callbacks), scratch, arguments, leads=local_rank == 0)
    if dist.is_initialized():
        dist.destroy_process_group()


def our_callbacks(scratch: Path, arguments: Mapping[str, Any], tokens: TokenCount, marks: Marks) -> list[Any]:
    """The hooks into transformers' Trainer, in the order in which they are called, but for signs of life."""
    from qwensft_trainer.training.callback import PissaCallback, RunCallback
    from qwensft_trainer.training.evaluations import EarlyStopping, OwedEvaluation
    from qwensft_trainer.training.figures_callback import FiguresCallback
    from qwensft_trainer.training.log_callback import LogCallback

    callbacks: list[Any] = [RunCallback(scratch), FiguresCallback(scratch / PROGRESS_FILE, tokens, marks)]
    if (scratch / LINES_FILE).exists():
        callbacks.append(LogCallback(scratch / LINES_FILE))
    selection = files.read_json_object(scratch / SELECTION_FILE) or {}
    if stopping := selection.get("earlyStopping"):
        callbacks.append(EarlyStopping(stopping["patience"], stopping["minDelta"]))
    callbacks.append(OwedEvaluation())  # after those that count evaluations
    if arguments.get("pissa_init"):
        callbacks.append(PissaCallback())
    return callbacks


def _train(run: Callable[[], None], scratch: Path, arguments: Mapping[str, Any], *, leads: bool) -> None:
    """Run, and leave in the scratch directory why training ended before its last step. What fails is raised on."""
    from qwensft_trainer.training.callback import Different, Drained

    try:
        run()
    except Drained as drained:
        if leads:
            files.write_json(scratch / DRAINED_FILE, {"step": drained.step, "checkpoint": drained.checkpoint})
    except Different as different:
        if leads:
            files.write_json(scratch / DIFFERENT_FILE, {"starts": different.starts})
    except Exception as error:
        if (checkpoint := arguments.get("resume_from_checkpoint")) and loading.failed(error):
            files.write_json(
                scratch / UNLOADABLE_FILE, {"checkpoint": checkpoint, "why": f"{type(error).__name__}: {error!s:.500}"}
            )
        raise


if __name__ == "__main__":
    main()
