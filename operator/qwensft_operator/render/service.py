"""The headless Service that gives every training pod a DNS name before it is ready."""

from __future__ import annotations

from typing import Any

from qwensft.api.v1alpha1 import LABEL_JOB, LABEL_STAGE, METRICS_PORT, QwenSFTJob, Stage
from qwensft_operator.render.names import metadata, service_name


def service(job: QwenSFTJob) -> dict[str, Any]:
    """Return the Service's manifest. It selects all attempts; their names are part of the host names."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(job, service_name(job), stage=Stage.TRAIN),
        "spec": {
            "clusterIP": "None",
            # torchrun's peers must find the master while it is still importing.
            "publishNotReadyAddresses": True,
            "selector": {LABEL_JOB: job.metadata.name, LABEL_STAGE: Stage.TRAIN.value},
            "ports": [
                {"name": "rendezvous", "port": job.spec.distribution.master_port},
                {"name": "metrics", "port": METRICS_PORT},
            ],
        },
    }
