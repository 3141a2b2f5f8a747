"""`spec.runPolicy`: when the run is held, restarted, ended and tidied up. Editable at any time."""

from __future__ import annotations

from pydantic import Field

from .base import ApiModel
from .common import QueueName

_YEAR = 31_536_000


class RunPolicy(ApiModel):
    """How the run is steered."""

    suspend: bool = Field(
        False,
        description="Hold the run: pods save a checkpoint and end, accelerators become free. Set back to false to go "
        "on from there; it counts as no restart.",
    )
    queue_name: QueueName | None = Field(
        None,
        description="LocalQueue of Kueue, in the job's namespace, that admits the training: its Job is made held, and "
        "the queue lets it start, preempts it and lets it go on. Preparation and merge hold no accelerators and wait "
        "in no queue. An edit reaches an attempt that waits, and the next. Default: the job's own label "
        "kueue.x-k8s.io/queue-name, read when an attempt is made; without one the training waits in no queue.",
    )
    max_restarts: int = Field(
        3,
        ge=0,
        le=1000,
        description="Restarts of the training after failures. All pods restart together, from the newest checkpoint. "
        "Evictions and preemptions do not count.",
    )
    retry: int | None = Field(
        None,
        ge=0,
        le=2**31 - 1,
        description="Any number. A change starts a failed run again, from the stage that failed and what is on the "
        "volume, with all restarts; while the run has not failed it does nothing, and while suspend is true it waits. "
        "Default: none.",
    )
    start_timeout_seconds: int = Field(
        180,
        ge=0,
        le=_YEAR,
        description="Seconds for which training pods may hold nodes while others of the same attempt have none. Then "
        "all give theirs back, and the attempt is made anew after a wait, uncounted, so that two runs that each have "
        "half of what they need do not wait for each other for ever. 0: without end.",
    )
    stall_timeout_seconds: int | None = Field(
        None,
        ge=60,
        le=_YEAR,
        description="Seconds without an optimiser step after which the training counts as stalled: the stacks of all "
        "processes go into the logs, and all pods restart together, which counts as a restart. Batches of an "
        "evaluation count as steps, the time in which a checkpoint is saved does not count. Choose several times the "
        "slowest step, the first one included. An edit reaches the next attempt. Default: never.",
    )
    active_deadline_seconds: int | None = Field(
        None,
        ge=1,
        le=_YEAR,
        description="Seconds from the start of the run, over all stages and without the time spent suspended, until it "
        "fails with the reason DeadlineExceeded. Merging again starts anew. Default: no limit.",
    )
    ttl_seconds_after_finished: int | None = Field(
        None,
        ge=0,
        le=_YEAR,
        description="Seconds after the end until Jobs and pods are deleted; the QwenSFTJob and its files stay. "
        "Default: they are kept until the QwenSFTJob is deleted.",
    )
