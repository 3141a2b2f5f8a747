"""The DeepSpeed configuration of a run: its ZeRO stage, and a user's own file checked and copied for training.

transformers fills in what says "auto" and refuses, on the accelerators, what contradicts the training arguments: that
is found here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from qwensft_trainer.base import files
from qwensft_trainer.base.causes import raise_unless_inputs
from qwensft_trainer.contract.config import Run
from qwensft_trainer.contract.errors import invalid_config

FILE = "deepspeed.json"
_FIELD = "spec.distribution.deepspeed.config"
_AUTO = "auto"

# DeepSpeed's key, LLaMA-Factory's argument, the default of transformers, the field of the spec.
_IN_BOTH: tuple[tuple[str, str, Any, str], ...] = (
    ("train_micro_batch_size_per_gpu", "per_device_train_batch_size", 8, "spec.training.perDeviceTrainBatchSize"),
    ("gradient_accumulation_steps", "gradient_accumulation_steps", 1, "spec.training.gradientAccumulationSteps"),
    ("gradient_clipping", "max_grad_norm", 1.0, "spec.extraArguments.max_grad_norm"),
    ("optimizer.params.lr", "learning_rate", 5e-5, "spec.training.learningRate"),
    ("optimizer.params.eps", "adam_epsilon", 1e-8, "spec.extraArguments.adam_epsilon"),
    ("optimizer.params.weight_decay", "weight_decay", 0.0, "spec.training.weightDecay"),
    ("scheduler.params.warmup_max_lr", "learning_rate", 5e-5, "spec.training.learningRate"),
    ("fp16.enabled", "fp16", False, "spec.training.precision"),
    ("bf16.enabled", "bf16", False, "spec.training.precision"),
)


def stage(run: Run) -> int | None:
    """The ZeRO stage; None without DeepSpeed. Raises PermanentError InvalidConfig for a file that says it badly."""
    if run.deepspeed is None:
        return None
    if run.deepspeed.stage is not None:
        return run.deepspeed.stage
    zero = _own(run).get("zero_optimization", {})
    found = zero.get("stage", 0) if isinstance(zero, dict) else None
    if isinstance(found, bool) or not isinstance(found, int) or found not in range(4):
        raise invalid_config(f"{_FIELD}: zero_optimization.stage must be 0, 1, 2 or 3, not {found!r}.")
    return found


def check(run: Run, arguments: Mapping[str, Any]) -> None:
    """Raises PermanentError InvalidConfig for a file of the user's that transformers or DeepSpeed would refuse."""
    if run.deepspeed is None or run.deepspeed.stage is not None:
        return
    own = _own(run)
    problems = [
        f"{key} is {own_value!r}, but {field} is {spec_value!r}"
        for key, argument, default, field in _IN_BOTH
        if (own_value := _value(own, key)) not in (None, _AUTO)
        and own_value != (spec_value := arguments.get(argument, default))
    ]
    if not {"train_batch_size", "train_micro_batch_size_per_gpu"} & own.keys():
        problems.append('neither train_batch_size nor train_micro_batch_size_per_gpu is there (set them to "auto")')
    if problems:
        raise invalid_config(f'{_FIELD}: {"; ".join(problems)}. Set such keys to "auto": the spec then decides.')


def install(run: Run) -> None:
    """Copy a user's own file to where the training pods read it. The typed fields' configuration is there already."""
    if run.deepspeed is None or run.deepspeed.stage is not None:
        return
    own = _own(run)
    if stage(run) == 3:
        # Without it the trained model is saved as placeholders.
        own["zero_optimization"]["stage3_gather_16bit_weights_on_model_save"] = True
    files.write_json(run.data_directory / FILE, own)


def _own(run: Run) -> dict[str, Any]:
    path = run.deepspeed.config if run.deepspeed else None
    if path is None:
        raise invalid_config("run.yaml: deepspeed has neither a stage nor a file.")
    try:
        own = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise_unless_inputs(error)
        raise invalid_config(
            f"{_FIELD}: the key {path.name} of the ConfigMap cannot be read: {error.strerror}."
        ) from error
    except ValueError as error:
        raise invalid_config(f"{_FIELD}: the key {path.name} is no valid JSON: {error}.") from error
    if not isinstance(own, dict):
        raise invalid_config(f"{_FIELD}: the key {path.name} must hold a JSON object.")
    return own


def _value(own: Mapping[str, Any], key: str) -> Any:
    node: Any = own
    for part in key.split("."):
        node = node.get(part) if isinstance(node, dict) else None
    return node
