"""The storage claim: an existing one is only named, a template becomes a PersistentVolumeClaim."""

from __future__ import annotations

from typing import Any

from qwensft.api.v1alpha1 import QwenSFTJob
from qwensft.render.names import metadata


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
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": metadata(job, job.workspace_claim, owned=not storage.retain),
        "spec": spec,
    }
