"""What node rank 0 tells of a training, for /metrics."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from qwensft_trainer.base import files
from qwensft_trainer.base.metrics_server import Figures
from qwensft_trainer.trackers import told as trackers
from qwensft_trainer.training import progress, startup
from qwensft_trainer.training.efficiency import peak_flops
from qwensft_trainer.training.progress import Progress
from qwensft_trainer.training.startup import Marks

HELP = {
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
    "attempt_started_timestamp_seconds": "Unix time at which this attempt's pod began to work.",
    "attempt_training_timestamp_seconds": "Unix time at which this attempt's first step began.",
    "attempt_from_step": "Optimizer steps that were done before this attempt.",
    "attempt_padding_share": "Share of padding in what this attempt has computed.",
    "attempt_model_flops_utilization": "Share of the accelerators' peak that the model's own arithmetic used.",
    "attempt_checks_seconds": "Seconds of this attempt's start: from its process to the end of all checks.",
    "attempt_gang_seconds": "Seconds of this attempt's start: until all pods were there.",
    "attempt_imports_seconds": "Seconds of this attempt's start: torchrun, and imports of the worker.",
    "attempt_rendezvous_seconds": "Seconds of this attempt's start: until the process group was formed.",
    "attempt_data_seconds": "Seconds of this attempt's start: tokenizer and rows.",
    "attempt_model_seconds": "Seconds of this attempt's start: loading the model.",
    "attempt_setup_seconds": "Seconds of this attempt's start: optimizer, and the checkpoint to go on from.",
}


@dataclass
class Reader:
    """Reads the workers' progress at `path` and adds what the entrypoint knows.

    `started`: Unix time at which it began, `began`: the same by the clock of the marks. `marks` are its own, `startup`
    holds those of the worker. `flops_per_token`: None where that is not known.
    """

    path: Path
    started: float
    processes: int
    flops_per_token: float | None = None
    startup: Path | None = None
    began: float = field(default_factory=time.monotonic)
    marks: Marks = field(default_factory=Marks)

    def read(self) -> Progress | None:
        """The last progress, None before the first."""
        known = progress.read(self.path)
        if known is None:
            return None
        attempt = replace(
            known.attempt,
            started_timestamp_seconds=self.started,
            model_flops_utilization=self._utilization(known),
            **self._phases(),
        )
        return replace(known, attempt=attempt)

    def _phases(self) -> dict[str, Any]:
        of_worker = files.read_json_object(self.startup) if self.startup else None
        lengths = startup.seconds(self.began, self.marks.times, of_worker or {})
        return {f"{phase}_seconds": round(length, 2) for phase, length in lengths.items()}

    def _utilization(self, known: Progress) -> float | None:
        peak = peak_flops(known.device)
        if peak is None or self.flops_per_token is None or known.tokens_per_second is None:
            return None
        return known.tokens_per_second * self.flops_per_token / (peak * self.processes)


def figures(
    read: Callable[[], Progress | None], about: Mapping[str, str] = MappingProxyType({}), told: Path | None = None
) -> Figures:
    """The figures of the progress that `read` returns, none before the first, and which run they are of.

    `told` is the file with what is known of trackers.
    """

    def numbers() -> dict[str, float | None]:
        current = read()
        if current is None:
            return {}
        values = asdict(current)
        del values["device"]
        attempt = values.pop("attempt")
        return values | {f"attempt_{name}": value for name, value in attempt.items()}

    return Figures(
        "qwensft_train_", HELP, numbers, about, labelled=lambda: trackers.gauges(trackers.read(told)) if told else ()
    )
