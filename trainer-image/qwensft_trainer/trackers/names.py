"""What figures are called in TensorBoard and W&B: as transformers' own callbacks call them there."""

from __future__ import annotations

from collections.abc import Mapping

_EVALUATION = "eval_"


def grouped(values: Mapping[str, float]) -> dict[str, float]:
    """Loss becomes train/loss, eval_loss becomes eval/loss."""
    return {
        f"eval/{name.removeprefix(_EVALUATION)}" if name.startswith(_EVALUATION) else f"train/{name}": value
        for name, value in values.items()
    }
