"""Weights & Biases: one run for all attempts, under the UID of the QwenSFTJob; its files lie in the run's directory.

The library keeps what it has not sent in `wandb` in the run's directory; `wandb sync` sends it later.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import wandb

from qwensft_trainer.base.log import log
from qwensft_trainer.contract.config import WeightsAndBiases
from qwensft_trainer.trackers.lines import Entry, Outcome
from qwensft_trainer.trackers.names import grouped
from qwensft_trainer.trackers.tracker import Subject

_INIT_SECONDS = 8  # twice, with what else there is, within the time that is given at the end
_LONGEST_TAG = 64
_STEP = "train/global_step"
_EXIT_CODES: Final[dict[Outcome, int]] = {"Succeeded": 0, "Failed": 1, "Interrupted": 143}
# transformers' callback puts them into the summary, too: they are told once.
_OF_THE_WHOLE = ("train_runtime", "train_samples_per_second", "train_steps_per_second", "train_loss", "total_flos")


class WandbRun:
    """Offline if asked for, or when the attempt ends and nobody has answered: so that the files are there."""

    name = "wandb"

    def __init__(self, subject: Subject, settings: WeightsAndBiases) -> None:
        self._subject, self._settings = subject, settings
        self._run: Any = None

    def open(self, step: int, *, ending: bool) -> tuple[str, str]:
        """Make the run, or go on with it."""
        before, self._run = self._run, None
        if before is not None:
            before.finish(exit_code=1)
        offline = self._settings.mode == "offline" or ending
        if offline and self._settings.mode == "online":
            log(f"wandb: nobody has answered; the run is left on the volume: wandb sync {self._subject.place}/wandb/*")
        try:
            self._run = self._init(offline=offline)
        except Exception:
            # wandb 0.31's service keeps the run that it could not begin, and refuses its ID from then on.
            wandb.teardown()
            raise
        self._run.define_metric(_STEP)
        self._run.define_metric("*", step_metric=_STEP, step_sync=True)
        return f"{self._subject.place}/wandb" if offline else self._run.url, self._subject.uid

    def _init(self, *, offline: bool) -> Any:
        subject = self._subject
        return wandb.init(
            project=self._settings.project,
            entity=self._settings.entity,
            id=subject.uid,
            name=subject.run_name,
            group=subject.group,
            tags=[f"{name}={value}"[:_LONGEST_TAG] for name, value in subject.tags.items()],
            config={**subject.parameters, "qwensft": subject.identity},
            allow_val_change=True,
            dir=str(subject.directory),
            mode="offline" if offline else "online",
            resume=None if offline else "allow",
            settings=wandb.Settings(
                init_timeout=_INIT_SECONDS, console="off", silent=True, disable_git=True, save_code=False
            ),
        )

    def send(self, entries: Sequence[Entry]) -> None:
        """Hand over to the library, which keeps it on the volume and sends it when it can."""
        for entry in entries:
            for name in _OF_THE_WHOLE:
                if name in entry.values:
                    self._run.summary[name] = entry.values[name]
            values = {name: value for name, value in entry.values.items() if name not in _OF_THE_WHOLE}
            self._run.log({**grouped(values), _STEP: entry.step, "_timestamp": entry.time})

    def close(self, outcome: Outcome) -> None:
        """Wait until all is sent. Who waits for this has a limit, and the files stay."""
        self._run.finish(exit_code=_EXIT_CODES[outcome])
