"""Waits that take a real API server and a real Job controller: who is named, and how soon the run goes on."""

import contextlib
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime

from qwensft_operator.runtime.kube import JOBS, PODS, Manifest, Resource

from .cluster import Cluster, condition

WEBHOOKS = Resource("admissionregistration.k8s.io", "v1", "validatingwebhookconfigurations")
POLICIES = Resource("admissionregistration.k8s.io", "v1", "validatingadmissionpolicies")
BINDINGS = Resource("admissionregistration.k8s.io", "v1", "validatingadmissionpolicybindings")


@contextlib.asynccontextmanager
async def installed(cluster: Cluster, resource: Resource, name: str, spec: Manifest) -> AsyncIterator[None]:
    """Have an object without a namespace for a while."""
    stored = await cluster.kube.create(resource, "", {"metadata": {"name": name}, **spec})
    try:
        yield
    finally:
        await cluster.kube.delete(resource, "", name, uid=stored["metadata"]["uid"], propagation="Foreground")


def here(cluster: Cluster) -> Manifest:
    return {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": cluster.namespace}}}


async def test_a_webhook_that_is_down_is_named_and_the_run_goes_on_soon_after_it_is_gone(cluster: Cluster) -> None:
    webhook = {
        "name": "jobs.audit.example",
        "clientConfig": {"service": {"namespace": cluster.namespace, "name": "audit", "path": "/"}},
        "rules": [{"apiGroups": ["batch"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["jobs"]}],
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
        "timeoutSeconds": 5,
        **here(cluster),
    }
    async with installed(cluster, WEBHOOKS, f"down-{cluster.namespace}", {"webhooks": [webhook]}):
        await cluster.apply()
        status = await cluster.reaches(reason="WebhookUnavailable")
        assert "jobs.audit.example" in condition(status, "Succeeded")["message"]
        await cluster.told(("Warning", "WebhookUnavailable"))
    started = time.monotonic()
    await cluster.exists(JOBS, "demo-prepare-1")
    assert time.monotonic() - started < 60


async def test_a_job_whose_pods_cannot_be_counted_is_told_and_goes_on_when_they_can(cluster: Cluster) -> None:
    rules = [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["UPDATE"], "resources": ["pods"]}]
    policy = {
        "spec": {
            "matchConstraints": {"resourceRules": rules, **here(cluster)},
            "validations": [{"expression": "false", "message": "pods are immutable here"}],
        }
    }
    name = f"immutable-{cluster.namespace}"
    binding = {"spec": {"policyName": name, "validationActions": ["Deny"]}}
    await cluster.apply()
    await cluster.pods("demo-prepare-1")
    async with installed(cluster, POLICIES, name, policy), installed(cluster, BINDINGS, name, binding):
        (pod,) = await cluster.pods("demo-prepare-1")

        async def refused() -> bool:
            with contextlib.suppress(Exception):
                await cluster.kube.merge(
                    PODS, cluster.namespace, pod["metadata"]["name"], {"metadata": {"labels": {"a": str(time.time())}}}
                )
                return False
            return True

        await cluster.until(refused, "the policy acts")
        await cluster.end_pods("demo-prepare-1")
        status = await cluster.reaches(reason="JobStuck")
        told = condition(status, "Succeeded")["message"]
        assert "batch.kubernetes.io/job-tracking" in told
        assert "admission policy" in told
    await cluster.exists(JOBS, "demo-train-1")


async def test_a_sidecar_that_outlives_the_trainer_is_named_and_left_behind(cluster: Cluster) -> None:
    await cluster.apply()
    (pod,) = await cluster.pods("demo-prepare-1")
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    ended = {
        "exitCode": 0,
        "reason": "Completed",
        "startedAt": now,
        "finishedAt": now,
        "message": '{"outcome": "Succeeded"}',
    }
    common = {"image": "", "imageID": "", "restartCount": 0}
    status = {
        "phase": "Running",
        "conditions": [{"type": "Ready", "status": "False", "reason": "ContainersNotReady"}],
        "containerStatuses": [
            {"name": "trainer", "ready": False, "started": False, "state": {"terminated": ended}, **common},
            {"name": "istio-proxy", "ready": True, "started": True, "state": {"running": {"startedAt": now}}, **common},
        ],
    }
    await cluster.kube.merge(PODS, cluster.namespace, pod["metadata"]["name"], {"status": status}, subresource="status")
    told = condition(await cluster.reaches(reason="SidecarRunning"), "Succeeded")["message"]
    assert "istio-proxy" in told
    assert "sidecar.istio.io/inject" in told
    await cluster.exists(JOBS, "demo-train-1")
    await cluster.gone(JOBS, "demo-prepare-1")
    assert (await cluster.status())["stages"]["prepare"]["completionTime"]
