"""Learning rates with which a training runs well and learns next to nothing: the defaults on few rows, for one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from qwensft_trainer.contract.config import Run

# An adapter starts from zero and has to move further than weights that are good already.
LOWEST_FOR_ADAPTERS = 1e-5


def warnings(run: Run, arguments: Mapping[str, Any], samples: int) -> list[str]:
    """What is odd about the learning rate of a training on so many samples. `arguments` are those of train.yaml."""
    rate = float(arguments["learning_rate"])
    found = []
    steps, warmup = _most_steps(arguments, samples), int(arguments.get("warmup_steps") or 0)
    if warmup >= steps and arguments["lr_scheduler_type"] != "constant":  # which knows no warm-up
        found.append(
            f"spec.training.warmupSteps is {warmup} and the training has {steps} steps at most: the learning rate "
            f"never comes up to {rate:g}. Set warmupSteps lower, or warmupRatio: 0.05 in its place"
        )
    # LoRA+ trains half of the adapter at a multiple of the rate.
    if run.tuning.method == "lora" and rate < LOWEST_FOR_ADAPTERS and not arguments.get("loraplus_lr_ratio"):
        found.append(
            f"spec.training.learningRate is {rate:g}, and an adapter hardly learns below {LOWEST_FOR_ADAPTERS:g}: "
            "1.0e-4 is usual for adapters"
        )
    return found


def _most_steps(arguments: Mapping[str, Any], samples: int) -> int:
    """The steps of one process without packing: with more of them, or with packing, there are fewer.

    Counted as transformers does, the last batches of an epoch included.
    """
    if (maximum := int(arguments.get("max_steps") or 0)) > 0:
        return maximum
    batches = math.ceil(samples / int(arguments["per_device_train_batch_size"]))
    updates = math.ceil(batches / int(arguments["gradient_accumulation_steps"]))
    return math.ceil(float(arguments["num_train_epochs"]) * updates)
