"""Two versions of the product: this one, and a newer one that has an optional field more wherever both meet."""

from __future__ import annotations

import importlib
import json
from typing import Any

import pytest

from qwensft.api.v1alpha1 import QwenSFTJob, Stages, StageStatus, Status
from qwensft.api.v1alpha1 import job as api
from qwensft_operator.runtime import status as writing
from qwensft_trainer.contract import config
from qwensft_trainer.contract.termination import Report

VERSIONS = ("this", "newer")


class NewerStageStatus(StageStatus):
    node: str | None = None


class NewerStages(Stages):
    train: NewerStageStatus | None = None
    evaluate: StageStatus | None = None


class NewerStatus(Status):
    stages: NewerStages = NewerStages()
    quality: dict[str, float] | None = None


class NewerJob(QwenSFTJob):
    status: NewerStatus = NewerStatus()


class NewerTuning(config.Tuning):
    note: str | None = None


class NewerRun(config.Run):
    tuning: NewerTuning
    audit: dict[str, int] | None = None


def install(version: str, patch: pytest.MonkeyPatch) -> None:
    """Make operator and trainer image be of a version, as long as the patch lasts."""
    if version == "newer":
        _install_newer_operator(patch)
        _install_newer_image(patch)


def _install_newer_operator(patch: pytest.MonkeyPatch) -> None:
    # Not imported above: the packages have functions of the same names.
    rendering = importlib.import_module("qwensft_operator.render.config_map")
    deciding = importlib.import_module("qwensft_operator.plan.decide")
    describe, status_of = rendering.run_document, deciding._status

    def described(*arguments: Any) -> dict[str, Any]:
        run: dict[str, Any] = describe(*arguments)
        run["tuning"]["note"] = "from a newer operator"
        return run | {"operatorVersion": "9.0.0", "audit": {"level": 2}}

    def status(*arguments: Any) -> Status:
        made = status_of(*arguments)
        train = NewerStageStatus(**dict(made.stages.train) | {"node": "n1"}) if made.stages.train else None
        stages = NewerStages(**dict(made.stages) | {"train": train, "evaluate": StageStatus(attempt=1)})
        ended = made.completion_time is not None
        return NewerStatus(**dict(made) | {"stages": stages, "quality": {"bleu": 0.4}}).replace(
            phase=made.phase if ended else "Evaluating"
        )

    patch.setattr(api, "QwenSFTJob", NewerJob)
    patch.setattr(api, "Status", NewerStatus)
    patch.setattr(writing, "Status", NewerStatus)
    patch.setattr(deciding, "_status", status)
    patch.setattr(rendering, "run_document", described)


def _install_newer_image(patch: pytest.MonkeyPatch) -> None:
    report = Report.to_json

    def with_more(termination: Report) -> str:
        return json.dumps(json.loads(report(termination)) | {"energy": {"joules": 5}})

    patch.setattr(config, "Run", NewerRun)
    patch.setattr(Report, "to_json", with_more)
