"""Generated jobs: what the models accept survives being written and read, with its defaults spelled out or not."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwensft.api.v1alpha1 import InvalidJobError, parse_job, parse_quantity

from .documents import job_documents, json_values
from .mutations import mutated


@given(job_documents())
def test_a_job_that_was_read_is_written_and_read_again_without_change(document: dict[str, Any]) -> None:
    job = parse_job(document)
    assert parse_job(job.document()) == job
    assert parse_job(job.document()).document() == job.document()


@given(job_documents())
def test_spelling_out_every_default_does_not_change_what_a_job_means(document: dict[str, Any]) -> None:
    job = parse_job(document)
    spelled = job.model_dump(mode="json", by_alias=True, exclude_none=True)
    again = parse_job(spelled)
    assert again == job
    assert (again.run_path, again.workspace_claim) == (job.run_path, job.workspace_claim)


@given(json_values())
def test_any_other_json_is_refused_with_a_message(raw: Any) -> None:
    document = {"metadata": {"name": "any"}, "spec": raw}
    with pytest.raises(InvalidJobError, match="spec"):
        parse_job(document)


@given(mutated())
def test_a_changed_job_is_read_or_refused_with_the_path_of_a_field(document: dict[str, Any]) -> None:
    try:
        problem = None if parse_job(document) else ""
    except InvalidJobError as error:
        problem = str(error)
    assert problem is None or problem.startswith("spec")


@given(st.integers(0, 10**15), st.sampled_from(["", "m", "k", "Ki", "Mi", "Gi", "G", "E"]))
def test_a_quantity_grows_with_its_number(number: int, suffix: str) -> None:
    assert parse_quantity(f"{number}{suffix}") <= parse_quantity(f"{number + 1}{suffix}")
