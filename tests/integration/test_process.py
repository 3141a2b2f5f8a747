"""The operator as a process: killed at any moment, restarted, and doubled."""

import asyncio
import time

from qwensft_operator.runtime.kube import JOBS, LEASES, Manifest

from .cluster import Cluster, Operator

# A leader that does not reach the API server for two thirds of this stands by: not because a machine is busy.
HA = {"QWENSFT_LEADER_ELECTION": "true", "QWENSFT_LEASE_DURATION_SECONDS": "12"}


async def test_a_killed_operator_goes_on_from_what_the_cluster_tells(lone_cluster: Cluster) -> None:
    cluster = lone_cluster
    await cluster.apply()
    for done, following in (("demo-prepare-1", "demo-train-1"), ("demo-train-1", "demo-merge-1")):
        operator = cluster.start_operator()
        await cluster.exists(JOBS, done)
        operator.kill()  # perhaps before it wrote that the Job exists
        await cluster.end_pods(done, 2 if "train" in done else 1)
        operator = cluster.start_operator()
        await cluster.exists(JOBS, following)
        operator.kill()
    cluster.start_operator()
    await cluster.end_pods("demo-merge-1")
    status = await cluster.reaches(phase="Succeeded")
    assert {name: stage["attempt"] for name, stage in status["stages"].items()} == {
        "prepare": 1,
        "train": 1,
        "merge": 1,
    }
    assert await cluster.jobs() == {"demo-prepare-1", "demo-train-1", "demo-merge-1"}


async def test_of_two_operators_one_acts_and_the_other_takes_over(lone_cluster: Cluster) -> None:
    cluster = lone_cluster

    def start(identity: str) -> Operator:
        return cluster.start_operator(**HA, QWENSFT_LEASE_NAMESPACE=cluster.namespace, QWENSFT_IDENTITY=identity)

    async def led_by(identity: str) -> None:
        async def holds() -> bool:
            lease = await cluster.get(LEASES, "qwen-sft-operator")
            return lease is not None and lease["spec"]["holderIdentity"] == identity

        await cluster.until(holds, f"{identity} leads")

    first = start("first")
    await led_by("first")
    second = start("second")
    await asyncio.to_thread(second.wait_until_ready)
    await cluster.apply()
    await cluster.exists(JOBS, "demo-prepare-1")
    assert "CreateJob" not in second.log()
    assert second.probe("/livez") == 200

    first.kill()
    await cluster.end_pods("demo-prepare-1")
    await led_by("second")
    await cluster.exists(JOBS, "demo-train-1")

    third = start("third")
    await asyncio.to_thread(third.wait_until_ready)
    assert second.terminate() == 0
    await led_by("third")  # at once: the Lease was released
    await cluster.end_pods("demo-train-1", 2)
    await cluster.exists(JOBS, "demo-merge-1")


async def test_an_operator_that_loses_its_lease_stands_by_until_it_can_have_it_again(lone_cluster: Cluster) -> None:
    cluster = lone_cluster
    operator = cluster.start_operator(**HA, QWENSFT_LEASE_NAMESPACE=cluster.namespace)
    await asyncio.to_thread(operator.wait_until_ready)
    await cluster.exists(LEASES, "qwen-sft-operator")
    usurper = {"spec": {"holderIdentity": "another", "leaseDurationSeconds": 60}}
    await cluster.kube.merge(LEASES, cluster.namespace, "qwen-sft-operator", usurper)

    async def stands_by() -> bool:
        return "no longer leading" in operator.log()

    await cluster.until(stands_by, "the operator has noticed")
    await cluster.apply()
    await asyncio.sleep(5)
    lease = await cluster.exists(LEASES, "qwen-sft-operator")
    assert lease["spec"]["holderIdentity"] == "another"
    assert await cluster.jobs() == set()
    await cluster.kube.merge(LEASES, cluster.namespace, "qwen-sft-operator", {"spec": {"holderIdentity": ""}})
    await cluster.exists(JOBS, "demo-prepare-1")
    assert operator.probe("/livez") == 200
    assert operator.terminate() == 0


async def test_a_stand_by_ends_at_once_and_leaves_the_lease_alone(lone_cluster: Cluster) -> None:
    cluster = lone_cluster
    lease: Manifest = {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": "qwen-sft-operator"},
        "spec": {"holderIdentity": "another", "leaseDurationSeconds": 60},
    }
    await cluster.kube.create(LEASES, cluster.namespace, lease)
    operator = cluster.start_operator(**HA, QWENSFT_LEASE_NAMESPACE=cluster.namespace)
    await asyncio.to_thread(operator.wait_until_ready)
    started = time.monotonic()
    assert await asyncio.to_thread(operator.terminate) == 0
    assert time.monotonic() - started < 8  # a leader would be given 10 s for what is under way
    lease = await cluster.exists(LEASES, "qwen-sft-operator")
    assert lease["spec"]["holderIdentity"] == "another"
