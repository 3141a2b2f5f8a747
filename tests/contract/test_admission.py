"""What the apiserver accepts at creation (valid/ and examples/), and what it refuses (invalid/).

A file in invalid/ breaks one rule. Its first lines tell the path of the field to blame, and the message (`apiserver`
where it is the apiserver's own and Python words it in another way).
"""

from pathlib import Path
from typing import Any

import pytest
import yaml

from .conftest import Jobs

HERE = Path(__file__).parent
EXAMPLES = sorted(
    path for path in (HERE.parents[1] / "examples").rglob("*.yaml") if "kind: QwenSFTJob" in path.read_text("utf-8")
)
VALID = [*sorted((HERE / "valid").glob("*.yaml")), *EXAMPLES]
INVALID = sorted((HERE / "invalid").glob("*.yaml"))


def documents(path: Path) -> list[dict[str, Any]]:
    return [doc for doc in yaml.safe_load_all(path.read_text(encoding="utf-8")) if doc["kind"] == "QwenSFTJob"]


@pytest.mark.parametrize("path", VALID, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_valid_document_is_accepted(jobs: Jobs, path: Path) -> None:
    for document in documents(path):
        assert jobs.refusal(document) is None


@pytest.mark.parametrize("path", INVALID, ids=lambda path: path.stem)
def test_an_invalid_document_is_refused_with_the_field_and_the_fix(jobs: Jobs, path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    expected = dict(line[2:].split(": ", 1) for line in lines if line.startswith("# "))
    (document,) = documents(path)
    refusal = jobs.refusal(document)
    assert refusal is not None
    # A duplicate is blamed on the item that repeats, and not on the list.
    blamed = [said for field, said in refusal.causes.items() if field.removesuffix("[1]") == expected["field"]]
    assert blamed, refusal.text
    assert (expected.get("message") or expected["apiserver"]) in blamed[0]


def test_an_unknown_field_is_refused(jobs: Jobs) -> None:
    (document,) = documents(HERE / "valid" / "minimal.yaml")
    document["spec"]["training"] = {"epoch": 3}
    refusal = jobs.refusal(document)
    assert refusal is not None
    assert 'unknown field "spec.training.epoch"' in refusal.text


def test_nothing_is_added_to_the_spec_that_was_applied(jobs: Jobs) -> None:
    for path in (HERE / "valid" / "minimal.yaml", HERE / "valid" / "maximal.yaml"):
        (document,) = documents(path)
        assert jobs.create(document, dry_run=True)["spec"] == document["spec"]


def test_a_new_job_has_been_seen_by_no_operator(jobs: Jobs) -> None:
    (document,) = documents(HERE / "valid" / "minimal.yaml")
    assert jobs.create(document, dry_run=True)["status"] == {"observedGeneration": -1}
