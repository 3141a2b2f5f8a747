"""The memory estimate, on a cluster with a node that tells how much memory its GPUs have."""

from collections.abc import AsyncIterator

import pytest

from qwensft_operator.runtime.kube import JOBS, NODES, Manifest

from .cluster import Cluster

LABEL = "nvidia.com/gpu.memory"
SMALL = "1024"  # MiB: less than any other node may tell, so that it counts


@pytest.fixture
async def _node_with_a_small_gpu(lone_cluster: Cluster) -> AsyncIterator[None]:
    """Label a node as NVIDIA's GPU feature discovery would; afterwards it has the label that it had before, or none."""
    kube = lone_cluster.kube
    node, *_ = await kube.list(NODES, "", metadata_only=True)
    name, before = node["metadata"]["name"], (node["metadata"].get("labels") or {}).get(LABEL)
    try:
        await kube.merge(NODES, "", name, {"metadata": {"labels": {LABEL: SMALL}}})
        yield
    finally:
        await kube.merge(NODES, "", name, {"metadata": {"labels": {LABEL: before}}})


@pytest.mark.usefixtures("_node_with_a_small_gpu")
async def test_a_training_that_does_not_fit_the_labelled_gpus_is_warned_of_and_goes_on(lone_cluster: Cluster) -> None:
    cluster = lone_cluster
    cluster.start_operator()  # an operator of its own: the shared one may have read the nodes before
    # A worker without a node selector, as the labelled node must be one of those on which its pods may run.
    await cluster.apply(
        worker={"accelerator": {"count": 1}}, prepare={"nodeSelector": {"qwensft.io/no-such-node": "true"}}
    )

    async def estimated() -> Manifest | None:
        estimate: Manifest = (await cluster.status()).get("estimate") or {}
        return estimate if "fits" in estimate else None

    estimate = await cluster.until(estimated, "an estimate that knows the accelerators' memory")
    assert estimate["fits"] is False
    assert estimate["acceleratorMemoryGiB"] == 1
    assert estimate["gpuMemoryGiB"] > 1
    assert "it has 1.0 GiB" in estimate["message"]
    await cluster.told(("Warning", "EstimatedOutOfMemory"))
    await cluster.exists(JOBS, "demo-prepare-1")  # an estimate stops nobody
    await cluster.reaches(phase="Preparing")


async def test_a_training_on_accelerators_of_which_no_node_tells_the_memory_starts(cluster: Cluster) -> None:
    accelerator = {"count": 1, "resource": "example.com/accelerator"}
    unplaced = {"nodeSelector": {"qwensft.io/no-such-node": "true"}}
    await cluster.apply(worker={"accelerator": accelerator, **unplaced}, prepare=unplaced)
    await cluster.exists(JOBS, "demo-prepare-1")
    estimate = (await cluster.reaches(phase="Preparing"))["estimate"]
    assert "gpuMemoryGiB" in estimate
    assert "fits" not in estimate


async def test_an_empty_list_of_metadata_is_null_in_kubernetes(cluster: Cluster) -> None:
    nobody = "example.com/accelerator.memory"
    found = await cluster.kube._request(
        "GET",
        NODES.path(""),
        query={"labelSelector": nobody},
        accept="application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1",
    )
    assert found["items"] is None, "the fakes of the unit tests answer so"
    assert await cluster.kube.list(NODES, "", label_selector=nobody, metadata_only=True) == []
