"""What evaluations decide while training runs: when it ends early, and which was the best. In every worker.

The trainer's state records the best evaluation, and each checkpoint the count of early stopping; what a later attempt
makes of them is in checkpoints.py. ADR 0087 says why load_best_model_at_end of transformers is not used.
"""

from __future__ import annotations

from typing import Any

from transformers import EarlyStoppingCallback, IntervalStrategy, TrainerCallback

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


class OwedEvaluation(TrainerCallback):  # type: ignore[misc]
    """Evaluates first where the attempt before was asked to stop at a step with an evaluation, and saved without it.

    Comes after the callbacks that count evaluations: the best one changes after they have compared.
    """

    _owed = False

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Ask for an evaluation before the first step, which transformers looks at right after this."""
        step = state.global_step
        due = args.eval_strategy == IntervalStrategy.STEPS and step >= args.eval_delay and step % state.eval_steps == 0
        done = any(entry.get("step") == step and "eval_loss" in entry for entry in state.log_history)
        self._owed = step > 0 and due and not done
        args.eval_on_start = args.eval_on_start or self._owed

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Any, **_: Any) -> None:
        """Record the best evaluation, as transformers does after all others."""
        loss = metrics.get("eval_loss")
        compares = self._owed and args.metric_for_best_model is not None and loss is not None
        if compares and (state.best_metric is None or loss < state.best_metric):
            state.best_metric, state.best_global_step = loss, state.global_step
            state.best_model_checkpoint = args.resume_from_checkpoint
        self._owed = False
