"""Edits of stored jobs: what the API server lets be edited, the client calls editable, and it reaches the pods.

A field that may be edited changes the digest by which waiting Jobs are made anew (ADR 0101), or says nothing to a pod.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwensft.api.v1alpha1 import Phase, QwenSFTJob, Stage, editable_digest, parse_job
from qwensft.api.v1alpha1.immutability_rules import FIXED, MUTABLE
from qwensft_operator import render

from .jobs import SEEDS, SPEC, Document, graft, mended
from .making import pod_of
from .server import Refusal, Server
from .settings import EXAMPLES, Deadline

_DEFAULTS = render.Defaults(trainer_image="registry.example.com/qwensft/trainer:1")


@pytest.fixture(scope="module")
def stored(server: Server) -> dict[Phase, Document]:
    """A stored job in each phase."""
    return {phase: _stored(server, phase) for phase in Phase}


def _stored(server: Server, phase: Phase) -> Document:
    meta = {"name": f"edited-{phase.lower()}"}
    server.stored({"apiVersion": "qwensft.io/v1alpha1", "kind": "QwenSFTJob", "metadata": meta, "spec": SEEDS[0]})
    server.put_status(meta["name"], {"phase": phase})
    return server.read(meta["name"])


@st.composite
def edits(draw: st.DrawFn) -> Document:
    """The spec with some of its fields changed."""
    spec: Document = copy.deepcopy(SEEDS[0])
    for _ in range(draw(st.integers(1, 2))):
        block = draw(
            st.sampled_from(["worker", "worker", "worker", "merge", "prepare", "runPolicy", *SPEC["properties"]])
        )
        graft(draw, spec, SPEC, block)
    document = {"apiVersion": "qwensft.io/v1alpha1", "kind": "QwenSFTJob", "metadata": {"name": "edited"}, "spec": spec}
    edited: Document = mended(document)["spec"]
    return edited


@EXAMPLES
@given(phase=st.sampled_from(Phase), spec=edits())
def test_what_may_be_edited_is_what_the_client_says(
    server: Server, stored: dict[Phase, Document], deadline: Deadline, phase: Phase, spec: Document
) -> None:
    if deadline.is_over():
        return
    old = stored[phase]
    answer = server.edited(old, spec)
    if isinstance(answer, Refusal):
        fixed = {field for field, words in answer.causes.items() if "is fixed at creation" in words}
        assert fixed <= {f"spec.{path}" for path in FIXED}
        return
    changed = set(_changed(old["spec"], answer["spec"]))
    assert not changed & set(FIXED), "the API server let through what is fixed"
    assert changed <= set(MUTABLE)
    assert_reaches_pods(parse_job(old), parse_job(answer))


def assert_reaches_pods(before: QwenSFTJob, after: QwenSFTJob) -> None:
    """Where a stage's pod is another one after the edit, the digest of the stage's Job is another one, too."""
    for stage in Stage:
        old, new = (render.stage_job(job, stage, 1, defaults=_DEFAULTS) for job in (before, after))
        if pod_of(old) != pod_of(new):
            assert editable_digest(before.spec, stage) != editable_digest(after.spec, stage), stage


def _changed(before: Document, after: Document) -> Iterator[str]:
    """Paths of the two lists that differ: blocks, and fields of the worker."""
    for block in before.keys() | after.keys():
        old, new = before.get(block), after.get(block)
        if old == new:
            continue
        if block != "worker":
            yield block
            continue
        worker: tuple[Any, Any] = (old or {}, new or {})
        yield from (
            f"worker.{name}"
            for name in worker[0].keys() | worker[1].keys()
            if worker[0].get(name) != worker[1].get(name)
        )
