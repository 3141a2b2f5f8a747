"""What evaluations decide while training runs: when it ends early. In every worker.

The trainer's state records the best evaluation, and each checkpoint the count of early stopping; what a later attempt
makes of them is in checkpoints.py. ADR 0087 says why load_best_model_at_end of transformers is not used.
"""

from __future__ import annotations

from typing import Any

from transformers import EarlyStoppingCallback

from qwensft_trainer.base.log import log
from qwensft_trainer.training import checkpoints


class EarlyStopping(EarlyStoppingCallback):  # type: ignore[misc]  # transformers carries no types here
    """Ends the training when evaluations no longer get better, and goes on counting after a resume."""

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Take the count over from the checkpoint that training goes on from."""
        self.early_stopping_patience_counter = checkpoints.evaluations_without_progress(state.stateful_callbacks)

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Any, **more: Any) -> None:
        """Count, and say so when it ends the training."""
        super().on_evaluate(args, state, control, metrics, **more)
        if self.early_stopping_patience_counter >= self.early_stopping_patience and state.is_world_process_zero:
            log(
                f"step {state.global_step}: {self.early_stopping_patience_counter} evaluations in a row were no better "
                f"than the best ({state.best_metric}): training ends early"
            )
