"""The apiserver (CEL and schema) and the models (Python) give the same verdict on thousands of documents.

The documents are the same on every run: valid ones, each invalid one of this folder, and changes of both. Every rule of
the CustomResourceDefinition is broken by some of them.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from random import Random

import pytest
import yaml
from hypothesis import Phase, given, settings
from pydantic import ValidationError

from qwensft.api import crd
from qwensft.api.v1alpha1 import InvalidJobError, parse_job
from qwensft.api.v1alpha1.immutability_rules import IMMUTABLE

from ..property.documents import Document, job_documents
from ..property.mutations import change
from ..unit.client.api.test_documents import validations
from .conftest import Jobs, Refusal
from .test_admission import INVALID, VALID, documents

COUNT = 3000
SEED = 20
REQUESTS_AT_ONCE = 8
NOT_CHECKED = "some validation rules were not checked"  # the apiserver, about a document that breaks the schema itself


@dataclass(frozen=True)
class Verdict:
    """What both say about a document: None, or what is wrong with it."""

    document: Document
    models: InvalidJobError | None
    apiserver: Refusal | None

    def __str__(self) -> str:
        said = self.apiserver.text if self.apiserver else "accepted"
        return f"models: {self.models or 'accepted'}\napiserver: {said}\n{yaml.safe_dump(self.document)}"

    def broken_rules(self) -> list[str]:
        """Messages of the rules that the models find broken; of each block they name the first only."""
        if self.models is None:
            return []
        assert isinstance(self.models.__cause__, ValidationError)
        return [str(found["msg"]) for found in self.models.__cause__.errors() if found["type"] == "rule"]


@pytest.fixture(scope="module")
def verdicts(jobs: Jobs) -> list[Verdict]:
    generated = list(_generated())
    with ThreadPoolExecutor(REQUESTS_AT_ONCE) as pool:
        refusals = list(pool.map(jobs.refusal, generated))
    return [Verdict(each, _problem(each), refusal) for each, refusal in zip(generated, refusals, strict=True)]


def test_both_give_the_same_verdict(verdicts: list[Verdict]) -> None:
    split = [verdict for verdict in verdicts if (verdict.models is None) != (verdict.apiserver is None)]
    assert not split, _first(split)


def test_the_apiserver_says_what_the_models_say(verdicts: list[Verdict]) -> None:
    silent = [
        verdict
        for verdict in verdicts
        if verdict.apiserver and NOT_CHECKED not in verdict.apiserver.text
        if any(message not in verdict.apiserver.text for message in verdict.broken_rules())
    ]
    assert not silent, _first(silent)


def test_every_rule_is_broken_by_some_document(verdicts: list[Verdict]) -> None:
    said = "\n".join(verdict.apiserver.text for verdict in verdicts if verdict.apiserver)
    of_edits = {rule.message for rule in IMMUTABLE}
    # A rule with an expression says something else than its message: test_admission has its documents.
    rules = [rule for rule in validations(crd.structural_schema()) if "messageExpression" not in rule]
    assert {rule["message"] for rule in rules if rule["message"] not in said} == of_edits


def test_many_documents_are_valid_and_many_are_not(verdicts: list[Verdict]) -> None:
    assert len(verdicts) == COUNT
    assert 0.25 < sum(verdict.apiserver is None for verdict in verdicts) / COUNT < 0.75


def _generated() -> Iterator[Document]:
    valid = [document for path in VALID for document in documents(path)] + _drawn(60)
    invalid = [document for path in INVALID for document in documents(path)]
    yield from valid
    yield from invalid
    random = Random(SEED)  # noqa: S311
    for _ in range(COUNT - len(valid) - len(invalid)):
        yield change(random, random.choice(valid), lambda: random.choice(random.choice([valid, invalid])))


def _drawn(count: int) -> list[Document]:
    """Documents of the property tests, the same ones every time; few, as drawing takes much longer than judging."""
    drawn: list[Document] = []

    @settings(max_examples=count, derandomize=True, database=None, phases=[Phase.generate])
    @given(job_documents())
    def keep(document: Document) -> None:
        drawn.append(document)

    keep()
    return drawn


def _problem(document: Document) -> InvalidJobError | None:
    try:
        parse_job(document)
    except InvalidJobError as error:
        return error
    return None


def _first(verdicts: list[Verdict]) -> str:
    return "\n---\n".join([f"{len(verdicts)} documents", *map(str, verdicts[:3])])
