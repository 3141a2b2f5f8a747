"""Answers are there for as long as somebody wants them, and then for a while."""

from datetime import UTC, datetime

from qwensft.api.v1alpha1 import Stage
from qwensft_operator.plan.types import ChildJob, JobState
from qwensft_operator.runtime.answers import Answers
from qwensft_operator.runtime.explanations import Explanations
from qwensft_operator.runtime.kube import WORKLOADS
from qwensft_operator.runtime.nodes import Nodes
from qwensft_operator.runtime.workloads import Workloads

from .fakes import FakeKube


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_an_answer_that_is_wanted_again_in_time_stays_and_others_go() -> None:
    clock = Clock()
    answers: Answers[str, dict[str, int]] = Answers(dict, 60, clock)
    wanted, left = answers.about("wanted"), answers.about("left")
    wanted.value, left.value = {"a": 1}, {"b": 2}
    for _ in range(3):
        clock.now += 40
        assert answers.about("wanted") is wanted
    assert len(answers) == 1
    assert answers.about("left").value == {}


def test_of_many_things_that_nobody_wants_any_more_nothing_is_kept() -> None:
    clock = Clock()
    answers: Answers[int, dict[str, int]] = Answers(dict, 60, clock)
    for number in range(10_000):
        clock.now += 1
        answers.about(number)
        assert len(answers) <= 61


async def test_namespaces_queues_and_resources_that_are_gone_are_forgotten() -> None:
    kube, clock = FakeKube(), Clock()
    explanations, workloads = Explanations(kube, clock), Workloads(kube, clock)
    nodes = Nodes(kube, enabled=True, now=clock)
    created, labels = datetime(2026, 1, 1, tzinfo=UTC), {"kueue.x-k8s.io/job-uid": "uid"}
    for number in range(50):
        clock.now += 3600
        namespace, queue = f"team-{number}", f"queue-{number}"
        kube.put(WORKLOADS, namespace, {"metadata": {"name": "job-run", "labels": labels}})
        await explanations.of_job(namespace, "uid")
        await nodes.labelled(f"example.com/gpu-{number}.memory")
        await workloads.place(
            namespace, ChildJob("run-train-1", "uid", Stage.TRAIN, 1, JobState.RUNNING, created, queue=queue)
        )
        known = explanations._kinds, nodes._labelled, workloads._workloads, workloads._positions
        assert [len(one) for one in known] == [1, 1, 1, 1]
