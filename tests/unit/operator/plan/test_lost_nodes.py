"""When a node no longer answers, and for which pods that matters."""

from dataclasses import replace
from datetime import datetime

import pytest

from qwensft_operator.plan.lost_nodes import lost_node
from qwensft_operator.plan.types import PodView

from .builders import NOW, child, failed, later, pod


@pytest.mark.parametrize(("seconds", "late"), [(30, False), (31, True)])
def test_a_pod_whose_grace_period_has_been_over_for_a_while_is_told(seconds: int, *, late: bool) -> None:
    evicted = pod(disrupted="DeletionByTaintManager", deleted_at=NOW)
    told = lost_node(child(), (evicted,), later(seconds=seconds))
    assert (told is not None) == late
    assert told is None or "was told to stop by 2026-01-02T12:00:00Z and has not" in told.message


@pytest.mark.parametrize("ahead", [60, 86400])
def test_a_clock_that_is_ahead_never_leads_to_the_advice_to_delete_a_node(ahead: int) -> None:
    told = lost_node(child(), (pod(deleted_at=later(minutes=5)),), later(minutes=5, seconds=ahead))
    assert told is not None
    assert told.reason == "PodNotStopping"
    assert "delete node" not in told.message
    assert "taint" not in told.message


@pytest.mark.parametrize("moment", [later(days=-1), NOW, later(days=1)])
def test_what_the_node_controller_says_counts_whatever_the_time(moment: datetime) -> None:
    told = lost_node(child(), (pod(unreachable=True, deleted_at=NOW),), moment)
    assert told is not None
    assert told.reason == "NodeLost"
    assert "kubectl delete node node-0" in told.message


@pytest.mark.parametrize("ended", [failed(unreachable=True), pod(phase="Succeeded", deleted_at=later(hours=-1))])
def test_a_pod_that_has_ended_is_not_lost(ended: PodView) -> None:
    assert lost_node(child(), (ended,), NOW) is None


@pytest.mark.parametrize("code", [0, 1])
def test_a_pod_whose_trainer_has_ended_and_whose_sidecar_has_not_is_lost_with_its_node(code: int) -> None:
    half = pod(exit_code=code, finished_at=NOW, sidecars=("istio-proxy",), deleted_at=NOW)
    lost = lost_node(child(), (replace(half, unreachable=True),), NOW)
    assert lost is not None
    assert lost.reason == "NodeLost"
    late = lost_node(child(), (half,), later(seconds=31))
    assert late is not None
    assert late.reason == "PodNotStopping"


def test_a_pod_that_never_had_a_node_is_not_lost() -> None:
    assert lost_node(child(), (pod(node="", phase="Pending", deleted_at=later(hours=-1)),), NOW) is None
