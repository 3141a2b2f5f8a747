"""A definition of an older version in the cluster is told, with what it lacks, and stops nothing."""

from __future__ import annotations

import copy
import logging
from typing import Any

import pytest

from qwensft.api.crd import structural_schema
from qwensft.api.v1alpha1 import GROUP, KIND, VERSION
from qwensft_operator.runtime.definition import Definition, lacking
from qwensft_operator.runtime.kube import ForbiddenError

from .fakes import FakeKube

KNOWN = structural_schema()


def published(schema: dict[str, Any]) -> dict[str, Any]:
    """As an API server publishes a schema, beside those of other kinds."""
    kind = {"group": GROUP, "kind": KIND, "version": VERSION}
    other = {"type": "object", "x-kubernetes-group-version-kind": [kind | {"kind": f"{KIND}List"}]}
    ours = schema | {"x-kubernetes-group-version-kind": [kind]}
    return {"openapi": "3.0.0", "components": {"schemas": {"io.qwensft.v1alpha1.QwenSFTJobList": other, "a": ours}}}


def older() -> dict[str, Any]:
    """The schema without some of its fields."""
    schema = copy.deepcopy(KNOWN)
    spec, status = (schema["properties"][part]["properties"] for part in ("spec", "status"))
    del spec["training"]["properties"]["reportTo"]
    del spec["datasets"]["items"]["properties"]["weight"]
    del status["trackers"]
    return schema


async def told(document: dict[str, Any], caplog: pytest.LogCaptureFixture) -> str:
    kube = FakeKube()
    kube.document = document
    with caplog.at_level(logging.WARNING):
        await Definition(kube).check()
    return caplog.text


async def test_a_definition_of_this_version_is_no_news(caplog: pytest.LogCaptureFixture) -> None:
    assert await told(published(KNOWN), caplog) == ""
    assert list(lacking(published(KNOWN), KNOWN)) == []


async def test_a_definition_of_a_later_version_has_all(caplog: pytest.LogCaptureFixture) -> None:
    assert list(lacking(published(KNOWN), older())) == []


async def test_an_older_definition_is_told_with_what_it_lacks(caplog: pytest.LogCaptureFixture) -> None:
    text = await told(published(older()), caplog)
    assert "it lacks spec.datasets[].weight, spec.training.reportTo, status.trackers. " in text
    assert "kubectl apply --server-side -f crds/" in text
    assert "ERROR" in text


async def test_of_many_fields_some_are_named(caplog: pytest.LogCaptureFixture) -> None:
    schema = copy.deepcopy(KNOWN)
    schema["properties"]["status"]["properties"] = {"phase": {"type": "string"}}
    lacks = len(KNOWN["properties"]["status"]["properties"]) - 1
    assert f" and {lacks - 8} more. " in await told(published(schema), caplog)


@pytest.mark.parametrize("document", [{}, {"components": {"schemas": {}}}])
async def test_what_is_not_published_yet_lacks_nothing(
    document: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    assert await told(document, caplog) == ""


async def test_what_may_not_be_read_stops_nothing(caplog: pytest.LogCaptureFixture) -> None:
    kube = FakeKube()
    kube.refuse["get", "openapi"] = ForbiddenError(403, "Forbidden", "no")
    with caplog.at_level(logging.WARNING):
        await Definition(kube).check()
    assert "going on without the definition of QwenSFTJobs" in caplog.text


@pytest.mark.parametrize(
    "document",
    [{"components": ["a"]}, published({"properties": {"spec": None}}), published({"properties": {"spec": ["a"]}})],
    ids=["of another shape", "a part without a schema", "a part that is a list"],
)
async def test_what_makes_no_sense_stops_nothing(document: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    assert "going on without the definition of QwenSFTJobs" in await told(document, caplog)
