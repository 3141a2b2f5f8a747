"""What the operator says of a run that it cannot bring forward, to the API server that has to take it."""

from datetime import UTC, datetime
from typing import Any

import pytest

from qwensft.api.v1alpha1 import parse_job
from qwensft_operator import plan
from qwensft_operator.plan.types import Event, Plan
from qwensft_operator.runtime.kube import EVENTS, QWENSFTJOBS, InvalidError
from qwensft_operator.runtime.status import Reporter

from .cluster import Cluster, condition

NOW = datetime(2026, 1, 2, tzinfo=UTC)


@pytest.mark.parametrize("refused", [{"progress": {"steps": 7}}, {"progress": {"percentage": 250}}], ids=str)
async def test_figures_that_are_refused_do_not_keep_the_rest_of_a_status_from_being_written(
    lone_cluster: Cluster, refused: dict[str, Any]
) -> None:
    run = await lone_cluster.apply()
    assert await Reporter(lone_cluster.kube, "test").write_status(run, {"phase": "Training", "restarts": 2, **refused})
    status = await lone_cluster.reaches(phase="Training", restarts=2)
    assert "progress" not in status
    assert await lone_cluster.events() == [("Warning", "OperatorError")]


async def test_an_event_is_said_again_only_if_it_is_about_the_run(lone_cluster: Cluster) -> None:
    kube, reporter = lone_cluster.kube, Reporter(lone_cluster.kube, "test")
    run = await lone_cluster.apply()
    event = Event("Normal", "Trained", "500 steps")
    for _ in range(2):
        await reporter.emit(run, [event])
        (said,) = await kube.list(EVENTS, lone_cluster.namespace, field_selector="involvedObject.name=demo")
        old = [{"op": "add", "path": "/lastTimestamp", "value": "2020-01-01T00:00:00Z"}]
        await kube.patch(EVENTS, lone_cluster.namespace, said["metadata"]["name"], old)
    await reporter.emit(run, [event])
    (said,) = await kube.list(EVENTS, lone_cluster.namespace, field_selector="involvedObject.name=demo")
    assert said["lastTimestamp"] > "2026"
    elsewhere = [{"op": "test", "path": "/involvedObject/uid", "value": "somebody-else"}, *old]
    with pytest.raises(InvalidError):
        await kube.patch(EVENTS, lone_cluster.namespace, said["metadata"]["name"], elsewhere)


@pytest.mark.parametrize("refused", [{"restarts": -1}, {"stages": {"prepare": {"attempt": "first"}}}], ids=str)
async def test_a_status_that_is_refused_can_be_replaced_by_words_about_it(
    lone_cluster: Cluster, refused: dict[str, Any]
) -> None:
    kube, reporter = lone_cluster.kube, Reporter(lone_cluster.kube, "test")
    run = await lone_cluster.apply()
    with pytest.raises(InvalidError) as caught:
        await reporter.write_status(run, {"phase": "Training", **refused})
    said = plan.operator_error(run, caught.value, NOW)
    assert said.status is not None
    assert await reporter.write_status(run, said.status)
    status = await lone_cluster.reaches(phase="Pending", reason="OperatorError", observedGeneration=1)
    assert f"status.{next(iter(refused))}" in condition(status, "Reconciling")["message"]

    stored = await kube.get(QWENSFTJOBS, lone_cluster.namespace, "demo")
    assert parse_job(stored).status.document() == {"stages": {}, **status}
    assert plan.operator_error(stored, caught.value, NOW) == Plan()
    await reporter.emit(stored, said.events)
    assert await lone_cluster.events() == [("Warning", "OperatorError")]
