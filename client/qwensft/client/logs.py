"""Logs of a run's pods: those of one attempt, or of all that come, rank by rank or as they are written."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any, Final

from qwensft.api.v1alpha1 import LABEL_ATTEMPT, LABEL_JOB, LABEL_JOB_UID, LABEL_STAGE, QwenSFTJob, Stage
from qwensft.client.connection import Connection, Lines
from qwensft.client.errors import ClientError, NotFoundError
from qwensft.client.reading import has_ended

Document = dict[str, Any]

CONTAINER: Final = "trainer"
RANK: Final = "batch.kubernetes.io/job-completion-index"
_LOOK: Final = 2.0  # seconds between two looks for new pods
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
    labels = pod["metadata"].get("labels") or {}
    stage = Stage(labels[LABEL_STAGE])
    return _STAGES[stage], int(labels.get(LABEL_ATTEMPT, 1)), int(labels.get(RANK, 0))


def _has_log(pod: Document) -> bool:
    statuses = pod.get("status", {}).get("containerStatuses") or []
    states = [one.get("state", {}) for one in statuses if one["name"] == CONTAINER]
    return any("running" in state or "terminated" in state for state in states)


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
    found = [pod for pod in chosen(pods, stage, attempt, rank) if _has_log(pod)]
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
            yield from _labelled(pod, lines)


def follow(
    connection: Connection,
    look: Callable[[], QwenSFTJob],
    *,
    stage: Stage | None = None,
    rank: int | None = None,
    tail: int | None = None,
) -> Iterator[LogLine]:
    """Yield lines of all pods as they are written, those of later attempts and stages, too, until the run has ended.

    Args:
        connection: Where the pods are.
        look: Reads the run.
        stage: Only pods of this stage.
        rank: Only pods of this node rank.
        tail: How many lines of each pod that runs already are shown first; None: all.
    """
    lines: queue.SimpleQueue[LogLine | ClientError | None] = queue.SimpleQueue()
    streams: dict[str, Lines] = {}
    running, looked = 0, 0.0
    job = look()
    try:
        while True:
            if time.monotonic() - looked > _LOOK:
                looked = time.monotonic()
                job = look()
                for pod in _new_pods(connection, job, stage, rank, streams):
                    streams[pod["metadata"]["uid"]] = _start(connection, pod, tail, lines)
                    running += 1
                if running == 0 and (has_ended(job) or _is_past(job, stage)):
                    return
            try:
                line = lines.get(timeout=_LOOK / 4)
            except queue.Empty:
                continue
            if isinstance(line, ClientError):
                raise line
            if line is None:
                running -= 1
            else:
                yield line
    finally:
        for stream in streams.values():
            stream.close()


def _is_past(job: QwenSFTJob, stage: Stage | None) -> bool:
    record = getattr(job.status.stages, stage) if stage else None
    return record is not None and record.completion_time is not None


def _new_pods(
    connection: Connection, job: QwenSFTJob, stage: Stage | None, rank: int | None, known: dict[str, Lines]
) -> list[Document]:
    pods = connection.list("pods", labelSelector=of_run(job))["items"]
    ended = {pod["metadata"]["uid"] for pod in pods if pod["status"].get("phase") in ("Succeeded", "Failed")}
    # Of attempts that were over before anyone looked, the last one alone.
    last = {pod["metadata"]["uid"] for pod in chosen(pods, stage, None, rank)}
    return [
        pod
        for pod in sorted(pods, key=place)
        if (uid := pod["metadata"]["uid"]) not in known
        and _has_log(pod)
        and stage in (None, Stage(pod["metadata"]["labels"][LABEL_STAGE]))
        and rank in (None, place(pod)[2])
        and (uid not in ended or uid in last or known)
    ]


def _start(
    connection: Connection, pod: Document, tail: int | None, into: queue.SimpleQueue[LogLine | ClientError | None]
) -> Lines:
    query = {} if tail is None else {"tailLines": tail}
    stream = connection.log(pod["metadata"]["name"], container=CONTAINER, follow="true", **query)

    def copy() -> None:
        try:
            for line in _labelled(pod, stream):
                into.put(line)
        except ClientError as error:
            into.put(error)
        else:
            into.put(None)

    threading.Thread(target=copy, daemon=True, name=f"log of {pod['metadata']['name']}").start()
    return stream


def _labelled(pod: Document, lines: Lines) -> Iterator[LogLine]:
    _, attempt, rank = place(pod)
    stage = Stage(pod["metadata"]["labels"][LABEL_STAGE])
    for line in lines:
        yield LogLine(line.decode(errors="replace"), stage=stage, attempt=attempt, rank=rank)
