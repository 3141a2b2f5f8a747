"""Exit code 0 alone proves nothing: what has succeeded says so in its report.

A container that handles SIGTERM by ending with 0 counts as done for Kubernetes, also when it was evicted, and so does
an image that does not run the trainer. ADR 0115 says why.
"""

from __future__ import annotations

from dataclasses import replace

from qwensft.api.v1alpha1 import Reason
from qwensft_operator.plan.causes import pod_title
from qwensft_operator.plan.run import Run
from qwensft_operator.plan.types import JobState, PodView

_OTHER_ENDS = frozenset({"Failed", Reason.INTERRUPTED})  # outcomes of a report; another may be a newer image's success


def without_proof(run: Run) -> Run:
    """Return the run with its current attempt failed, where it is complete and all that is left of it denies that.

    Pods that are gone deny nothing: the volume keeps what they did, and later stages look.
    """
    child, pods = run.current_child, run.observed.pods
    if child is None or child.state is not JobState.COMPLETE or not pods or not all(map(_unproven, pods)):
        return run
    first = pods[0]
    said = f"its report says {first.report.outcome}" if first.report else "it has left no report"
    message = (
        f"{pod_title(child, first)} has ended with exit code 0, but {said}. It was told to stop by somebody, or its "
        "image does not run qwensft-trainer (spec.worker.image), or something else ends the container in its place"
    )
    failed = replace(child, state=JobState.FAILED, message=message)
    children = tuple(failed if c == child else c for c in run.observed.children)
    return Run(replace(run.observed, children=children), status=run.status)


def _unproven(pod: PodView) -> bool:
    return pod.exit_code == 0 and (pod.report is None or pod.report.outcome in _OTHER_ENDS)
