"""What a failed run, or a failed test of one, shows of the job."""

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from quickstart import follow
from quickstart.shell import Kubectl
from quickstart.steps import QuickstartError
from tests.e2e.reporting import account_of

KILLED = "pod a-train-1-0 was killed for using more memory than its limit"
JOB: dict[str, Any] = {
    "metadata": {"name": "a", "namespace": "b", "generation": 1},
    "status": {
        "stages": {
            "prepare": {"attempt": 1, "completionTime": "2026-01-02T00:00:00Z"},
            "train": {"attempt": 2, "restarts": 1, "reason": "OutOfMemory", "message": KILLED},
        },
        "conditions": [
            {"type": "Succeeded", "status": "Unknown", "reason": "Running", "message": "Job a-train-2 runs"}
        ],
    },
}
ACCOUNT = [
    "Stages:",
    "  prepare  attempt 1, 0 restarts, done",
    f"  train    attempt 2, 1 restarts, not done, last failure OutOfMemory: {KILLED}",
    "Conditions:",
    "  Succeeded    Unknown  Running: Job a-train-2 runs",
    "Events:",
    "  Normal   Prepared             200 samples",
    "  Warning  OutOfMemory          killed",
]


class Events(Kubectl):
    """Answers for a list of events."""

    def items(self, *arguments: str) -> list[dict[str, Any]]:
        assert arguments == ("events", "-n", "b", "--field-selector", "involvedObject.name=a")
        return [
            {"type": "Warning", "reason": "OutOfMemory", "message": "killed", "lastTimestamp": "2026-01-02T00:02:00Z"},
            {"type": "Normal", "reason": "Prepared", "message": "200 samples", "lastTimestamp": "2026-01-02T00:01:00Z"},
        ]


@dataclass
class Runs:
    """As tests.e2e.runs.Runs, of one job."""

    latest: str = "a"
    namespace: str = "b"
    kubectl: Kubectl = field(default_factory=Events)

    def get(self, name: str) -> dict[str, Any]:
        if name == "unreachable":
            raise QuickstartError("connection refused")
        return JOB if name == "a" else {}


def test_an_account_has_stages_conditions_and_events_in_their_order() -> None:
    assert follow.account(Events(), JOB).splitlines() == ACCOUNT


def test_an_explanation_begins_with_the_reason() -> None:
    assert follow.explain(Events(), JOB).splitlines() == ["b/a: Running: Job a-train-2 runs", *ACCOUNT]


def test_a_failed_test_shows_the_job_that_it_looked_at_last() -> None:
    assert account_of({"runs": Runs()}).splitlines() == ["b/a", *ACCOUNT]


def test_a_failed_test_of_the_matrix_shows_the_job_of_its_row() -> None:
    fixtures = {"matrix": SimpleNamespace(runs=Runs(latest="other")), "row": SimpleNamespace(name="a")}
    assert account_of(fixtures).splitlines() == ["b/a", *ACCOUNT]


def test_a_job_that_cannot_be_shown_hides_no_failure() -> None:
    assert account_of({"runs": Runs(latest="unreachable")}) == "unreachable cannot be read: connection refused"
    assert account_of({"runs": Runs(latest="gone")}) == "gone does not exist"
    assert account_of({"runs": Runs(latest="")}) == account_of({}) == ""
