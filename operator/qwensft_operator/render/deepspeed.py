"""DeepSpeed's configuration: made from the typed fields, or the user's own, which prepare checks and copies.

The values are those of LLaMA-Factory's examples/deepspeed. "auto" is what transformers fills in from the training
arguments, so that batch sizes, clipping and precision are said once.
ADR 0050 says why.
"""

from __future__ import annotations

from typing import Any

from qwensft.api.v1alpha1 import DeepSpeed, QwenSFTJob
from qwensft_operator.render.names import CONFIG, OWN_DEEPSPEED, data_directory

FILE = "deepspeed.json"
_BUCKET = 500_000_000  # elements in one collective operation, at 2 or 4 bytes
_SHARDED = 1_000_000_000  # parameters: of one step of the optimizer, and kept gathered between two uses
_HOST = {"device": "cpu", "pin_memory": True}


def deepspeed_config(job: QwenSFTJob) -> dict[str, Any] | None:
    """Return the configuration of the typed fields; None without DeepSpeed or with a configuration of the user's."""
    deepspeed = job.spec.distribution.deepspeed
    if deepspeed is None or deepspeed.stage is None:
        return None
    return {
        "train_batch_size": "auto",
        "train_micro_batch_size_per_gpu": "auto",
        "gradient_accumulation_steps": "auto",
        "gradient_clipping": "auto",
        # transformers makes the optimizer, so that its arguments mean the same with and without DeepSpeed.
        "zero_allow_untested_optimizer": True,
        "fp16": {
            "enabled": "auto",
            "loss_scale": 0,  # dynamic
            "loss_scale_window": 1000,
            "initial_scale_power": 16,
            "hysteresis": 2,
            "min_loss_scale": 1,
        },
        "bf16": {"enabled": "auto"},
        "zero_optimization": _zero(deepspeed, deepspeed.stage),
    }


def deepspeed_argument(job: QwenSFTJob) -> str | None:
    """Return the file that LLaMA-Factory's argument `deepspeed` names in training pods; None without DeepSpeed."""
    deepspeed = job.spec.distribution.deepspeed
    if deepspeed is None:
        return None
    return f"{CONFIG}/{FILE}" if deepspeed.config is None else f"{data_directory(job)}/{FILE}"


def deepspeed_section(job: QwenSFTJob) -> dict[str, Any] | None:
    """Return the section `deepspeed` of run.yaml: the stage where it is known, the file that prepare reads, the ranks.

    DeepSpeed's checkpoints are of as many parts as there are ranks: only as many can go on from them.
    """
    deepspeed = job.spec.distribution.deepspeed
    if deepspeed is None:
        return None
    file = f"{CONFIG}/{FILE}" if deepspeed.config is None else f"{OWN_DEEPSPEED}/{deepspeed.config.key}"
    ranks = job.spec.distribution.nodes * job.spec.processes_per_node
    return {"stage": deepspeed.stage, "config": file, "ranks": ranks}


def _zero(deepspeed: DeepSpeed, stage: int) -> dict[str, Any]:
    zero: dict[str, Any] = {"stage": stage}
    if deepspeed.offload_optimizer:
        zero["offload_optimizer"] = dict(_HOST)
    if deepspeed.offload_parameters:
        zero["offload_param"] = dict(_HOST)
    zero |= {"overlap_comm": False, "contiguous_gradients": True}
    if stage == 3:
        return zero | {
            "sub_group_size": _SHARDED,
            "reduce_bucket_size": "auto",
            "stage3_prefetch_bucket_size": "auto",
            "stage3_param_persistence_threshold": "auto",
            "stage3_max_live_parameters": _SHARDED,
            "stage3_max_reuse_distance": _SHARDED,
            # Without it the saved model is 1/N of the weights.
            "stage3_gather_16bit_weights_on_model_save": True,
        }
    return zero | {
        "allgather_partitions": True,
        "allgather_bucket_size": _BUCKET,
        "reduce_scatter": True,
        "reduce_bucket_size": _BUCKET,
        "round_robin_gradients": True,
    }
