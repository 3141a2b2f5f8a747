"""What node rank 0 tells of a training, for /metrics."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from qwensft_trainer.base.metrics_server import Figures
from qwensft_trainer.training import progress

_HELP = {
    "step": "Optimizer steps done.",
    "total_steps": "Optimizer steps of the whole run.",
    "epoch": "Passes over the data done.",
    "loss": "Last finite training loss.",
    "initial_loss": "First training loss of the run.",
    "eval_loss": "Last evaluation loss.",
    "best_eval_loss": "Lowest evaluation loss so far.",
    "best_step": "Step of the lowest evaluation loss.",
    "learning_rate": "Current learning rate.",
    "tokens_per_second": "Tokens trained per second over all processes, in the last steps.",
    "estimated_remaining_seconds": "Seconds until the last step at the current speed.",
    "last_update_timestamp_seconds": "Unix time of the last step.",
    "non_finite_loss": "1 while the last logged loss is NaN or infinite.",
}


def figures(path: Path) -> Figures:
    """The figures in the progress file at `path`, none before the first."""

    def read() -> dict[str, float | None]:
        current = progress.read(path)
        return {} if current is None else asdict(current)

    return Figures("qwensft_train_", _HELP, read)
