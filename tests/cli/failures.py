"""Runs that do not go on, each for another reason, of causes that cost the cluster next to nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

_WAITING = ("Pending", "Preparing", "Suspended")


@dataclass(frozen=True)
class Failure:
    """What is wrong with a job, the reason that it gets, and words that the page must say."""

    spec: dict[str, Any]
    reason: str
    said: tuple[str, ...] = ()
    phases: tuple[str, ...] = field(default=("Failed",))


def _rows(config_map: str, key: str = "rows.jsonl") -> list[dict[str, Any]]:
    return [{"name": "rows", "format": "alpaca", "source": {"configMap": {"name": config_map, "key": key}}}]


def _model(claim: str, path: str) -> dict[str, Any]:
    return {"source": {"volume": {"claimName": claim, "path": path}}}


FAILURES = {
    "bad-row": Failure({"datasets": _rows("bad-rows")}, "InvalidDataset", ("row 2", "output")),
    "no-rows": Failure({"datasets": _rows("nobodys-rows")}, "ConfigMapUnavailable", ("nobodys-rows",), _WAITING),
    "no-key": Failure(
        {"datasets": _rows("bad-rows", "other.jsonl")}, "ConfigMapUnavailable", ("other.jsonl",), _WAITING
    ),
    "no-model": Failure({"model": _model("base-models", "nowhere")}, "InvalidModel", ("nowhere",)),
    "no-claim": Failure({"model": _model("nobodys-models", "m")}, "StorageUnavailable", ("nobodys-models",), _WAITING),
    "bad-argument": Failure({"extraArguments": {"no_such_argument": "1"}}, "InvalidConfig", ("no_such_argument",)),
    "no-image": Failure(
        {"worker": {"image": "localhost/nobody/trainer:0"}}, "ImagePullFailed", ("nobody/trainer",), _WAITING
    ),
    "no-node": Failure({"worker": {"nodeSelector": {"pool": "nowhere"}}}, "Unschedulable", ("node",), _WAITING),
    "no-memory": Failure({"prepare": {"resources": {"limits": {"memory": "100Mi"}}, "retries": 0}}, "OutOfMemory"),
    "late": Failure({"runPolicy": {"activeDeadlineSeconds": 1}}, "DeadlineExceeded", ("activeDeadlineSeconds",)),
    "held": Failure({"runPolicy": {"suspend": True}}, "Suspended", ("runPolicy.suspend",), _WAITING),
}
"""By the runs' names."""
