"""The headless Service that gives every training pod a DNS name before it is ready."""

from __future__ import annotations

from typing import Any

from qwensft.api.v1alpha1 import LABEL_JOB, LABEL_JOB_UID, LABEL_STAGE, METRICS_PORT, QwenSFTJob, Stage
from qwensft_operator.render.names import metadata, service_name


def service(job: QwenSFTJob, *, by_uid: bool = True) -> dict[str, Any]:
    """Return the Service's manifest. It selects all attempts; their names are part of the host names.

    Args:
        job: the custom resource.
        by_uid: whether its pods carry the run's UID; those of an attempt that began before operators wrote it do not.
    """
    meta = metadata(job, service_name(job), stage=Stage.TRAIN)
    selector = {LABEL_JOB: job.metadata.name, LABEL_STAGE: Stage.TRAIN.value}
    if by_uid:
        selector[LABEL_JOB_UID] = job.metadata.uid
    else:
        del meta["labels"][LABEL_JOB_UID]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": meta,
        "spec": {
            "clusterIP": "None",
            # torchrun's peers must find the master while it is still importing.
            "publishNotReadyAddresses": True,
            "selector": selector,
            "ports": [
                {"name": "rendezvous", "port": job.spec.distribution.master_port},
                {"name": "metrics", "port": METRICS_PORT},
            ],
        },
    }
