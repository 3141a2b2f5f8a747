"""`Jobs`: QwenSFTJobs of one namespace by name, with Kubeflow's verbs where they mean the same (ADR 0172)."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, Final

from qwensft.api.v1alpha1 import KIND, PLURAL, Phase, QwenSFTJob, Stage
from qwensft.client import following, logs
from qwensft.client.connection import Connection
from qwensft.client.errors import (
    ConflictError,
    NotFoundError,
    NotPermittedError,
    ServerError,
    UnreachableError,
    WaitTimeoutError,
)
from qwensft.client.image import trainer_image
from qwensft.client.logs import LogLine
from qwensft.client.reading import Document, end_of, has_ended, read_job, written
from qwensft.explain import Explanation, explain

FIELD_MANAGER: Final = "qwensft-client"
_WATCH: Final = 60.0  # seconds that a watch lasts before it is opened anew
_PAUSE: Final = 2.0  # seconds before a watch that broke is opened anew


class Jobs:
    """QwenSFTJobs of one namespace.

    Methods raise `qwensft.client.errors.ClientError`, whose text says what to do, and `InvalidJobError` for a job that
    breaks a rule. They may be called from several threads.
    """

    def __init__(
        self,
        *,
        namespace: str | None = None,
        context: str | None = None,
        kubeconfig: str | Path | None = None,
        image: str | None = None,
    ) -> None:
        """Read the kubeconfig; no request is sent yet.

        Args:
            namespace: Default: that of the context, else "default"; in a pod the pod's own.
            context: Name of a context of the kubeconfig. Default: the current one.
            kubeconfig: Path of the file. Default: as kubectl finds it; in a pod without one, its service account.
            image: Image of pods that bring rows and read files; it needs sh and python3. Default: the trainer's, as the
                run, the operator's Deployment or other runs name it.

        Raises:
            MissingPackageError: the extra `client` is not installed.
            ConfigurationError: there is no usable kubeconfig, or it has no such context.
        """
        self.connection = Connection(namespace=namespace, context=context, kubeconfig=kubeconfig)
        self._image = image

    @property
    def namespace(self) -> str:
        """The namespace that all methods are about."""
        return self.connection.namespace

    def get_job(self, name: str) -> QwenSFTJob:
        """Return a job with its status.

        Raises:
            NotFoundError: there is none of that name.
        """
        return read_job(self.connection.get(PLURAL, name))

    def list_jobs(self, *, label_selector: str = "", all_namespaces: bool = False) -> list[QwenSFTJob]:
        """Return all jobs, the newest first.

        Args:
            label_selector: Only those that it fits, as team=support,stage!=trial.
            all_namespaces: Of all namespaces that there are; needs the right to list them there.
        """
        query = {"labelSelector": label_selector} if label_selector else {}
        items = self.connection.list(PLURAL, everywhere=all_namespaces, **query)["items"]
        jobs = [read_job(item) for item in items]
        return sorted(jobs, key=lambda job: str(job.metadata.creation_timestamp or ""), reverse=True)

    def create_job(self, job: QwenSFTJob | Document, *, dry_run: bool = False) -> QwenSFTJob:
        """Create a job, and return it as it is stored.

        Args:
            job: A QwenSFTJob, or a document as it stands in YAML.
            dry_run: Let the server judge it, and create nothing.

        Raises:
            InvalidJobError: it breaks a rule; nothing was sent.
            NameExistsError: there is one of that name.
            RefusedError: the server refuses it, by a rule, a policy or a webhook.
        """
        return read_job(self.connection.create(PLURAL, written(job, self.namespace), dry_run=dry_run))

    def apply_job(self, job: QwenSFTJob | Document, *, force: bool = False, dry_run: bool = False) -> QwenSFTJob:
        """Create a job, or edit one so that it is as given: server-side apply, as kubectl apply --server-side.

        Args:
            job: A QwenSFTJob, or a document as it stands in YAML.
            force: Take fields over that someone else has set, in place of a ConflictError.
            dry_run: Let the server judge it, and change nothing.

        Raises:
            InvalidJobError: it breaks a rule; nothing was sent.
            ConflictError: someone else has set the same field to another value.
            RefusedError: the server refuses it, such as an edit of what cannot change.
        """
        document = written(job, self.namespace)
        stored = self.connection.apply(PLURAL, document, manager=FIELD_MANAGER, force=force, dry_run=dry_run)
        return read_job(stored)

    def suspend_job(self, name: str) -> QwenSFTJob:
        """Hold a run: its training saves a checkpoint, and accelerators become free."""
        return self._steer(name, {"suspend": True})

    def resume_job(self, name: str) -> QwenSFTJob:
        """Let a held run go on from where it stands."""
        return self._steer(name, {"suspend": False})

    def retry_job(self, name: str) -> QwenSFTJob:
        """Start a failed run again, from the stage that failed and what is on the volume; another run is left alone."""
        return self._steer(name, {"retry": (self.get_job(name).spec.run_policy.retry or 0) + 1})

    def delete_job(self, name: str) -> None:
        """Delete a job with its pods, and with rows that the client has brought. Its volume stays (`storage.retain`).

        Raises:
            NotFoundError: there is none of that name.
        """
        self.connection.delete(PLURAL, name)

    def watch_job(self, name: str, *, timeout: float | None = None) -> Iterator[QwenSFTJob]:
        """Yield a job as it is, and again after every change. A connection that breaks is opened anew.

        Args:
            name: Name of the job.
            timeout: Seconds after which the iteration ends. Default: without end.

        Raises:
            NotFoundError: there is none of that name, or it was deleted.
            UnreachableError: the API server does not answer at the beginning. Later it is waited for.
        """
        deadline = time.monotonic() + timeout if timeout is not None else None
        selector = f"metadata.name={name}"
        seen = ""
        found = self.connection.list(PLURAL, fieldSelector=selector)
        while True:
            if not found["items"]:
                raise NotFoundError(f"{KIND} {name} in namespace {self.namespace} does not exist, or was deleted")
            if (version := found["items"][0]["metadata"]["resourceVersion"]) != seen:
                seen = version
                yield read_job(found["items"][0])
            left = _WATCH if deadline is None else min(_WATCH, deadline - time.monotonic())
            if left <= 0:
                return
            query = {"fieldSelector": selector, "resourceVersion": found["metadata"]["resourceVersion"]}
            try:
                for kind, item in self.connection.watch(PLURAL, seconds=left, **query):
                    if kind == "DELETED":
                        raise NotFoundError(f"{KIND} {name} in namespace {self.namespace} was deleted")
                    if kind in ("ADDED", "MODIFIED"):
                        seen = item["metadata"]["resourceVersion"]
                        yield read_job(item)
                    if deadline is not None and time.monotonic() > deadline:
                        return
            except (ServerError, UnreachableError, ConflictError):
                time.sleep(_PAUSE)  # the next list says what has come of it
            found = self._listed(selector, deadline)

    def _listed(self, selector: str, deadline: float | None) -> Document:
        while True:
            try:
                return self.connection.list(PLURAL, fieldSelector=selector)
            except (ServerError, UnreachableError):
                if deadline is not None and time.monotonic() > deadline:
                    raise
                time.sleep(_PAUSE)

    def wait_for_job_status(
        self, name: str, status: Collection[str] = frozenset({Phase.SUCCEEDED}), *, timeout: float | None = None
    ) -> QwenSFTJob:
        """Wait until the phase of a job is one of these, and return the job.

        Args:
            name: Name of the job.
            status: Phases, as {"Succeeded"} or {"Succeeded", "Failed"}.
            timeout: Seconds. Default: without end.

        Raises:
            RunFailedError: it has failed, and Failed is not waited for.
            ClientError: it has succeeded, so that no other phase will come.
            WaitTimeoutError: the time is over.
        """
        return deque(self.waiting(name, status, timeout=timeout), maxlen=1).pop()

    def waiting(self, name: str, status: Collection[str], *, timeout: float | None = None) -> Iterator[QwenSFTJob]:
        """Yield the job as `watch_job` does, until its phase is one of these; see `wait_for_job_status`."""
        unknown = {*status} - {*Phase}
        if unknown:
            raise ValueError(f"no phase of a run: {', '.join(sorted(unknown))}; there are {', '.join(Phase)}")
        job = None
        for job in self.watch_job(name, timeout=timeout):
            yield job
            if job.status.phase in status and job.status.observed_generation == job.metadata.generation:
                return
            if has_ended(job):
                raise end_of(job)
        now = job.status.phase if job and job.status.phase else Phase.PENDING
        raise WaitTimeoutError(
            f"{name} is {now} after {timeout:.0f} s, not {' or '.join(sorted(status))}; it goes on by itself: "
            "wait longer, or ask why()"
        )

    def get_job_logs(
        self,
        name: str,
        *,
        stage: Stage | str | None = None,
        rank: int | None = None,
        attempt: int | None = None,
        follow: bool = False,
        tail: int | None = None,
    ) -> Iterator[LogLine]:
        """Yield lines of the logs of a run's pods; each tells its stage, attempt and rank.

        Args:
            name: Name of the job.
            stage: prepare, train or merge. Default: the last one that has pods; with `follow` all, as they come.
            rank: Node rank, from 0. Default: all.
            attempt: Number of the attempt. Default: the last one. Not with `follow`.
            follow: Go on until the run, or the stage, has ended, over later attempts and stages.
            tail: So many lines of each pod to begin with. Default: all.

        Raises:
            NotFoundError: no such pod has started (without `follow`), or its log is gone.
        """
        wanted = Stage(stage) if stage is not None else None
        if follow:
            if attempt is not None:
                raise ValueError("attempt: the lines of later attempts are followed, too; leave it out, or follow")
            return following.follow(self.connection, lambda: self.get_job(name), stage=wanted, rank=rank, tail=tail)
        return logs.read(self.connection, self.get_job(name), stage=wanted, attempt=attempt, rank=rank, tail=tail)

    def explain_job(self, name: str) -> Explanation:
        """Return why a run stands where it stands: its own word, pods and events.

        Events and pods that may not be read are left out.
        """
        job = self.get_job(name)
        pods = self._visible("pods", labelSelector=logs.of_run(job))
        events = self._visible("events", fieldSelector="involvedObject.kind=QwenSFTJob")
        events += self._visible("events", fieldSelector="involvedObject.kind=Pod") if pods else []
        return explain(job, pods=pods, events=events, now=self.connection.now())

    def image_for(self, job: QwenSFTJob) -> str:
        """Return the image that a pod for files of a run has.

        Raises:
            ImageUnknownError: nothing tells one.
        """
        return self._image or trainer_image(self.connection, job)

    def _visible(self, kind: str, **query: Any) -> list[Document]:
        try:
            return list(self.connection.list(kind, **query)["items"])
        except NotPermittedError:
            return []

    def _steer(self, name: str, policy: Document) -> QwenSFTJob:
        return read_job(self.connection.merge(PLURAL, name, {"spec": {"runPolicy": policy}}))
