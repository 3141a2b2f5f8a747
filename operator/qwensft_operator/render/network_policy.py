"""The NetworkPolicies of a run: its pods talk to each other, to DNS and to what the installation names, and no others.

Two of them, as only prepare asks hubs. They select by the run's UID; pods on their nodes' network are out of reach of
any policy. ADR 0127 says why.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Self

from qwensft.api.v1alpha1 import LABEL_JOB_UID, LABEL_STAGE, METRICS_PORT, QwenSFTJob, Stage
from qwensft_operator.render.names import metadata

_DNS = [{"protocol": protocol, "port": 53} for protocol in ("UDP", "TCP")]


@dataclass(frozen=True, slots=True)
class NetworkRules:
    """What an installation adds, as it stands in a NetworkPolicy.

    `metrics_from` are the peers that may read figures, `egress` rules for the pods of all stages, `prepare_egress` for
    those that download.
    """

    metrics_from: tuple[dict[str, Any], ...] = ()
    egress: tuple[dict[str, Any], ...] = ()
    prepare_egress: tuple[dict[str, Any], ...] = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read {"metricsFrom": [...], "egress": [...], "prepareEgress": [...]}. Raises ValueError for anything else."""
        given = json.loads(text)
        names = {"metricsFrom": "metrics_from", "egress": "egress", "prepareEgress": "prepare_egress"}
        if not isinstance(given, dict) or not given.keys() <= names.keys():
            raise ValueError(f"it is an object with {', '.join(names)}")
        for name, entries in given.items():
            if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
                raise ValueError(f"{name} is a list of objects")
        return cls(**{names[name]: tuple(entries) for name, entries in given.items()})


def network_policies(job: QwenSFTJob, rules: NetworkRules) -> tuple[dict[str, Any], ...]:
    """Return the manifests: one for all pods of the run, one more for those that prepare it.

    Both names have an ending, or `x-prepare` would be wanted by the runs `x` and `x-prepare`.
    """
    own = {"matchLabels": {LABEL_JOB_UID: job.metadata.uid}}
    # NCCL and Gloo choose their ports.
    ingress: list[dict[str, Any]] = [{"from": [{"podSelector": own}]}]
    if rules.metrics_from:
        ports = [{"protocol": "TCP", "port": METRICS_PORT}]
        ingress.append({"from": list(rules.metrics_from), "ports": ports})
    of_all = {
        "podSelector": own,
        "policyTypes": ["Ingress", "Egress"],
        "ingress": ingress,
        "egress": [{"to": [{"podSelector": own}]}, {"ports": _DNS}, *rules.egress],
    }
    of_prepare = {
        "podSelector": {"matchLabels": {**own["matchLabels"], LABEL_STAGE: Stage.PREPARE.value}},
        "policyTypes": ["Egress"],
        "egress": list(rules.prepare_egress),
    }
    name = job.metadata.name
    return tuple(
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": metadata(job, of, stage=stage),
            "spec": spec,
        }
        for of, stage, spec in ((f"{name}-run", None, of_all), (f"{name}-prepare", Stage.PREPARE, of_prepare))
    )
