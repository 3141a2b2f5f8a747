"""When a node no longer answers, and for which pods that matters."""

import pytest

from qwensft_operator.plan.lost_nodes import lost_node
from qwensft_operator.plan.types import PodView

from .builders import NOW, child, failed, later, pod


@pytest.mark.parametrize(("seconds", "lost"), [(30, False), (31, True)])
def test_a_pod_is_lost_when_its_grace_period_has_been_over_for_a_while(seconds: int, *, lost: bool) -> None:
    evicted = pod(disrupted="DeletionByTaintManager", deleted_at=NOW)
    told = lost_node(child(), (evicted,), later(seconds=seconds))
    assert (told is not None) == lost
    assert told is None or "was told to stop by 2026-01-02T12:00:00Z and has not" in told.message


@pytest.mark.parametrize("ended", [failed(unreachable=True), pod(phase="Succeeded", deleted_at=later(hours=-1))])
def test_a_pod_that_has_ended_is_not_lost(ended: PodView) -> None:
    assert lost_node(child(), (ended,), NOW) is None


def test_a_pod_that_never_had_a_node_is_not_lost() -> None:
    assert lost_node(child(), (pod(node="", phase="Pending", deleted_at=later(hours=-1)),), NOW) is None
