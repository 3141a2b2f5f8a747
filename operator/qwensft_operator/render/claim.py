"""The storage claim: an existing one is only named, a template becomes a PersistentVolumeClaim."""

from __future__ import annotations

from typing import Any

from qwensft.api.v1alpha1 import QwenSFTJob
from qwensft_operator.render.names import metadata

# Argo CD: neither prune the claim nor delete it together with its application (ADR 0067).
_KEEP = {"argocd.argoproj.io/sync-options": "Prune=false,Delete=false"}


def claim(job: QwenSFTJob) -> dict[str, Any]:
    """Return the manifest of a templated claim. Without an owner when the model is to outlive the QwenSFTJob.

    Raises:
        ValueError: when the job names an existing claim instead.
    """
    storage = job.spec.storage
    template = storage.volume.claim_template
    if template is None:
        raise ValueError("the job names an existing claim")
    spec: dict[str, Any] = {
        "accessModes": job.spec.access_modes,
        "resources": {"requests": {"storage": template.size}},
    }
    if template.storage_class_name is not None:
        spec["storageClassName"] = template.storage_class_name
    meta = metadata(job, job.workspace_claim, owned=not storage.retain)
    if storage.retain:
        meta["annotations"] = dict(_KEEP)
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": meta, "spec": spec}
