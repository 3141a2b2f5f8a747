"""Logs of a run's pods: whose a line is, which pods are meant, and what one attempt has logged so far."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any, Final

from qwensft.api.v1alpha1 import LABEL_ATTEMPT, LABEL_JOB, LABEL_JOB_UID, LABEL_STAGE, QwenSFTJob, Stage
from qwensft.client.connection import Connection
from qwensft.client.errors import NotFoundError

Document = dict[str, Any]

CONTAINER: Final = "trainer"
RANK: Final = "batch.kubernetes.io/job-completion-index"
_STAGES: Final = {stage: number for number, stage in enumerate(Stage)}


class LogLine(str):
    """A line of a pod's log, and whose it is."""

    __slots__ = ("attempt", "rank", "stage")

    def __new__(cls, text: str, *, stage: Stage, attempt: int, rank: int) -> LogLine:
        """Make a line: its text, and the stage, the number of its attempt (from 1) and the node rank of its pod."""
        line = super().__new__(cls, text)
        line.stage, line.attempt, line.rank = stage, attempt, rank
        return line

    stage: Stage
    attempt: int
    rank: int


def of_run(job: QwenSFTJob) -> str:
    """Return the label selector of a run's pods."""
    return f"{LABEL_JOB}={job.metadata.name},{LABEL_JOB_UID}={job.metadata.uid}"


def place(pod: Document) -> tuple[int, int, int]:
    """Return number of the stage, attempt and rank of a pod: the order in which pods are shown."""
    labels = pod["metadata"]["labels"]
    return _STAGES[stage_of(pod)], int(labels.get(LABEL_ATTEMPT, 1)), int(labels.get(RANK, 0))


def stage_of(pod: Document) -> Stage:
    """Return the stage of a pod."""
    return Stage(pod["metadata"]["labels"][LABEL_STAGE])


def has_log(pod: Document) -> bool:
    """Whether the trainer of a pod has started."""
    return "running" in _state(pod) or has_ended(pod)


def has_ended(pod: Document) -> bool:
    """Whether the trainer of a pod writes no more."""
    return "terminated" in _state(pod)


def _state(pod: Document) -> Document:
    statuses = pod.get("status", {}).get("containerStatuses") or []
    return dict(next((one.get("state") or {} for one in statuses if one["name"] == CONTAINER), {}))


def chosen(pods: list[Document], stage: Stage | None, attempt: int | None, rank: int | None) -> list[Document]:
    """Return the pods whose logs are meant, in order: by default those of the last attempt at the last stage."""
    found = sorted((pod for pod in pods if stage is None or place(pod)[0] == _STAGES[stage]), key=place)
    if not found:
        return []
    last = place(found[-1])
    wanted = last[0], attempt or last[1]
    return [pod for pod in found if place(pod)[:2] == wanted and rank in (None, place(pod)[2])]


def read(
    connection: Connection,
    job: QwenSFTJob,
    *,
    stage: Stage | None = None,
    attempt: int | None = None,
    rank: int | None = None,
    tail: int | None = None,
) -> Iterator[LogLine]:
    """Yield what the pods of an attempt have logged so far, pod by pod.

    Raises:
        NotFoundError: no such pod has started, or it is gone.
    """
    pods = connection.list("pods", labelSelector=of_run(job))["items"]
    found = [pod for pod in chosen(pods, stage, attempt, rank) if has_log(pod)]
    if not found:
        what = f"{stage} pod" if stage else "pod"
        which = what if rank is None else f"{what} of rank {rank}"
        raise NotFoundError(
            f"there is no log of {job.metadata.name}: no {which} has started, or it was deleted; why() tells what the "
            "run waits for"
        )
    for pod in found:
        query = {} if tail is None else {"tailLines": tail}
        with closing(connection.log(pod["metadata"]["name"], container=CONTAINER, **query)) as lines:
            for line in lines:
                yield labelled(pod, line.decode(errors="replace"))


def labelled(pod: Document, text: str) -> LogLine:
    """Return a line of a pod's log as what it is."""
    _, attempt, rank = place(pod)
    return LogLine(text, stage=stage_of(pod), attempt=attempt, rank=rank)
