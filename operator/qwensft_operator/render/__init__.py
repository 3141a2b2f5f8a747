"""The manifests that a run is made of: pure functions from the custom resource to plain dicts.

One module per object; `llamafactory` holds the arguments of the training and export commands.
"""

from qwensft_operator.render.claim import claim
from qwensft_operator.render.config_map import EDITABLE, IMAGE, WORKER_DEFAULTS, config_map, oversize, read_run
from qwensft_operator.render.job import stage_job
from qwensft_operator.render.names import child_name
from qwensft_operator.render.network_policy import NetworkRules, network_policies
from qwensft_operator.render.pod import Defaults
from qwensft_operator.render.service import service

__all__ = [
    "EDITABLE",
    "IMAGE",
    "WORKER_DEFAULTS",
    "Defaults",
    "NetworkRules",
    "child_name",
    "claim",
    "config_map",
    "network_policies",
    "oversize",
    "read_run",
    "service",
    "stage_job",
]
