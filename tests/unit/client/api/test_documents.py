"""The documents of the contract tests, read by the models alone: the same verdicts and messages as the apiserver's."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from qwensft.api import crd
from qwensft.api.v1alpha1 import InvalidJobError, parse_job
from qwensft.api.v1alpha1.immutability_rules import IMMUTABLE

REPOSITORY = Path(__file__).parents[4]
DOCUMENTS = REPOSITORY / "tests" / "contract"
EXAMPLES = (path for path in (REPOSITORY / "examples").rglob("*.yaml") if "kind: QwenSFTJob" in path.read_text("utf-8"))
VALID = [*sorted((DOCUMENTS / "valid").glob("*.yaml")), *sorted(EXAMPLES)]
INVALID = sorted((DOCUMENTS / "invalid").glob("*.yaml"))


def jobs(path: Path) -> list[dict[str, Any]]:
    return [doc for doc in yaml.safe_load_all(path.read_text(encoding="utf-8")) if doc["kind"] == "QwenSFTJob"]


def problem(path: Path) -> str:
    """What the models say about the document, which they refuse."""
    (document,) = jobs(path)
    with pytest.raises(InvalidJobError) as caught:
        parse_job(document)
    return str(caught.value)


@pytest.mark.parametrize("path", VALID, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_valid_document_is_read(path: Path) -> None:
    assert jobs(path)
    for job in jobs(path):
        assert parse_job(job).spec.model.name == job["spec"]["model"]["name"]


@pytest.mark.parametrize("path", INVALID, ids=lambda path: path.stem)
def test_an_invalid_document_is_refused_with_the_field_and_the_fix(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    header = dict(line[2:].split(": ", 1) for line in lines if line.startswith("# "))
    said = problem(path)
    assert said.startswith(f"{header['field']}: ")
    assert header.get("message", "") in said


@pytest.mark.parametrize(
    "broken",
    [
        "extra-arguments-best-model",
        "model-qwen3-8",
        "model-thinking-only-without-thinking",
        "storage-size-without-unit",
        "training-neat-packing-linear-attention",
    ],
)
def test_a_document_that_breaks_a_rule_can_be_read_as_it_stands(broken: str) -> None:
    (document,) = jobs(DOCUMENTS / "invalid" / f"{broken}.yaml")
    read = parse_job(document | {"status": {"restarts": -1}}, rules=False)
    assert read.spec.model.name == document["spec"]["model"]["name"]


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        ("datasets-duplicate-name", "two items have the name 'support'"),
        ("storage-missing", "Field required"),
        ("training-cutoff-too-small", "greater than or equal to 16"),
        ("training-number-as-text", "valid integer"),
        ("worker-quantity-malformed", "match pattern"),
    ],
)
def test_without_rules_the_shape_is_judged_still(broken: str, words: str) -> None:
    (document,) = jobs(DOCUMENTS / "invalid" / f"{broken}.yaml")
    with pytest.raises(InvalidJobError, match=words):
        parse_job(document, rules=False)


def test_every_rule_is_broken_by_some_document() -> None:
    said = [problem(path) for path in INVALID]
    immutable = {rule.message for rule in IMMUTABLE}
    rules = list(validations(crd.structural_schema()))
    assert len(rules) > 80
    unbroken = {
        rule["message"]
        for rule in rules
        # A rule with an expression says something else than its message: the documents of extraArguments.
        if rule["message"] not in immutable
        and "messageExpression" not in rule
        and not any(rule["message"] in text for text in said)
    }
    assert unbroken == set()


def validations(schema: dict[str, Any]) -> Iterator[dict[str, str]]:
    yield from schema.get("x-kubernetes-validations", [])
    children = [*schema.get("properties", {}).values(), schema.get("items"), schema.get("additionalProperties")]
    for child in children:
        if isinstance(child, dict):
            yield from validations(child)
