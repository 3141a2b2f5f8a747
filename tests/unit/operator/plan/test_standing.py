"""Where runs stand, told from raw documents."""

from datetime import UTC, datetime
from typing import Any

import pytest

from qwensft.api.v1alpha1 import Phase, Reason, Worker
from qwensft_operator.plan.standing import PHASES, accelerators_held, last_move, standing, waits

MORNING = "2026-01-02T06:00:00Z"
NOON = "2026-01-02T12:00:00Z"


def run(phase: str | None = None, reason: str | None = None, **status: Any) -> dict[str, Any]:
    told = {"conditions": [{"type": "Reconciling", "reason": "Other"}, {"type": "Succeeded", "reason": reason}]}
    document = {"metadata": {"creationTimestamp": MORNING}, "spec": {}}
    return document | ({} if phase is None else {"status": {"phase": phase, **told, **status}})


def test_phase_and_reason_are_those_that_kubectl_shows() -> None:
    assert standing(run("Training", "Unschedulable")) == ("Training", "Unschedulable")
    assert standing(run()) == ("Unseen", "")
    assert standing({"metadata": {}, "status": {"observedGeneration": -1}}) == ("Unseen", "")


def test_what_another_version_says_makes_no_new_series() -> None:
    assert standing(run("Evaluating", "TooClever")) == ("Other", "Other")
    assert set(PHASES) == {"Unseen", *Phase}


def test_runs_that_have_come_to_the_same_share_one_record_of_it() -> None:
    assert standing(run("Failed", "Out" + "OfMemory")) is standing(run("Failed", "OutOf" + "Memory"))


@pytest.mark.parametrize(
    ("where", "waiting"),
    [
        (standing(run()), True),
        (standing(run("Training", Reason.QUEUED)), True),
        (standing(run("Training", Reason.NON_FINITE_LOSS)), False),
        (standing(run("Succeeded", Reason.COMPLETED)), False),
        (standing(run("Failed", Reason.OUT_OF_MEMORY)), False),
        (standing(run("Training", Reason.POD_NOT_STOPPING)), True),
        (standing(run("Training", Reason.RUNNING)), False),
        (standing(run("Training", Reason.FIGURES_UNREACHABLE)), False),
    ],
)
def test_a_run_waits_unless_its_pods_work(where: Any, waiting: bool) -> None:
    assert waits(where) is waiting


def test_a_run_has_moved_when_it_or_a_job_of_it_says_so_last() -> None:
    def at(hour: int) -> datetime:
        return datetime(2026, 1, 2, hour, tzinfo=UTC)

    stages = {"train": {"startTime": "2026-01-02T07:00:00Z", "retryTime": "2026-01-03T00:00:00Z"}}
    job = {"metadata": {"creationTimestamp": "2026-01-02T08:00:00Z"}, "status": {}}
    assert last_move(run(), []) == at(6)
    assert last_move(run("Training", stages=stages), []) == at(7), "a time to come is no move"
    assert last_move(run("Training", stages=stages), [job]) == at(8)
    assert last_move(run("Suspended", suspendTime=NOON), [job]) == at(12)
    assert last_move(run("Training"), [job | {"status": {"conditions": [{"lastTransitionTime": NOON}]}}]) == at(12)


def pod(stage: str = "train", node: str = "n", phase: str = "Running") -> dict[str, Any]:
    return {
        "metadata": {"labels": {"qwensft.io/stage": stage}},
        "spec": {"nodeName": node} if node else {},
        "status": {"phase": phase},
    }


def test_times_that_the_api_server_takes_and_python_does_not_hide_no_others() -> None:
    odd = run("Training", "Unschedulable", startTime="2026-13-02t00:00:00+99:99", suspendTime=NOON)
    assert last_move(odd, ()) == datetime(2026, 1, 2, 12, tzinfo=UTC)


def test_pods_hold_accelerators_from_their_node_to_their_end() -> None:
    spec = {"spec": {"worker": {"accelerator": {"count": 8}}}}
    pods = [pod(), pod(phase="Pending"), pod(node=""), pod(phase="Failed"), pod("prepare"), pod("merge")]
    assert accelerators_held(spec, pods) == 16
    by_llamafactory = {"spec": spec["spec"] | {"merge": {"engine": "llamafactory", "device": "auto"}}}
    assert accelerators_held(by_llamafactory, pods) == 17


def test_without_a_count_a_pod_holds_as_many_as_the_api_says() -> None:
    assert accelerators_held({"spec": {}}, [pod()]) == Worker().accelerator.count == 1
