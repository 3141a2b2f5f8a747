"""train.json: written last by a training that did all its steps, read by whoever comes after it."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from qwensft_trainer.base import files
from qwensft_trainer.base.redaction import clean
from qwensft_trainer.contract.config import Run
from qwensft_trainer.contract.digest import Experiment
from qwensft_trainer.contract.errors import PermanentError
from qwensft_trainer.contract.stage import Result


def write(
    run: Run,
    experiment: Experiment,
    directory: Path,
    result: Result,
    *,
    attempt: int,
    processes: int,
    device: str | None,
    arguments: Mapping[str, Any],
) -> None:
    """Record what lies in `directory` as the result. `arguments` are LLaMA-Factory's, as the operator rendered them.

    `processes` are those of all nodes; `device` is the name of their accelerators, None on CPUs.
    """
    files.write_json(
        run.train_result,
        experiment.document()
        | {
            "attempt": attempt,
            "completedAt": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "directory": str(directory.relative_to(run.run_directory)),
            "processes": processes,
            "device": device,
            # As text: YAML knows numbers that JSON does not.
            "arguments": clean(yaml.safe_dump(dict(arguments), sort_keys=False, allow_unicode=True)),
            "metrics": {key: value for key, value in result.metrics.items() if value is not None},
            "outputs": dict(result.outputs),
        },
    )


def read(run: Run, experiment: Experiment) -> Result | None:
    """The recorded result, None before there is one. Raises OutputExists for one with other inputs."""
    recorded = files.read_json_object(run.train_result)
    if recorded is None:
        return None
    if not experiment.owns(recorded):
        raise PermanentError(
            "OutputExists",
            f"{run.run_directory} holds a finished run with other inputs. Set spec.storage.path to a new "
            "directory, or spec.storage.onExisting to Overwrite.",
        )
    return Result(metrics=recorded["metrics"], outputs=recorded["outputs"])
