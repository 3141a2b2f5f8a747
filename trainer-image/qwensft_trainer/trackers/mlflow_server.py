"""MLflow: one run on a tracking server for all attempts, found by the UID of the QwenSFTJob."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException

from qwensft_trainer.contract.config import MLflow
from qwensft_trainer.trackers.lines import Entry, Outcome
from qwensft_trainer.trackers.tracker import Subject

_OF_THE_JOB = "qwensft.io/"
_LONGEST_VALUE = 250  # of a parameter, on servers of all versions
_MOST_PARAMETERS = 100  # in a request
_MOST_METRICS = 1000
_STATUS: Final[dict[Outcome, str]] = {"Succeeded": "FINISHED", "Failed": "FAILED", "Interrupted": "KILLED"}


class MLflowRun:
    """The name of the file that MLflow's own client would make is not needed: everything goes to the server at once."""

    name = "mlflow"

    def __init__(self, subject: Subject, server: MLflow) -> None:
        self._subject, self._server = subject, server
        self._client = MlflowClient(tracking_uri=server.endpoint)
        self._run_id = ""

    def open(self, step: int, *, ending: bool) -> tuple[str, str]:
        """Find the run or make it. A request whose answer is lost may have made it, too."""
        experiment = self._experiment()
        run = self._found(experiment) or self._made(experiment)
        self._run_id = run.info.run_id
        self._client.log_batch(self._run_id, tags=[RunTag(f"{_OF_THE_JOB}attempt", str(self._subject.attempt))])
        if run.info.status != "RUNNING":
            self._client.update_run(self._run_id, status="RUNNING")
        self._log_parameters(run)
        return f"{self._server.endpoint.rstrip('/')}/#/experiments/{experiment}/runs/{self._run_id}", self._run_id

    def send(self, entries: Sequence[Entry]) -> None:
        """Under the names that the training gives them. MLflow keeps one that comes twice once."""
        metrics = [
            Metric(name, float(value), round(entry.time * 1000), entry.step)
            for entry in entries
            for name, value in entry.values.items()
        ]
        for first in range(0, len(metrics), _MOST_METRICS):
            self._client.log_batch(self._run_id, metrics=metrics[first : first + _MOST_METRICS])

    def close(self, outcome: Outcome) -> None:
        """A later attempt opens the run again."""
        self._client.set_terminated(self._run_id, _STATUS[outcome])

    def _experiment(self) -> str:
        name = self._server.experiment
        found = self._client.get_experiment_by_name(name)
        if found is None:
            try:
                return str(self._client.create_experiment(name))
            except MlflowException:  # another run has made it meanwhile
                found = self._client.get_experiment_by_name(name)
                if found is None:
                    raise
        return str(found.experiment_id)

    def _found(self, experiment: str) -> Run | None:
        same = f"tags.`{_OF_THE_JOB}uid` = '{self._subject.uid}'"
        return next(iter(self._client.search_runs([experiment], same, max_results=1)), None)

    def _made(self, experiment: str) -> Run:
        subject = self._subject
        tags = {
            "mlflow.source.type": "JOB",
            "mlflow.source.name": f"QwenSFTJob {subject.namespace}/{subject.name}",
            **subject.tags,
            **({"group": subject.group} if subject.group else {}),
            **{f"{_OF_THE_JOB}{name}": value for name, value in subject.identity.items()},
        }
        return self._client.create_run(experiment, tags=tags, run_name=subject.run_name)

    def _log_parameters(self, run: Run) -> None:
        """Once: MLflow refuses to change them."""
        wanted = _as_texts(self._subject.parameters)
        new = [Param(name, value) for name, value in wanted.items() if name not in run.data.params]
        for first in range(0, len(new), _MOST_PARAMETERS):
            self._client.log_batch(self._run_id, params=new[first : first + _MOST_PARAMETERS])


def _as_texts(parameters: Mapping[str, Any]) -> dict[str, str]:
    return {name: str(value)[:_LONGEST_VALUE] for name, value in parameters.items()}
