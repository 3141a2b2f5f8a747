"""What docs/versions.md promises of all that a release could have stored or made, not only of what its record holds.

Without an API server: schemas are compared, and labels with those that today's operator looks for and writes.
"""

from __future__ import annotations

from typing import Any

import pytest

from qwensft.api import crd
from qwensft.api.v1alpha1 import Stage, editable_digest, parse_job
from qwensft_operator import plan, render
from qwensft_operator.runtime.kinds import CHILDREN

from .records import MOMENTS, NAMESPACE, RELEASES, Manifest, Release
from .schemas import taken_away

DEFAULTS = render.Defaults(trainer_image="qwensft/trainer:today")
pytestmark = pytest.mark.parametrize("release", RELEASES, ids=lambda release: release.name)


def versions(definition: Manifest) -> dict[str, dict[str, Any]]:
    return {version["name"]: version for version in definition["spec"]["versions"]}


def named(objects: list[Manifest], kind: str) -> list[Manifest]:
    return [one for one in objects if one["kind"] == kind]


def pairs(selector: str) -> dict[str, str]:
    """A selector of the API server's: values by keys; "" where any value will do."""
    return {key: value for key, _, value in (part.partition("=") for part in selector.split(","))}


def test_no_field_or_value_of_the_definition_is_lost_or_refused(release: Release) -> None:
    definition = crd.custom_resource_definition()
    before, after = versions(release.definition()), versions(definition)
    assert before.keys() <= after.keys()
    assert all(after[name]["served"] for name, version in before.items() if version["served"])
    for name, version in before.items():
        schemas = (of["schema"]["openAPIV3Schema"] for of in (version, after[name]))
        assert list(taken_away(*schemas)) == [], f"{release.name}, {name}"
        paths = [{field["jsonPath"] for field in of["selectableFields"]} for of in (version, after[name])]
        assert paths[0] <= paths[1], "clients select by them"


@pytest.mark.parametrize("moment", MOMENTS)
def test_children_are_watched_and_are_those_of_the_run(release: Release, moment: str) -> None:
    watched = {kind.resource.plural: kind for kind in CHILDREN}
    children = [one for one in release.objects(moment) if one["kind"] != "QwenSFTJob"]
    assert {"Job", "Pod", "ConfigMap", "PersistentVolumeClaim"} <= {one["kind"] for one in children}
    for one in children:
        kind, labels = watched[f"{one['kind'].lower()}s"], one["metadata"]["labels"]
        asked = pairs(kind.selector)
        assert asked.keys() <= labels.keys(), "the API server tells of it"
        assert all(value in ("", labels[key]) for key, value in asked.items())
        assert kind.is_watched(one)
        assert kind.run_of(one) == (NAMESPACE, moment)


@pytest.mark.parametrize("moment", MOMENTS)
def test_jobs_are_known_by_stage_and_attempt_and_as_made_from_the_spec_as_it_is(release: Release, moment: str) -> None:
    run = parse_job(release.run(moment))
    for job in named(release.objects(moment), "Job"):
        child = plan.child_job(job, run.metadata.uid)
        assert child is not None, job["metadata"]["name"]
        assert job["metadata"]["name"] == f"{moment}-{child.stage}-{child.attempt}"
        assert child.made_from == editable_digest(run.spec, child.stage), "an upgrade is no edit"


@pytest.mark.parametrize("moment", ["queued", "training", "merging", "succeeded"])
def test_the_service_of_a_run_knows_the_pods_of_its_next_attempt(release: Release, moment: str) -> None:
    """It is made once: an attempt that follows after the upgrade would find no name, and wait for one another."""
    run = parse_job(release.run(moment))
    next_job = render.stage_job(run, Stage.TRAIN, 7, defaults=DEFAULTS)
    labels = next_job["spec"]["template"]["metadata"]["labels"]
    (service,) = named(release.objects(moment), "Service")
    assert service["spec"]["selector"].items() <= labels.items()
    assert next_job["spec"]["template"]["spec"]["subdomain"] == service["metadata"]["name"]
