"""Whatever stands in a status that the API server has taken, and whatever the spec is, no decision fails for it.

A status may be written by others than the operator, or by another version of it: everything that the schema accepts is
met, with Jobs and pods beside it as a cluster might have them.
"""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from tests.oracle.jobs import Document, jobs
from tests.oracle.making import made_of
from tests.oracle.schema import values

from qwensft.api import crd
from qwensft.api.v1alpha1 import InvalidJobError, QwenSFTJob, Stage, Status, parse_job
from qwensft_operator import plan
from qwensft_operator.plan import Observed, decide, needs_of
from qwensft_operator.plan.run import Run
from qwensft_operator.plan.types import ChildJob, ClaimView, JobState, PodView, Report, Scrape

NOW = datetime(2026, 1, 2, tzinfo=UTC)
STATUSES = values(crd.structural_schema()["properties"]["status"])
_TIMES = st.none() | st.sampled_from(
    [NOW, datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)]
)


@st.composite
def _children(draw: st.DrawFn, job: QwenSFTJob) -> tuple[ChildJob, ...]:
    """Jobs of the stage and attempt that the status tells of, and of one nearby."""
    found = []
    for stage in draw(st.lists(st.sampled_from(Stage), max_size=2, unique=True)):
        record = getattr(job.status.stages, stage)
        attempt = max(1, ((record and record.attempt) or 1) - draw(st.integers(0, 1)))
        state = draw(st.sampled_from(JobState))
        name = f"{job.metadata.name}-{stage}-{attempt}"
        times: dict[str, Any] = {"finished_at": draw(_TIMES), "started_at": draw(_TIMES)}
        counts: dict[str, Any] = {"active": draw(st.integers(0, 2)), "ready": draw(st.integers(0, 2))}
        marks: dict[str, Any] = {"deleting": draw(st.booleans()), "suspended": draw(st.booleans())}
        found.append(ChildJob(name, f"uid-{stage}", stage, attempt, state, NOW, **times, **counts, **marks))
    return tuple(found)


_PODS = st.lists(
    st.builds(
        PodView,
        st.just("p"),
        phase=st.sampled_from(["Pending", "Running", "Succeeded", "Failed"]),
        exit_code=st.sampled_from([None, 0, 1, 78, 137]),
        created_at=_TIMES,
        scheduled_at=_TIMES,
        started_at=_TIMES,
        finished_at=_TIMES,
        deleted_at=_TIMES,
        report=st.none() | st.builds(Report, st.sampled_from(["Succeeded", "Failed", "Interrupted"])),
    ),
    max_size=2,
).map(tuple)
_SCRAPES = st.none() | st.builds(
    Scrape, step=st.none() | st.integers(0, 2**53), total_steps=st.none() | st.integers(0, 2**53)
)


def _read(document: Document) -> QwenSFTJob | None:
    meta = document["metadata"] | {"uid": "0" * 36, "namespace": "team", "generation": 2, "resourceVersion": "1"}
    try:
        return parse_job(document | {"metadata": meta})
    except InvalidJobError:
        return None


@given(document=jobs(), status=STATUSES, data=st.data())
def test_no_status_stops_a_run(document: Document, status: dict[str, Any], data: st.DataObject) -> None:
    job = _read(document | {"status": status})
    if job is None:
        return
    children = data.draw(_children(job))
    run = Run(Observed(job=job, children=children))
    needs = needs_of(run)
    observed = Observed(
        job=job,
        children=children,
        pods=data.draw(_PODS) if needs.pods else (),
        service_exists=data.draw(st.booleans()),
        claim_exists=data.draw(st.booleans()),
        claims=tuple(ClaimView(name, "Bound", frozenset({"ReadWriteMany"})) for name in needs.claims),
        scrape=data.draw(_SCRAPES) if needs.figures else None,
    )
    decided = decide(observed, NOW)
    for _ in range(2):
        if decided.look is not None:
            observed = replace(observed, leftovers=(), named_config_maps={})
            decided = decide(observed, NOW)
    assert decided.look is None
    if decided.status is not None:
        assert Status.model_validate(decided.status).document() == decided.status
        json.dumps(decided.status, allow_nan=False).encode()
    if decided.requeue_after is not None:
        assert 0 <= decided.requeue_after < 2**40


@given(document=jobs(), status=STATUSES)
def test_no_status_stops_what_is_told_of_a_document_that_is_not_understood(
    document: Document, status: Document
) -> None:
    meta = {"name": "demo", "namespace": "team", "uid": "0", "generation": 2}
    raw = document | {"metadata": meta, "status": status}
    plan.invalid_spec(raw, "spec.x: no such field", NOW)
    plan.operator_error(raw, KeyError("x"), NOW)
    plan.api_server_error(raw, "no", NOW)
    plan.deletion(raw | {"metadata": meta | {"deletionTimestamp": "2026-01-01T00:00:00Z"}}, (), (), NOW)


@given(document=jobs())
def test_all_is_made_of_every_job_that_the_models_accept(document: Document) -> None:
    job = _read(document)
    for manifest in made_of(job) if job else ():
        json.dumps(manifest).encode()
