"""Whatever a container leaves as its last words, the run moves on and its status stays readable."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from qwensft.api.v1alpha1 import Stage, Status
from qwensft_operator.plan import decide, pod_view
from qwensft_operator.plan.types import JobState

from .cluster import Cluster
from .simulated import SimulatedJob

NOW = datetime(2026, 1, 2, tzinfo=UTC)

_TEXT = st.text(st.characters() | st.sampled_from("\ud83d\0\n\x1b\u202e"), max_size=20)  # halves of characters, too
_NUMBERS = st.integers() | st.floats() | st.integers(-(10**30), 10**30)
_JSON = st.recursive(
    st.none() | st.booleans() | _NUMBERS | _TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_TEXT, inner, max_size=4),
    max_leaves=8,
)
_COUNTS = (
    "samples",
    "tokens",
    "evalSamples",
    "truncatedSamples",
    "duplicateSamples",
    "evalSamplesInTraining",
    "lengthP50",
    "lengthMax",
    "step",
    "totalSteps",
    "loss",
    "bestEvalLoss",
    "bestStep",
    "bytesDone",
    "bytesTotal",
    "epoch",
    "estimatedRemainingSeconds",
    "percentage",  # these are the operator's own, and no trainer's
    "steps",
    "eta",
    "lastUpdateTime",
)
_MEASURES = ("hiddenSize", "layers", "heads", "kvHeads", "headDim", "intermediateSize", "vocabSize", "tied", "experts")
_METRICS = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(_COUNTS, _NUMBERS | _JSON),
        "warnings": st.lists(_TEXT | _JSON, max_size=8) | _JSON,
        "template": _JSON,
        "model": st.fixed_dictionaries({}, optional=dict.fromkeys((*_MEASURES, "parameters"), _NUMBERS | _JSON))
        | _JSON,
    },
)
_OUTPUT = st.fixed_dictionaries({}, optional={"path": _TEXT | _JSON, "sizeBytes": _JSON, "digest": _JSON}) | _JSON
_REPORTS = st.fixed_dictionaries(
    {"outcome": st.sampled_from(["Succeeded", "Failed", "Interrupted"]) | _JSON},
    optional={
        "reason": st.sampled_from(["InvalidDataset", "PeerLost"]) | _JSON,
        "message": _TEXT | _JSON,
        "rank": _JSON,
        "metrics": _METRICS | _JSON,
        "outputs": st.fixed_dictionaries({}, optional=dict.fromkeys(("adapter", "model", "merged", "report"), _OUTPUT))
        | _JSON,
    },
)


@given(
    stage=st.sampled_from(Stage),
    state=st.sampled_from([JobState.COMPLETE, JobState.FAILED, JobState.FAILING]),
    report=_REPORTS,
    code=st.sampled_from([0, 1, 78]),
)
def test_no_report_stops_a_run(stage: Stage, state: JobState, report: dict[str, Any], code: int) -> None:
    cluster = Cluster(
        {
            "model": {"name": "Qwen/Qwen3-8B"},
            "datasets": [{"name": "r", "format": "alpaca", "source": {"configMap": {"name": "r", "key": "r.json"}}}],
            "storage": {"volume": {"claimTemplate": {"size": "100Gi"}}},
        },
        claim=True,
    )
    while not any(job.stage is stage for job in cluster.jobs.values()):
        cluster.reconcile()
        cluster.move_on()
    job: SimulatedJob = next(job for job in cluster.jobs.values() if job.stage is stage)
    job.state, job.ready = state, False
    ended = {"exitCode": code, "finishedAt": "2026-01-02T00:00:00Z", "message": json.dumps(report)}
    manifest = {
        "metadata": {"name": "p"},
        "spec": {"nodeName": "n"},
        "status": {
            "phase": "Failed" if code else "Succeeded",
            "containerStatuses": [{"name": "trainer", "state": {"terminated": ended}}],
        },
    }
    plan = decide(replace(cluster.observe(), pods=(pod_view(manifest),), leftovers=()), NOW)
    assert plan.status is not None
    assert Status.model_validate(plan.status).document() == plan.status
    json.dumps(plan.status, allow_nan=False).encode()
    assert all(event.message.encode() for event in plan.events)
    told = [event.message for event in plan.events] + [c["message"] for c in plan.status["conditions"]]
    assert not any(character in text for text in told for character in "\0\x1b\u202e"), "a terminal obeys these"
