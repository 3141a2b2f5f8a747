"""`spec.distribution`: how many pods and processes train together, and where they meet."""

from __future__ import annotations

from pydantic import Field

from .base import ApiModel, Rule, argument, exactly_one_of
from .common import ConfigMapKeyRef
from .constants import METRICS_PORT


class DeepSpeed(ApiModel):
    """DeepSpeed ZeRO: a stage with its offloads, or a configuration of your own."""

    rules = (
        exactly_one_of("stage", "config", example="stage: 2"),
        Rule(
            cel="!self.?offloadOptimizer.orDefault() || self.?stage.orValue(0) > 0",
            message="the optimiser is offloaded by ZeRO stage 1, 2 or 3: set stage, or remove offloadOptimizer; a "
            "configuration of your own says it itself",
            check=lambda deepspeed: not deepspeed.offload_optimizer or (deepspeed.stage or 0) > 0,
            field=".offloadOptimizer",
        ),
        Rule(
            cel="!self.?offloadParameters.orDefault() || self.?stage.orValue(0) == 3",
            message="weights are offloaded by ZeRO stage 3 only: set stage: 3, or remove offloadParameters; a "
            "configuration of your own says it itself",
            check=lambda deepspeed: not deepspeed.offload_parameters or deepspeed.stage == 3,
            field=".offloadParameters",
        ),
    )

    stage: int | None = Field(
        None,
        ge=0,
        le=3,
        description="ZeRO stage: 0 (nothing is sharded), 1 (optimiser states), 2 (gradients too), 3 (weights too). "
        "Default: none, as config is given.",
    )
    config: ConfigMapKeyRef | None = Field(
        None,
        description="A DeepSpeed configuration of your own, as JSON in a ConfigMap; read once, by the prepare stage.",
    )
    offload_optimizer: bool = Field(
        False, description="Keep the optimiser's states in host memory. Needs stage 1, 2 or 3."
    )
    offload_parameters: bool = Field(False, description="Keep the weights in host memory. Needs stage 3.")


class Distribution(ApiModel):
    """Number of nodes and processes of the training."""

    rules = (
        Rule(
            cel=f"!has(self.masterPort) || self.masterPort != {METRICS_PORT}",
            message=f"port {METRICS_PORT} serves the metrics of the training: choose another one, for example 29500",
            check=lambda distribution: distribution.master_port != METRICS_PORT,
            field=".masterPort",
        ),
    )

    nodes: int = Field(
        1,
        ge=1,
        le=1024,
        description="Number of training pods. torchrun's --nnodes.",
    )
    processes_per_node: int | None = Field(
        None,
        ge=1,
        le=128,
        description="Training processes in each pod, one per accelerator; with accelerators never more than "
        "worker.accelerator.count. torchrun's --nproc_per_node. Default: worker.accelerator.count, or 1 on CPUs.",
    )
    master_port: int = Field(
        29500,
        ge=1024,
        le=65535,
        description="TCP port of pod 0 at which the processes meet. torchrun's --master_port.",
    )
    deepspeed: DeepSpeed | None = Field(
        None,
        description="Train with DeepSpeed ZeRO, which shards states over the processes. Default: PyTorch's "
        "DistributedDataParallel.",
        json_schema_extra=argument("deepspeed"),
    )
