"""The apiserver and the models judge alike: valid documents pass both, and mutated ones pass both or neither."""

from typing import Any

from hypothesis import HealthCheck, given, settings

from qwensft.api.v1alpha1 import InvalidJobError, parse_job

from ..property.documents import job_documents
from ..property.mutations import mutated
from .conftest import Jobs

_FEW = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@_FEW
@given(document=job_documents())
def test_what_the_models_accept_the_apiserver_accepts(jobs: Jobs, document: dict[str, Any]) -> None:
    parse_job(document)
    refusal = jobs.refusal(document)
    assert refusal is None, refusal.text


@_FEW
@given(document=mutated())
def test_a_change_for_the_worse_is_seen_by_both(jobs: Jobs, document: dict[str, Any]) -> None:
    refusal = jobs.refusal(document)
    assert (refusal is None) == (_problem(document) is None), (refusal, _problem(document))


def _problem(document: dict[str, Any]) -> str | None:
    try:
        parse_job(document)
    except InvalidJobError as error:
        return str(error)
    return None
