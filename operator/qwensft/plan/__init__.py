"""The pure core: what was observed goes in, what is to be done and the next status come out.

No I/O, no clock, no kopf and no Kubernetes client in here. Start reading at `decide`, then `policies`.
"""

from qwensft.plan.decide import decide
from qwensft.plan.observed import child_job, pod_view, pods_wanted, scrape_wanted
from qwensft.plan.types import Observed, Plan

__all__ = ["Observed", "Plan", "child_job", "decide", "pod_view", "pods_wanted", "scrape_wanted"]
