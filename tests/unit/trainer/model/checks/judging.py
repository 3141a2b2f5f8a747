"""What the checks say of a job: warnings, or the refusal; and how tests make it another one."""

from __future__ import annotations

from typing import Any

import pytest

from qwensft_trainer.contract.errors import PermanentError
from qwensft_trainer.model.checks import chain as model_checks

from ... import models
from ...conftest import Scene


def model(job: Scene, model_type: str, **options: Any) -> None:
    for path in (job.root / "model").iterdir():
        path.unlink()
    models.write(job.root / "model", model_type, **options)


def warnings(job: Scene) -> list[str]:
    found = model_checks.check(job.run, job.train)
    assert all(len(warning) <= 300 for warning in found)  # what a termination message has room for
    return found


def refusal(job: Scene, reason: str = "InvalidConfig") -> str:
    with pytest.raises(PermanentError) as caught:
        warnings(job)
    assert caught.value.reason == reason
    return caught.value.message


def zero(job: Scene, stage: int) -> None:
    job.document["deepspeed"] = {"stage": stage, "config": "/etc/qwensft/deepspeed.json"}


def quantize(job: Scene, *, bits: int = 4, method: str = "bnb", **more: Any) -> None:
    job.document["tuning"] = {"method": "lora", "quantization": {"bits": bits, "method": method}} | more
