"""The documents of the contract tests, read by the models alone: the same verdicts and messages as the apiserver's."""

from pathlib import Path

import pytest
import yaml

from qwensft.api.v1alpha1 import InvalidJobError, parse_job

REPOSITORY = Path(__file__).parents[3]
DOCUMENTS = REPOSITORY / "tests" / "contract"
VALID = [*sorted((DOCUMENTS / "valid").glob("*.yaml")), *sorted((REPOSITORY / "examples").glob("*.yaml"))]
INVALID = sorted((DOCUMENTS / "invalid").glob("*.yaml"))


@pytest.mark.parametrize("path", VALID, ids=lambda path: path.stem)
def test_a_valid_document_is_read(path: Path) -> None:
    jobs = [doc for doc in yaml.safe_load_all(path.read_text(encoding="utf-8")) if doc["kind"] == "QwenSFTJob"]
    assert jobs
    for job in jobs:
        assert parse_job(job).spec.model.name == job["spec"]["model"]["name"]


@pytest.mark.parametrize("path", INVALID, ids=lambda path: path.stem)
def test_an_invalid_document_is_refused_with_the_field_and_the_fix(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    header = dict(line[2:].split(": ", 1) for line in text.splitlines() if line.startswith("# "))
    with pytest.raises(InvalidJobError) as caught:
        parse_job(yaml.safe_load(text))
    assert str(caught.value).startswith(f"{header['field']}: ")
    assert header.get("message", "") in str(caught.value)
