"""`status` and `why` of runs that do not go on, each for another reason; all wait or fail side by side."""

from __future__ import annotations

from typing import Any

import pytest
from quickstart import inputs
from tests.e2e.runs import Runs

from .conftest import Cli, typed
from .failures import FAILURES
from .recording import COMMANDS, WHY, compare


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
    compare(WHY, name, lambda: typed(cli, "why", name))


def test_the_status_of_a_failed_run_is_as_the_documents_show_it(cli: Cli, failing: Runs) -> None:
    failing.until_told("bad-row", lambda job: job.get("status", {}).get("phase") == "Failed", "Failed")
    compare(COMMANDS, "status-failed", lambda: typed(cli, "status", "bad-row"))


def test_a_failed_run_is_started_again(cli: Cli, failing: Runs) -> None:
    failing.until_told("bad-row", lambda job: job.get("status", {}).get("phase") == "Failed", "Failed")
    rows = '{"instruction": "When?", "output": "At noon."}\n' * 8
    failing.kubectl.apply(inputs.rows("bad-rows", failing.namespace, {"rows.jsonl": rows}))
    assert cli("retry", "bad-row").out == "bad-row: starts again\n"
    failing.until("bad-row", lambda job: job["status"]["phase"] not in ("Failed", "Pending"), "another attempt")
