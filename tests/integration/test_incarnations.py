"""A name stands for one run at a time: what Kubernetes' own controllers leave of another is waited for, or told."""

import asyncio
import re
import shlex
import subprocess

import pytest

from qwensft_operator.runtime.kube import CONFIG_MAPS, JOBS, PODS, QWENSFTJOBS, SERVICES, Manifest

from .cluster import Cluster, condition

HELD = "tests.qwensft.io/held"  # a finalizer in place of a container that takes its time to stop


async def train(cluster: Cluster) -> list[Manifest]:
    """Bring a run to its training; return the pods."""
    await cluster.apply()
    await cluster.end_pods("demo-prepare-1")
    pods = await cluster.pods("demo-train-1", 2)
    await cluster.run_pods("demo-train-1", 2)
    await cluster.reaches(phase="Training", reason="Running")
    return pods


async def hold(cluster: Cluster, pod: Manifest, *finalizers: str) -> None:
    """Give a pod these finalizers beside Kubernetes' own; without any, let it go."""
    kept = pod["metadata"]["finalizers"] if finalizers else []
    patch = {"metadata": {"finalizers": [*kept, *finalizers]}}
    await cluster.kube.merge(PODS, cluster.namespace, pod["metadata"]["name"], patch)


async def run_the_command(cluster: Cluster) -> str:
    """Do what the run's message says."""
    message = str(condition(await cluster.status(), "Succeeded")["message"])
    (command,) = re.findall(r"kubectl (?:delete|label) .*$", message)
    await asyncio.to_thread(subprocess.run, shlex.split(command), check=True, capture_output=True)
    return message


async def test_the_next_attempt_waits_for_pods_whose_job_is_gone(cluster: Cluster) -> None:
    pod, *_ = await train(cluster)
    await hold(cluster, pod, HELD)
    await cluster.delete(JOBS, "demo-train-1")
    await cluster.gone(JOBS, "demo-train-1")
    status = await cluster.reaches(reason="WaitingForPreviousAttempt")
    assert pod["metadata"]["name"] in condition(status, "Succeeded")["message"]
    assert await cluster.jobs() == {"demo-prepare-1"}
    assert status["stages"]["train"]["attempt"] == 1
    await hold(cluster, pod)
    await cluster.pods("demo-train-2", 2)
    await cluster.reaches(restarts=1)


async def test_orphaned_pods_of_an_attempt_are_told_and_the_command_ends_them(cluster: Cluster) -> None:
    await train(cluster)
    await cluster.delete(JOBS, "demo-train-1", "--cascade=orphan")
    await cluster.reaches(reason="WaitingForPreviousAttempt")
    await cluster.pods("demo-train-1", 2)

    async def told() -> bool:  # first the Job goes, then the pods lose their owner
        return "nobody looks after" in condition(await cluster.status(), "Succeeded")["message"]

    await cluster.until(told, "the orphans are told")
    await run_the_command(cluster)
    await cluster.pods("demo-train-2", 2)


async def test_a_job_that_lost_its_labels_is_followed_again_once_the_command_has_put_them_back(
    cluster: Cluster,
) -> None:
    await train(cluster)
    bare = {"metadata": {"labels": {"qwensft.io/job": None, "qwensft.io/attempt": None}}}
    await cluster.kube.merge(JOBS, cluster.namespace, "demo-train-1", bare)
    await cluster.reaches(reason="WaitingForPreviousAttempt")
    assert "lacks labels" in await run_the_command(cluster)
    status = await cluster.reaches(phase="Training", reason="Running")
    assert status["stages"]["train"]["attempt"] == 1
    assert await cluster.jobs() == {"demo-prepare-1", "demo-train-1"}


async def test_a_run_that_is_applied_again_waits_for_the_pods_of_the_one_before(cluster: Cluster) -> None:
    pod, *_ = await train(cluster)
    await hold(cluster, pod, HELD)
    await cluster.delete(QWENSFTJOBS, "demo")
    await cluster.gone(QWENSFTJOBS, "demo")
    await cluster.apply()
    await cluster.reaches(phase="Pending", reason="WaitingForPreviousRun")
    await cluster.gone(JOBS, "demo-train-1")

    async def of_the_pod() -> bool:
        return pod["metadata"]["name"] in condition(await cluster.status(), "Succeeded")["message"]

    await cluster.until(of_the_pod, "the pod is named")
    assert await cluster.jobs() == set()
    await hold(cluster, pod)
    await cluster.exists(JOBS, "demo-prepare-1")


async def test_what_a_run_left_to_itself_is_removed_by_the_one_command_that_the_next_run_tells(
    cluster: Cluster,
) -> None:
    await train(cluster)
    await cluster.delete(QWENSFTJOBS, "demo", "--cascade=orphan")
    await cluster.gone(QWENSFTJOBS, "demo")
    run = await cluster.apply()

    async def told() -> bool:
        said = condition(await cluster.status(), "Succeeded")
        return (
            said.get("reason") == "NameConflict"
            and "kubectl delete jobs,configmaps,services,networkpolicies,pods" in said["message"]
        )

    await cluster.until(told, "the command is told")
    await run_the_command(cluster)

    async def owned() -> bool:
        job = await cluster.get(JOBS, "demo-prepare-1")
        return job is not None and job["metadata"]["ownerReferences"][0]["uid"] == run["metadata"]["uid"]

    await cluster.until(owned, "the new run prepares")
    assert await cluster.get(SERVICES, "demo-train") is None


async def test_the_service_of_an_earlier_version_selects_by_uid_from_the_next_attempt_on(cluster: Cluster) -> None:
    await train(cluster)
    label = "qwensft.io/job-uid"
    older = {"metadata": {"labels": {label: None}}, "spec": {"selector": {label: None}}}
    await cluster.kube.merge(SERVICES, cluster.namespace, "demo-train", older)
    await cluster.edit({"metadata": {"annotations": {"touched": "now"}}})
    await cluster.end_pods("demo-train-1", 2, code=1)
    assert label not in (await cluster.exists(SERVICES, "demo-train"))["spec"]["selector"]
    pod, *_ = await cluster.pods("demo-train-2", 2)
    selector = (await cluster.exists(SERVICES, "demo-train"))["spec"]["selector"]
    assert label in selector
    assert selector.items() <= pod["metadata"]["labels"].items()


@pytest.mark.parametrize("replaced_after", ["demo-prepare-1", "demo-train-1"])
async def test_an_upgrade_changes_neither_image_nor_files_of_a_run(lone_cluster: Cluster, replaced_after: str) -> None:
    cluster = lone_cluster
    operator = cluster.start_operator(QWENSFT_TRAINER_IMAGE="qwensft/trainer:before")
    await cluster.apply()
    images = set()
    for name, count, code in (("demo-prepare-1", 1, 0), ("demo-train-1", 2, 1), ("demo-train-2", 2, 0)):
        await cluster.pods(name, count)
        if name == replaced_after:
            operator.terminate()
            cluster.start_operator(QWENSFT_TRAINER_IMAGE="qwensft/trainer:after")
        job = await cluster.exists(JOBS, name)
        images.add(job["spec"]["template"]["spec"]["containers"][0]["image"])
        await cluster.end_pods(name, count, code=code)
    assert images == {"qwensft/trainer:before"}
    files = [(await cluster.exists(CONFIG_MAPS, name))["data"] for name in ("demo-prepare-1", "demo-train-2")]
    assert files[0] == files[1]
    first = (await cluster.exists(CONFIG_MAPS, "demo-prepare-1"))["metadata"]["annotations"]["qwensft.io/configuration"]
    await cluster.reaches(configuration=first)
