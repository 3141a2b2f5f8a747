"""Whose figures are read, and what becomes of a pod that tells none."""

from typing import Any

import pytest

from qwensft_operator.plan.types import LastStep, Scrape
from qwensft_operator.runtime.kube import JOBS, PODS, QWENSFTJOBS
from qwensft_operator.runtime.scrape import Scraper
from qwensft_operator.runtime.steps import LastSteps

from .fakes import job_manifest, make_observer
from .observing import World, child, merging, pod, training


@pytest.fixture
def world() -> World:
    return World()


async def test_the_first_pod_of_a_training_is_asked_where_the_watch_has_seen_it(world: World) -> None:
    world.kube.put(QWENSFTJOBS, "team", job_manifest(distribution={"nodes": 2}) | training())
    world.kube.put(JOBS, "team", child("train", 1, active=2, ready=2))
    world.kube.put(PODS, "team", pod(index="1", phase="Running", podIP="10.0.0.7"))
    world.kube.put(PODS, "team", pod(phase="Running", podIP="10.0.0.1"))
    assert (await world.observe()).observed.scrape == Scrape(step=5)
    assert world.scraper.asked == ["10.0.0.1"]
    assert world.kube.calls == []


async def test_the_last_step_of_a_job_is_known_after_its_pods_are_gone_and_not_taken_for_that_of_another(
    world: World,
) -> None:
    world.kube.put(QWENSFTJOBS, "team", job_manifest() | training())
    world.kube.put(JOBS, "team", child("train", 1, active=1, ready=1))
    world.kube.put(PODS, "team", pod(phase="Running", podIP="10.0.0.1"))
    assert (await world.observe()).observed.last_step == LastStep(5)
    world.scraper.answers["10.0.0.1"] = Scrape(step=9)
    await world.observe()
    world.scraper.answers["10.0.0.1"] = Scrape(step=11)
    await world.observe()
    world.kube.remove(PODS, "team", "pod-0")
    failed: dict[str, Any] = {"conditions": [{"type": "Failed", "status": "True"}]}
    world.kube.put(JOBS, "team", child("train", 1, **failed))
    assert (await world.observe()).observed.last_step == LastStep(11, apart=4)
    world.kube.put(JOBS, "team", child("train", 1, uid="another", **failed))
    assert (await world.observe()).observed.last_step is None


def test_a_step_that_no_status_can_hold_is_not_remembered() -> None:
    steps = LastSteps()
    for step in (-1, 2**53 + 1, None):
        steps.read("job", step)
    assert steps.of("job") is None


def test_last_steps_of_old_jobs_are_forgotten() -> None:
    steps = LastSteps()
    for number in range(10_001):
        steps.read(f"job-{number}", number)
    assert (steps.of("job-0"), steps.of("job-1")) == (None, LastStep(1))


@pytest.mark.parametrize("status", [{"phase": "Pending"}, {"phase": "Failed", "podIP": "10.0.0.1"}])
async def test_a_pod_that_does_not_run_is_not_asked(world: World, status: dict[str, Any]) -> None:
    world.kube.put(QWENSFTJOBS, "team", job_manifest() | training())
    world.kube.put(JOBS, "team", child("train", 1, active=1, ready=1))
    world.kube.put(PODS, "team", pod(**status))
    assert (await world.observe()).observed.scrape is None
    assert world.scraper.asked == []


async def test_the_pod_of_a_merge_has_no_index_and_is_asked(world: World) -> None:
    world.kube.put(QWENSFTJOBS, "team", job_manifest() | merging())
    world.kube.put(JOBS, "team", child("merge", 1, active=1, ready=1))
    merge_pod = pod(phase="Running", podIP="10.0.0.1")
    del merge_pod["metadata"]["labels"]["batch.kubernetes.io/job-completion-index"]
    world.kube.put(PODS, "team", merge_pod)
    assert (await world.observe()).observed.scrape == Scrape(step=5)


@pytest.mark.parametrize("stage", ["train", "merge"])
async def test_an_image_that_serves_nothing_stops_no_run(world: World, unused_tcp_port: int, stage: str) -> None:
    world.kube.put(QWENSFTJOBS, "team", job_manifest() | (training() if stage == "train" else merging()))
    world.kube.put(JOBS, "team", child(stage, 1, active=1, ready=1))
    world.kube.put(PODS, "team", pod(phase="Running", podIP="127.0.0.1"))
    scraper = Scraper(unused_tcp_port)
    world.observer = make_observer(world.kube, world.store, scraper=scraper)
    assert (await world.observe()).observed.scrape is None
    await scraper.close()


async def test_an_address_that_makes_no_sense_stops_no_run(world: World) -> None:
    world.kube.put(QWENSFTJOBS, "team", job_manifest() | training())
    world.kube.put(JOBS, "team", child("train", 1, active=1, ready=1))
    world.kube.put(PODS, "team", pod(phase="Running", podIP="no address"))
    world.observer = make_observer(world.kube, world.store, scraper=Scraper())
    assert (await world.observe()).observed.scrape is None
