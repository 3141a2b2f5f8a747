"""`Run`: a handle of one run, as `Client.train` and `Client.run` return it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from qwensft.api.v1alpha1 import ConditionType, QwenSFTJob, Stage, Status
from qwensft.client import figures
from qwensft.client.errors import NotFoundError, WaitTimeoutError
from qwensft.client.files import RunFiles, open_files
from qwensft.client.jobs import Jobs
from qwensft.client.logs import LogLine
from qwensft.client.progress import Nowhere, display, line
from qwensft.client.reading import end_of, has_ended
from qwensft.explain import Explanation

PREVIEW = "preview.txt"
REPORT = "report.html"


class Run:
    """One run. Everything is read when it is asked for; the handle holds a name, and costs the cluster nothing."""

    def __init__(self, client: Jobs, name: str) -> None:
        self._client, self.name = client, name

    def __repr__(self) -> str:
        """Return how to get it."""
        return f"<Run {self.name} in namespace {self._client.namespace}>"

    @property
    def job(self) -> QwenSFTJob:
        """The QwenSFTJob as it is now."""
        return self._client.get_job(self.name)

    @property
    def status(self) -> Status:
        """Its status as it is now: phase, conditions, progress, outputs."""
        return self.job.status

    def wait(self, *, progress: bool = False, timeout: float | None = None) -> Run:
        """Wait until the run has succeeded.

        Args:
            progress: Show a line on what it is at, in a terminal, a notebook or a log.
            timeout: Seconds. Default: without end.

        Raises:
            RunFailedError: it has failed.
            WaitTimeoutError: it has not ended in time.
        """
        for _ in self.waiting(progress=progress, timeout=timeout):
            pass
        return self

    def waiting(self, *, progress: bool = False, timeout: float | None = None) -> Iterator[QwenSFTJob]:
        """Yield the job as it is and after every change, until it has succeeded; see `wait`."""
        shown = display() if progress else Nowhere()
        try:
            for job in self._client.watch_job(self.name, timeout=timeout):
                shown.show(line(job))
                yield job
                if has_ended(job):
                    succeeded = job.status.condition(ConditionType.SUCCEEDED)
                    if succeeded is not None and succeeded.status == "False":
                        raise end_of(job)
                    return
        finally:
            shown.close()
        raise WaitTimeoutError(
            f"{self.name} has not ended after {timeout:.0f} s; it goes on by itself: wait longer, or ask why()"
        )

    def logs(
        self,
        *,
        stage: Stage | str | None = None,
        rank: int | None = None,
        attempt: int | None = None,
        follow: bool = False,
        tail: int | None = None,
    ) -> Iterator[LogLine]:
        """Yield lines of its pods' logs; see `Client.get_job_logs`."""
        return self._client.get_job_logs(self.name, stage=stage, rank=rank, attempt=attempt, follow=follow, tail=tail)

    def metrics(self) -> Any:
        """Return a DataFrame of what the training has logged: step, epoch, loss, lr, eval_loss, attempt; a row a step.

        It is read off the run's volume: through a pod of the run while one runs, else through one that is made for it.

        Raises:
            MissingPackageError: pandas is not installed.
            NotFoundError: the run has no volume yet.
        """
        return figures.frame(self._read(lambda files: figures.records(files.read(figures.LOGS))))

    def preview(self) -> str:
        """Return the first rows of each dataset as the model sees them, what is learnt in ⟦brackets⟧.

        Raises:
            NotFoundError: the run has not been prepared yet.
        """
        found = self._read(lambda files: files.read(PREVIEW))
        if PREVIEW not in found:
            raise NotFoundError(f"{self.name} has no preview yet: it is written when the run is prepared; see why()")
        return str(found[PREVIEW].decode())

    def report(self) -> str:
        """Return the run's page as HTML: what was trained on what, and what came of it. It needs no other file.

        Raises:
            NotFoundError: the run has left none yet: it is written when the training is done, and anew by a merge.
        """
        found = self._read(lambda files: files.read(REPORT))
        if REPORT not in found:
            raise NotFoundError(f"{self.name} has no report yet: it is written when the training is done; see why()")
        return str(found[REPORT].decode())

    def why(self) -> Explanation:
        """Return why the run stands where it stands; print it."""
        return self._client.explain_job(self.name)

    def suspend(self) -> Run:
        """Hold it; see `Client.suspend_job`."""
        self._client.suspend_job(self.name)
        return self

    def resume(self) -> Run:
        """Let it go on; see `Client.resume_job`."""
        self._client.resume_job(self.name)
        return self

    def retry(self) -> Run:
        """Start it again after a failure; see `Client.retry_job`."""
        self._client.retry_job(self.name)
        return self

    def delete(self) -> None:
        """Delete it; see `Client.delete_job`."""
        self._client.delete_job(self.name)

    def _read(self, take: Callable[[RunFiles], Any]) -> Any:
        job = self.job
        with open_files(self._client.connection, job, lambda: self._client.image_for(job)) as files:
            return take(files)
