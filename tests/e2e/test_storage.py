"""A claim that cannot serve a run is told at once, with what to change; nothing hangs, nothing is started."""

from __future__ import annotations

from typing import Any

from quickstart import follow

from .runs import Runs


def claim(name: str, namespace: str, mode: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"accessModes": [mode], "resources": {"requests": {"storage": "1Gi"}}},
    }


def lost(name: str, namespace: str) -> dict[str, Any]:
    """A claim that was bound to a volume which is gone. Kubernetes finds the same when an administrator deletes one."""
    found = claim(name, namespace, "ReadWriteMany")
    found["metadata"]["annotations"] = {"pv.kubernetes.io/bind-completed": "yes"}
    found["spec"] |= {"volumeName": f"{name}-is-gone", "storageClassName": ""}
    return found


def storage(name: str) -> dict[str, Any]:
    return {"storage": {"volume": {"claimName": name, "claimTemplate": None}}}


def told(runs: Runs, job: str) -> str:
    """The message of a run that waits for a claim that can serve."""
    found = runs.until(
        job,
        lambda seen: follow.condition(seen, "Succeeded").get("reason") == "StorageUnavailable",
        "StorageUnavailable",
    )
    assert runs.children("jobs", job) == []
    return str(follow.condition(found, "Succeeded")["message"])


def test_a_claim_for_one_pod_cannot_serve_two(runs: Runs) -> None:
    runs.kubectl.apply(claim("one-writer", runs.namespace, "ReadWriteOncePod"))
    runs.create("one-writer", storage("one-writer"))
    message = told(runs, "one-writer")
    assert "claim one-writer" in message
    assert "ReadWriteMany" in message
    runs.kubectl.delete(follow.RESOURCE, "one-writer", "-n", runs.namespace)


def test_a_claim_that_lost_its_volume_is_named(runs: Runs) -> None:
    runs.kubectl.apply(lost("lost", runs.namespace))
    runs.kubectl("wait", "pvc/lost", "-n", runs.namespace, "--for=jsonpath={.status.phase}=Lost", "--timeout=60s")
    runs.create("no-volume", storage("lost"))
    assert "has lost its volume; restore that, or use another claim" in told(runs, "no-volume")
    runs.kubectl.delete(follow.RESOURCE, "no-volume", "-n", runs.namespace)


def test_a_missing_claim_is_waited_for_and_then_used(runs: Runs) -> None:
    runs.create("no-claim", {**storage("to-come"), "distribution": {"nodes": 1}})
    assert "to-come" in told(runs, "no-claim")
    runs.kubectl.apply(claim("to-come", runs.namespace, "ReadWriteOnce"))
    runs.until("no-claim", lambda job: job["status"].get("phase") == "Preparing", "prepare to start")
    runs.kubectl.delete(follow.RESOURCE, "no-claim", "-n", runs.namespace)
