"""Today's CustomResourceDefinition in the place of a release's: what that release stored is read and kept as it is."""

from __future__ import annotations

import pytest

from qwensft.api import crd
from qwensft.api.v1alpha1 import parse_job
from qwensft_operator.runtime.definition import lacking
from qwensft_trainer.contract.config import unread

from .conftest import PUBLISHED, RUNS, Upgraded
from .records import MOMENTS, Manifest, Release


def meaning(run: Manifest) -> Manifest:
    """What users and operator have said."""
    return {"spec": run["spec"], "status": run["status"]}


@pytest.mark.parametrize("moment", MOMENTS)
def test_nothing_that_was_stored_is_lost(release: Release, upgraded: Upgraded, moment: str) -> None:
    assert upgraded.before[moment]["spec"] == release.run(moment)["spec"], "restored as recorded"
    assert meaning(upgraded.server.get(f"{RUNS}/{moment}")) == meaning(upgraded.before[moment])


@pytest.mark.parametrize("moment", MOMENTS)
def test_what_was_stored_can_be_written_again(upgraded: Upgraded, moment: str) -> None:
    """By a client that takes unknown fields for errors: a Get and an Update, of the spec and of the status."""
    for part in ("", "/status"):
        stored = upgraded.server.get(f"{RUNS}/{moment}")
        question = f"{RUNS}/{moment}{part}?dryRun=All&fieldValidation=Strict"
        assert meaning(upgraded.server.send("PUT", question, stored)) == meaning(stored)


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_stored_spec_would_still_be_admitted(release: Release, upgraded: Upgraded, moment: str) -> None:
    """Rules may be added within an API version only if they refuse nothing that works: docs/versions.md."""
    run = release.run(moment)
    again = {part: run[part] for part in ("apiVersion", "kind", "spec")} | {"metadata": {"name": f"{moment}-again"}}
    assert upgraded.server.send("POST", f"{RUNS}?dryRun=All&fieldValidation=Strict", again)["spec"] == run["spec"]


@pytest.mark.parametrize("moment", MOMENTS)
def test_the_operator_understands_all_of_a_stored_run(upgraded: Upgraded, moment: str) -> None:
    stored = upgraded.server.get(f"{RUNS}/{moment}")
    job = parse_job(stored)
    read = {"spec": job.spec.document(), "status": job.status.model_dump(mode="json", by_alias=True)}
    # What it does not know of a status it leaves as it is, and would do again.
    assert list(unread(meaning(stored), read)) == []


def test_an_operator_is_told_what_an_earlier_definition_lacks(release: Release, upgraded: Upgraded) -> None:
    """By what a real API server publishes, in its own spelling of a schema."""
    known = crd.structural_schema()
    (stored,) = release.definition()["spec"]["versions"]
    kind = {"x-kubernetes-group-version-kind": [{"kind": "QwenSFTJob"}]}
    as_stored = {"components": {"schemas": {"a": stored["schema"]["openAPIV3Schema"] | kind}}}
    assert set(lacking(upgraded.published, known)) == set(lacking(as_stored, known))
    if release.name == "v0.2.0":
        assert {"spec.training.reportTo", "status.trackers"} <= set(lacking(upgraded.published, known))
    upgraded.server.until(lambda: not list(lacking(upgraded.server.get(PUBLISHED), known)))


def test_one_version_is_stored(upgraded: Upgraded) -> None:
    served = [version["name"] for version in upgraded.definition["spec"]["versions"] if version["served"]]
    assert "v1alpha1" in served
    assert upgraded.definition["status"]["storedVersions"] == ["v1alpha1"]
