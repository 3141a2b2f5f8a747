"""The pure core: what was observed goes in, what is to be done and the next status come out.

No I/O, no clock, no kopf and no Kubernetes client in here. Start reading at `decide`, then `policies`.
"""

from qwensft_operator.plan.config_maps import config_maps_wanted
from qwensft_operator.plan.decide import decide
from qwensft_operator.plan.estimate import nodes_wanted
from qwensft_operator.plan.observed import (
    child_job,
    claim_view,
    config_map_keys,
    creation_failures,
    events_wanted,
    pod_view,
    pods_wanted,
    scrape_wanted,
)
from qwensft_operator.plan.raw_status import invalid_spec, operator_error
from qwensft_operator.plan.types import Observed, Plan
from qwensft_operator.plan.volumes import claims_wanted

__all__ = [
    "Observed",
    "Plan",
    "child_job",
    "claim_view",
    "claims_wanted",
    "config_map_keys",
    "config_maps_wanted",
    "creation_failures",
    "decide",
    "events_wanted",
    "invalid_spec",
    "nodes_wanted",
    "operator_error",
    "pod_view",
    "pods_wanted",
    "scrape_wanted",
]
