"""What others do to a run's objects, with a real API server, Job controller and scheduler: no restart is counted."""

from qwensft_operator.runtime.kube import CLAIMS, JOBS, PODS, QWENSFTJOBS, Manifest, Resource

from .cluster import Cluster, condition

QUOTAS = Resource("", "v1", "resourcequotas")


async def hold(cluster: Cluster, job: str, *, held: bool) -> None:
    """Suspend or resume a Job, as a queue does."""
    await cluster.kube.merge(JOBS, cluster.namespace, job, {"spec": {"suspend": held}})


async def said(cluster: Cluster, reason: str) -> str:
    """Wait for a reason of Succeeded; return its message."""
    return str(condition(await cluster.reaches(reason=reason), "Succeeded")["message"])


async def test_a_job_that_a_queue_holds_is_told_and_goes_on_as_the_same_attempt(cluster: Cluster) -> None:
    await cluster.apply()
    await cluster.pods("demo-prepare-1")
    await hold(cluster, "demo-prepare-1", held=True)
    assert "Job demo-prepare-1 is held" in await said(cluster, "Queued")
    assert condition(await cluster.reaches(phase="Suspended"), "Suspended")["status"] == "True"
    await hold(cluster, "demo-prepare-1", held=False)
    await cluster.end_pods("demo-prepare-1")

    await cluster.run_pods("demo-train-1", 2)
    await cluster.reaches(phase="Training", reason="Running")
    before = {pod["metadata"]["uid"] for pod in await cluster.pods("demo-train-1", 2)}
    await hold(cluster, "demo-train-1", held=True)
    await said(cluster, "Queued")
    await cluster.no_pods("demo-train-1")
    await hold(cluster, "demo-train-1", held=False)
    await cluster.run_pods("demo-train-1", 2)
    status = await cluster.reaches(phase="Training", reason="Running")
    assert before.isdisjoint(pod["metadata"]["uid"] for pod in await cluster.pods("demo-train-1", 2))
    assert status.get("restarts") is None
    assert status["stages"]["train"]["attempt"] == 1
    assert await cluster.jobs() == {"demo-prepare-1", "demo-train-1"}


async def test_an_edit_reaches_pods_that_no_node_takes(cluster: Cluster) -> None:
    await cluster.apply()
    assert "cannot be scheduled" in await said(cluster, "Unschedulable")
    await cluster.edit({"spec": {"worker": {"nodeSelector": {"qwensft.io/no-such-node": "another"}}}})
    job = await cluster.exists(JOBS, "demo-prepare-2")
    assert job["spec"]["template"]["spec"]["nodeSelector"] == {"qwensft.io/no-such-node": "another"}
    await cluster.gone(JOBS, "demo-prepare-1")
    assert (await cluster.status())["stages"]["prepare"].get("restarts") is None


async def test_an_edit_reaches_pods_that_a_quota_refuses(cluster: Cluster) -> None:
    spec: Manifest = {"spec": {"hard": {"limits.cpu": "4"}}}
    await cluster.kube.create(QUOTAS, cluster.namespace, {"metadata": {"name": "team"}, **spec})

    async def counted() -> bool:
        return "hard" in ((await cluster.exists(QUOTAS, "team")).get("status") or {})

    await cluster.until(counted, "the quota is in force")
    await cluster.apply()
    assert "must specify limits.cpu" in await said(cluster, "PodCreationFailed")
    await cluster.edit({"spec": {"prepare": {"resources": {"limits": {"cpu": "1"}}}}})
    (pod,) = await cluster.pods("demo-prepare-2")
    assert pod["spec"]["containers"][0]["resources"]["limits"]["cpu"] == "1"


async def test_a_pod_that_a_kubelet_rejects_uses_up_no_restart(cluster: Cluster) -> None:
    await cluster.apply(prepare={"retries": 0})
    (pod,) = await cluster.pods("demo-prepare-1")
    words = "Pod was rejected: Node didn't have enough resource: cpu, requested: 500, used: 2000, capacity: 2000"
    status = {"phase": "Failed", "reason": "OutOfcpu", "message": words}
    await cluster.kube.merge(PODS, cluster.namespace, pod["metadata"]["name"], {"status": status}, subresource="status")
    assert words in await said(cluster, "PodRejected")
    await cluster.pods("demo-prepare-2")
    assert (await cluster.status())["stages"]["prepare"].get("restarts") is None


async def test_a_claim_that_was_kept_and_does_not_fit_is_told(cluster: Cluster) -> None:
    await cluster.apply()
    await cluster.exists(JOBS, "demo-prepare-1")
    await cluster.delete(QWENSFTJOBS, "demo")
    await cluster.gone(JOBS, "demo-prepare-1")
    await cluster.apply(storage={"volume": {"claimTemplate": {"size": "1Gi"}}})
    await cluster.exists(JOBS, "demo-prepare-1")
    await cluster.told(("Warning", "ClaimDiffers"))
    assert (await cluster.exists(CLAIMS, "demo-workspace"))["spec"]["resources"]["requests"]["storage"] == "1Mi"
