"""Successors of a release with one mistake each: `test_promises` finds every one of them, or it proves nothing.

ADR 0111 says why.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from qwensft.api import crd
from qwensft.api.v1alpha1 import LABEL_MANAGED_BY, MANAGED_BY, editable
from qwensft_operator.plan import views
from qwensft_operator.render import names
from qwensft_operator.runtime import kinds
from qwensft_operator.runtime.kube import JOBS

from . import test_promises
from .records import RELEASES, Release

Patch = pytest.MonkeyPatch
Schema = dict[str, Any]
OTHER = "qwensft.io/run"
NEWEST = RELEASES[-1]


def definition(release: Release) -> None:
    """Compare the schemas."""
    test_promises.test_no_field_or_value_of_the_definition_is_lost_or_refused(release)


def children(release: Release) -> None:
    """Look at what a release has made."""
    test_promises.test_children_are_watched_and_are_those_of_the_run(release, "training")


def jobs(release: Release) -> None:
    """Look at its Jobs."""
    test_promises.test_jobs_are_known_by_stage_and_attempt_and_as_made_from_the_spec_as_it_is(release, "training")


def next_attempt(release: Release) -> None:
    """Make the next attempt of a run."""
    test_promises.test_the_service_of_a_run_knows_the_pods_of_its_next_attempt(release, "training")


# The mistakes.


def _changed(change: Callable[[Schema, Schema], None]) -> Callable[[Patch], None]:
    """A definition that differs from today's; `change` gets the schemas of spec and status."""

    def mistake(patch: Patch) -> None:
        document = copy.deepcopy(crd.custom_resource_definition())
        parts = document["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]
        change(parts["spec"], parts["status"])
        patch.setattr(crd, "custom_resource_definition", lambda: document)

    mistake.__name__ = change.__name__
    return mistake


@_changed
def a_field_of_the_spec_is_gone(spec: Schema, _: Schema) -> None:
    del spec["properties"]["worker"]["properties"]["runtimeClassName"]


@_changed
def a_field_of_the_status_has_another_name(_: Schema, status: Schema) -> None:
    stage = status["properties"]["stages"]["properties"]["train"]["properties"]
    stage["number"] = stage.pop("attempt")


@_changed
def a_field_of_the_status_has_another_type(_: Schema, status: Schema) -> None:
    status["properties"]["restarts"]["type"] = "string"


@_changed
def a_value_is_gone(spec: Schema, _: Schema) -> None:
    spec["properties"]["tuning"]["properties"]["method"]["enum"].remove("freeze")


@_changed
def a_bound_is_narrower(spec: Schema, _: Schema) -> None:
    spec["properties"]["datasets"]["maxItems"] -= 1


@_changed
def a_bound_is_new(spec: Schema, _: Schema) -> None:
    spec["properties"]["model"]["minProperties"] = 2


@_changed
def a_field_must_be_set(spec: Schema, _: Schema) -> None:
    spec["properties"]["model"].setdefault("required", []).append("template")


@_changed
def a_pattern_is_another_one(spec: Schema, _: Schema) -> None:
    spec["properties"]["storage"]["properties"]["path"]["pattern"] = "^[a-z]+$"


def a_version_is_no_longer_served(patch: Patch) -> None:
    document = copy.deepcopy(crd.custom_resource_definition())
    document["spec"]["versions"][0]["served"] = False
    patch.setattr(crd, "custom_resource_definition", lambda: document)


def watches_ask_for_another_label(patch: Patch) -> None:
    other = kinds.Kind(JOBS, f"{LABEL_MANAGED_BY}={MANAGED_BY},{OTHER}")
    patch.setattr(test_promises, "CHILDREN", (other, *kinds.CHILDREN[1:]))


def children_are_found_by_another_label(patch: Patch) -> None:
    patch.setattr(kinds, "LABEL_JOB", OTHER)


def pods_carry_another_label(patch: Patch) -> None:
    patch.setattr(names, "LABEL_JOB", OTHER)


def stages_stand_in_another_label(patch: Patch) -> None:
    patch.setattr(views, "LABEL_STAGE", "qwensft.io/step")


def the_service_has_another_name(patch: Patch) -> None:
    patch.setattr("qwensft_operator.render.job.service_name", lambda job: f"{job.metadata.name}-gang")


def a_digest_counts_what_is_not_written(patch: Patch) -> None:
    patch.setattr(editable, "_picked", lambda block, names: {name: block.get(name) for name in names})


MUTANTS: list[tuple[Callable[[Patch], None], Callable[[Release], None]]] = [
    (a_field_of_the_spec_is_gone, definition),
    (a_field_of_the_status_has_another_name, definition),
    (a_field_of_the_status_has_another_type, definition),
    (a_value_is_gone, definition),
    (a_bound_is_narrower, definition),
    (a_bound_is_new, definition),
    (a_field_must_be_set, definition),
    (a_pattern_is_another_one, definition),
    (a_version_is_no_longer_served, definition),
    (watches_ask_for_another_label, children),
    (children_are_found_by_another_label, children),
    (stages_stand_in_another_label, jobs),
    (a_digest_counts_what_is_not_written, jobs),
    (pods_carry_another_label, next_attempt),
    (the_service_has_another_name, next_attempt),
]


@pytest.mark.parametrize(("mistake", "finder"), MUTANTS, ids=lambda function: function.__name__)
def test_a_product_with_a_mistake_is_found_out(
    mistake: Callable[[Patch], None], finder: Callable[[Release], None], monkeypatch: Patch
) -> None:
    mistake(monkeypatch)
    with pytest.raises(AssertionError):
        finder(NEWEST)
