"""Runs a script of this repository in a pod: as a Job in the trainer image, unprivileged, with volumes read-only.

Used to ask a model questions and to compare weights where the volumes are, without copying models around.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from quickstart.shell import Kubectl
from quickstart.steps import QuickstartError

USER = 65532
# Bounds what hangs: several pods may import torch at once, on few cores and from a cold disk.
JOB_TIMEOUT = 900.0
# What the Pod Security Standard `restricted` asks of a container.
RESTRICTED: dict[str, Any] = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}


def job_manifest(
    name: str,
    namespace: str,
    container: Mapping[str, Any],
    claims: Mapping[str, str],
    *,
    config_map: str | None = None,
    writable: bool = False,
) -> dict[str, Any]:
    """Return a Job of one pod. `claims` maps mount paths to claims; the ConfigMap is mounted at /scripts."""
    volumes: list[dict[str, Any]] = [{"name": "tmp", "emptyDir": {}}]
    mounts: list[dict[str, Any]] = [{"name": "tmp", "mountPath": "/tmp"}]  # noqa: S108 - in the pod
    for number, (path, claim) in enumerate(claims.items()):
        volumes.append({"name": f"claim-{number}", "persistentVolumeClaim": {"claimName": claim}})
        mounts.append({"name": f"claim-{number}", "mountPath": path, "readOnly": not writable})
    if config_map:
        volumes.append({"name": "scripts", "configMap": {"name": config_map}})
        mounts.append({"name": "scripts", "mountPath": "/scripts", "readOnly": True})
    pod = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "securityContext": {"runAsUser": USER, "runAsGroup": USER, "fsGroup": USER},
        "containers": [{"name": "main", "securityContext": RESTRICTED, "volumeMounts": mounts, **container}],
        "volumes": volumes,
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"backoffLimit": 0, "template": {"spec": pod}},
    }


def run_job(kubectl: Kubectl, manifest: Mapping[str, Any], timeout: float = JOB_TIMEOUT) -> str:
    """Run a Job to its end and return what it printed. An older Job of the name is deleted first.

    Raises QuickstartError with the end of the log when the Job fails or takes longer than `timeout` seconds.
    """
    name, namespace = manifest["metadata"]["name"], manifest["metadata"]["namespace"]
    kubectl.delete("job", name, "-n", namespace)
    kubectl.apply(manifest)
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        status = kubectl.get("job", name, "-n", namespace).get("status", {})
        if status.get("succeeded"):
            return kubectl("logs", f"job/{name}", "-n", namespace)
        if status.get("failed"):
            log = kubectl("logs", f"job/{name}", "-n", namespace, "--tail", "30")
            raise QuickstartError(f"the Job {namespace}/{name} failed; the end of its log:\n{log}")
        time.sleep(0.5)
    raise QuickstartError(
        f"the Job {namespace}/{name} has not finished after {timeout:.0f} s; see: "
        f"kubectl describe pod -n {namespace} -l batch.kubernetes.io/job-name={name}"
    )


def printed_json(log: str) -> dict[str, Any]:
    """Return the last JSON object that a line of a pod's log begins with.

    A log holds both streams: what a library writes to stderr may follow what a script prints as its result.

    Raises ValueError when there is none.
    """
    for line in reversed(log.splitlines()):
        if line.startswith("{"):
            return dict(json.loads(line))
    raise ValueError(f"no line of this log begins a JSON object: {log!r}")


def run_script(
    kubectl: Kubectl,
    namespace: str,
    script: Path,
    arguments: list[str],
    *,
    image: str,
    claims: Mapping[str, str],
    files: Mapping[str, str] | None = None,
    writable: bool = False,
    timeout: float = JOB_TIMEOUT,
) -> str:
    """Run a Python script in the trainer image and return what it printed; see `run_job` for failures.

    The script finds `files` (name → text) beside itself, in /scripts.
    """
    name = f"script-{script.stem.replace('_', '-')}"
    kubectl.apply(
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": name, "namespace": namespace},
            "data": {script.name: script.read_text(), **(files or {})},
        }
    )
    container = {
        "image": image,
        "command": ["python3", f"/scripts/{script.name}", *arguments],
        "env": [{"name": key, "value": "/tmp"} for key in ("HOME", "HF_HOME", "TMPDIR")],  # noqa: S108 - in the pod
    }
    manifest = job_manifest(name, namespace, container, claims, config_map=name, writable=writable)
    return run_job(kubectl, manifest, timeout)
