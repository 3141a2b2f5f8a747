"""`status` and `why` of runs that do not go on, each for another reason; all wait or fail side by side."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from quickstart import inputs
from tests.e2e.runs import Runs

from .conftest import Cli

JobFile = Callable[[str, dict[str, Any]], str]


@dataclass(frozen=True)
class Failure:
    """What is wrong with a job, the reason that it gets, and words that the page must say."""

    spec: dict[str, Any]
    reason: str
    said: tuple[str, ...] = ()
    phases: tuple[str, ...] = field(default=("Failed",))


def _rows(config_map: str, key: str = "rows.jsonl") -> list[dict[str, Any]]:
    return [{"name": "rows", "format": "alpaca", "source": {"configMap": {"name": config_map, "key": key}}}]


_WAITING = ("Pending", "Preparing", "Suspended")
FAILURES = {
    "bad-row": Failure({"datasets": _rows("bad-rows")}, "InvalidDataset", ("row 2", "output")),
    "no-rows": Failure({"datasets": _rows("nobodys-rows")}, "ConfigMapUnavailable", ("nobodys-rows",), _WAITING),
    "no-key": Failure(
        {"datasets": _rows("bad-rows", "other.jsonl")}, "ConfigMapUnavailable", ("other.jsonl",), _WAITING
    ),
    "no-model": Failure(
        {"model": {"source": {"volume": {"claimName": "base-models", "path": "nowhere"}}}}, "InvalidModel", ("nowhere",)
    ),
    "no-claim": Failure(
        {"model": {"source": {"volume": {"claimName": "nobodys-models", "path": "m"}}}},
        "StorageUnavailable",
        ("nobodys-models",),
        _WAITING,
    ),
    "bad-argument": Failure({"extraArguments": {"no_such_argument": "1"}}, "InvalidConfig", ("no_such_argument",)),
    "no-image": Failure(
        {"worker": {"image": "localhost/nobody/trainer:0"}}, "ImagePullFailed", ("nobody/trainer",), _WAITING
    ),
    "no-node": Failure({"worker": {"nodeSelector": {"pool": "nowhere"}}}, "Unschedulable", ("node",), _WAITING),
    "no-memory": Failure({"prepare": {"resources": {"limits": {"memory": "100Mi"}}, "retries": 0}}, "OutOfMemory", ()),
    "late": Failure({"runPolicy": {"activeDeadlineSeconds": 1}}, "DeadlineExceeded", ("activeDeadlineSeconds",)),
    "held": Failure({"runPolicy": {"suspend": True}}, "Suspended", ("runPolicy.suspend",), _WAITING),
}


@pytest.fixture(scope="module")
def failing(runs: Runs, namespace: str) -> Runs:
    """All of them at once."""
    good, bad = '{"instruction": "When?", "output": "At noon."}', '{"instruction": "Where?"}'
    runs.kubectl.apply(inputs.rows("bad-rows", namespace, {"rows.jsonl": f"{good}\n{bad}\n"}))
    for name, failure in FAILURES.items():
        runs.create(name, failure.spec)
    return runs


@pytest.mark.parametrize("name", FAILURES)
def test_why_a_run_does_not_go_on(cli: Cli, failing: Runs, name: str) -> None:
    expected = FAILURES[name]

    def is_told(job: dict[str, Any]) -> bool:
        told = job.get("status", {})
        reasons = [one["reason"] for one in told.get("conditions", []) if one["type"] == "Succeeded"]
        # The reason is told as soon as it is seen, the end once Kubernetes has drawn the conclusion.
        return reasons == [expected.reason] and told.get("phase") in expected.phases

    failing.until_told(name, is_told, expected.reason)
    page = cli("why", name)
    assert page.code == 0, page.err
    assert expected.reason in page.out.splitlines()[0]
    for words in expected.said:
        assert words in page.out
    shown = cli("status", name)
    assert shown.out.split()[1] in expected.phases
    assert expected.reason in shown.out
    if expected.phases == ("Failed",):
        assert cli("status", name, "--watch").code == 1


def test_a_failed_run_is_started_again(cli: Cli, failing: Runs) -> None:
    failing.until_told("bad-row", lambda job: job.get("status", {}).get("phase") == "Failed", "Failed")
    rows = '{"instruction": "When?", "output": "At noon."}\n' * 8
    failing.kubectl.apply(inputs.rows("bad-rows", failing.namespace, {"rows.jsonl": rows}))
    assert cli("retry", "bad-row").out == "bad-row: starts again\n"
    failing.until("bad-row", lambda job: job["status"]["phase"] not in ("Failed", "Pending"), "another attempt")
