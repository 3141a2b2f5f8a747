"""The pure core: what was observed goes in, what is to be done and the next status come out.

No I/O, no clock, no kopf and no Kubernetes client in here. Start reading at `decide`, then `policies`.
"""

from qwensft_operator.plan.decide import decide
from qwensft_operator.plan.deletion import Dependent, deletion, dependent
from qwensft_operator.plan.happenings import Happenings, happenings
from qwensft_operator.plan.needs import (
    Needs,
    claim_needs_events,
    is_active,
    is_over,
    job_needs_events,
    needs_events,
    needs_of,
)
from qwensft_operator.plan.raw_status import api_server_error, invalid_spec, operator_error, waiting_for_deletion
from qwensft_operator.plan.source_run import awaited_by, source_run_view
from qwensft_operator.plan.standing import PHASES, Standing, accelerators_held, last_move, standing, waits
from qwensft_operator.plan.types import Observed, Plan
from qwensft_operator.plan.views import (
    child_job,
    claim_view,
    config_map_keys,
    creation_failures,
    made_from,
    pod_view,
)

__all__ = [
    "PHASES",
    "Dependent",
    "Happenings",
    "Needs",
    "Observed",
    "Plan",
    "Standing",
    "accelerators_held",
    "api_server_error",
    "awaited_by",
    "child_job",
    "claim_needs_events",
    "claim_view",
    "config_map_keys",
    "creation_failures",
    "decide",
    "deletion",
    "dependent",
    "happenings",
    "invalid_spec",
    "is_active",
    "is_over",
    "job_needs_events",
    "last_move",
    "made_from",
    "needs_events",
    "needs_of",
    "operator_error",
    "pod_view",
    "source_run_view",
    "standing",
    "waiting_for_deletion",
    "waits",
]
