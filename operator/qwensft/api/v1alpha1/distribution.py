"""`spec.distribution`: how many pods and processes train together, and where they meet."""

from __future__ import annotations

from pydantic import Field

from .base import ApiModel, Rule
from .constants import METRICS_PORT


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
