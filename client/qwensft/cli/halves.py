"""The other halves of the product, where they are installed: what the operator makes, what the trainer says of rows.

Neither is a dependency: the command line does with each of them what the cluster does. It asks the operator's pure
functions for manifests, by name, and starts the trainer as a process that reads run.yaml.
ADR 0174 says why.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final

from qwensft.api.v1alpha1 import QwenSFTJob, Stage
from qwensft.cli.failures import MISSING, CommandError, missing_package

Document = dict[str, Any]

PYTHON: Final = "QWENSFT_TRAINER_PYTHON"
"""Environment variable: the Python in which the trainer is installed, where that is another one."""
UNKNOWN_IMAGE: Final = "TRAINER-IMAGE-OF-THE-INSTALLATION"
_MODULE: Final = "qwensft_trainer.stages.rows"


def has_operator() -> bool:
    """Whether the operator's functions are here."""
    return find_spec("qwensft_operator") is not None


def has_trainer() -> bool:
    """Whether there is a trainer to ask."""
    return bool(os.environ.get(PYTHON)) or find_spec("qwensft_trainer") is not None


def manifests(job: QwenSFTJob, stages: list[Stage], image: str | None) -> list[Document]:
    """Return what the operator would make for a new run, first attempts alone, in the order in which it makes them.

    Raises:
        CommandError: the operator's package is not installed.
    """
    if not has_operator():
        raise missing_package(
            "what the operator makes is rendered by its own package, which is not installed", "offline"
        )
    render: Any = import_module("qwensft_operator.render")
    defaults = render.Defaults(trainer_image=image or UNKNOWN_IMAGE)
    made: list[Document] = []
    if job.spec.storage.volume.claim_template is not None:
        made.append(render.claim(job))
    for stage in stages:
        if stage is Stage.TRAIN:
            made.append(render.service(job))
        made.append(render.config_map(job, stage, 1))
        made.append(render.stage_job(job, stage, 1, defaults=defaults))
    return made


def run_files(job: QwenSFTJob) -> tuple[Document, Document]:
    """Return run.yaml and train.yaml of the prepare stage as documents.

    Raises:
        CommandError: the operator's package is not installed.
    """
    import yaml  # takes a while to import

    config = next(made for made in manifests(job, [Stage.PREPARE], None) if made["kind"] == "ConfigMap")
    run, arguments = (yaml.safe_load(config["data"][name]) for name in ("run.yaml", "train.yaml"))
    return run, arguments


def ask_trainer(action: str, request: Mapping[str, Any]) -> Document:
    """Return the trainer's answer about rows; see `qwensft_trainer.stages.rows`.

    Raises:
        CommandError: there is no trainer, or it lacks a package, or it broke.
    """
    if not has_trainer():
        raise missing_package("rows are judged by the trainer's own code, which is not installed", "offline")
    python = os.environ.get(PYTHON) or sys.executable
    with tempfile.TemporaryDirectory(prefix="qwensft-") as work:
        try:
            ended = subprocess.run(
                [python, "-m", _MODULE, work],
                input=json.dumps({"action": action, **request}),
                capture_output=True,
                text=True,
                check=False,
            )
        except OSError as error:
            raise CommandError(f"{PYTHON}: {python} cannot be started: {error.strerror}") from None
    try:
        answer: Document = json.loads(ended.stdout)
    except ValueError:
        lines = ended.stderr.strip().splitlines()
        if any(f"No module named {name}" in ended.stderr for name in ("'qwensft_trainer'", "qwensft_trainer")):
            raise missing_package(f"{python} has no trainer in it", "offline") from None
        raise CommandError(f"the trainer could not judge the rows: {lines[-1] if lines else 'it was killed'}") from None
    if answer.get("reason") == "MissingPackage":
        raise _missing(answer["message"], action)
    return answer


def _missing(package: str, action: str) -> CommandError:
    if action == "show":
        return CommandError(
            f"rows are encoded by LLaMA-Factory, which is not installed here ({package} is missing): name a Python "
            f"with the packages of the trainer image in {PYTHON}, or look at a run's own: qwensft preview --run NAME",
            MISSING,
        )
    return missing_package(f"the trainer needs {package}", "offline")
