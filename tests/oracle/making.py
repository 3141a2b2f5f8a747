"""All that an operator makes of a job, as manifests: every stage, a later attempt, and the pods of the Jobs."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

from qwensft.api.v1alpha1 import QwenSFTJob, Stage
from qwensft_operator import render

Manifest = dict[str, Any]

_DEFAULTS = render.Defaults(trainer_image="registry.example.com/qwensft/trainer:1")
_PEERS = ({"namespaceSelector": {"matchLabels": {"team": "monitoring"}}},)
_EGRESS = ({"to": [{"ipBlock": {"cidr": "0.0.0.0/0"}}], "ports": [{"port": 443}]},)
_NETWORK = render.NetworkRules(metrics_from=_PEERS, egress=_EGRESS, prepare_egress=_EGRESS)
COLLECTIONS = {
    "ConfigMap": "api/v1/namespaces/{}/configmaps",
    "Job": "apis/batch/v1/namespaces/{}/jobs",
    "NetworkPolicy": "apis/networking.k8s.io/v1/namespaces/{}/networkpolicies",
    "PersistentVolumeClaim": "api/v1/namespaces/{}/persistentvolumeclaims",
    "Pod": "api/v1/namespaces/{}/pods",
    "Service": "api/v1/namespaces/{}/services",
}


def made_of(job: QwenSFTJob, attempt: int = 1) -> Iterator[Manifest]:
    """Yield every manifest that a run of the job needs."""
    if job.spec.storage.volume.claim_template is not None:
        yield render.claim(job)
    yield from render.network_policies(job, _NETWORK)
    yield render.service(job)
    begun = None
    for stage in Stage:
        config_map = render.config_map(job, stage, attempt, image=_DEFAULTS.trainer_image, begun=begun)
        begun = begun or config_map["data"]
        yield config_map
        child = render.stage_job(job, stage, attempt, defaults=_DEFAULTS)
        yield child
        yield pod_of(child)


def pod_of(job: Manifest) -> Manifest:
    """Return the last pod of a Job, as its controller makes it.

    What has to be there by another object (a PriorityClass, a RuntimeClass) is left out: the Job has shown its form.
    """
    template, name = copy.deepcopy(job["spec"]["template"]), job["metadata"]["name"]
    meta, spec = template["metadata"], template["spec"]
    for absent in ("priorityClassName", "runtimeClassName"):
        spec.pop(absent, None)
    meta["labels"] |= {"batch.kubernetes.io/job-name": name, "job-name": name, "controller-uid": "0" * 36}
    if job["spec"]["completionMode"] == "Indexed":
        index = str(job["spec"]["completions"] - 1)
        meta.setdefault("annotations", {})["batch.kubernetes.io/job-completion-index"] = index
        spec["hostname"] = name = f"{name}-{index}"
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {**meta, "name": f"{name}-abcde", "namespace": job["metadata"]["namespace"]},
        "spec": spec,
    }
