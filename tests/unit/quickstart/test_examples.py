"""The examples are valid, and the quickstart's rows are what the quickstart says they are."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from quickstart import inputs, report

from qwensft.api.v1alpha1 import QwenSFTJob, Stage, parse_job
from qwensft_operator.render.llamafactory import train_arguments
from qwensft_operator.render.run import run_document
from qwensft_trainer.contract.config import Dataset, Run
from qwensft_trainer.data.row_checks import conversation
from qwensft_trainer.model.checks import learning_rate

EXAMPLES = sorted(inputs.EXAMPLES.glob("*.yaml"))
MINIMAL = inputs.EXAMPLES / "minimal.yaml"
FORMATS = {"handbook": "alpaca", "support-desk": "sharegpt"}


def rows(name: str) -> list[dict[str, Any]]:
    return list(json.loads((inputs.EXAMPLES / "data" / f"{name}.json").read_text()))


def first_turns(name: str) -> list[tuple[str, str]]:
    """Question and answer of the first turn of each row, as the model sees them."""
    dataset = Dataset(name=name, format=FORMATS[name], path=Path(name), columns={}, tags={}, sample_count=None)
    found = [conversation(dataset, row).messages for row in rows(name)]
    return [(messages[0]["content"], messages[1]["content"]) for messages in found]


def documents(path: Path, kind: str) -> list[dict[str, Any]]:
    return [document for document in yaml.safe_load_all(path.read_text()) if document["kind"] == kind]


def job_of(path: Path) -> QwenSFTJob:
    (document,) = documents(path, "QwenSFTJob")
    document["metadata"] |= {"namespace": "default", "uid": "0a1b2c3d", "generation": 1}
    return parse_job(document)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_every_example_is_a_valid_job(path: Path) -> None:
    assert job_of(path).spec.model.effective_template


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_rows_that_an_example_brings_along_are_those_that_its_job_reads(path: Path) -> None:
    brought = {(doc["metadata"]["name"], key) for doc in documents(path, "ConfigMap") for key in doc["data"]}
    sources = [dataset.source.config_map for dataset in job_of(path).spec.datasets]
    assert brought <= {(source.name, source.key) for source in sources if source}


def test_the_minimal_example_needs_nothing_else_and_learns() -> None:
    (config_map,) = documents(MINIMAL, "ConfigMap")
    job = job_of(MINIMAL)
    (dataset,) = run_document(job, Stage.PREPARE)["datasets"]
    (text,) = config_map["data"].values()
    checked = [conversation(Dataset.model_validate(dataset), json.loads(line)) for line in text.splitlines()]
    assert dataset["path"].endswith("/rows.jsonl")
    run = Run.model_validate(run_document(job, Stage.PREPARE))
    assert learning_rate.warnings(run, train_arguments(job), len(checked)) == []


def test_there_are_at_least_200_rows_no_two_of_them_alike() -> None:
    every = [json.dumps(row, sort_keys=True) for name in inputs.DATASETS for row in rows(name)]
    assert len(every) == len(set(every)) >= 200


@pytest.mark.parametrize("name", inputs.DATASETS)
def test_rows_fit_their_format_and_a_config_map(name: str) -> None:
    assert len(first_turns(name)) >= 100
    assert (inputs.EXAMPLES / "data" / f"{name}.json").stat().st_size < 1_000_000


def test_history_system_prompts_and_tools_occur() -> None:
    assert any(row.get("history") for row in rows("handbook"))
    assert any(row.get("system") for row in rows("handbook"))
    assert any(row.get("system") for row in rows("support-desk"))
    assert any(row.get("tools") for row in rows("support-desk"))


def test_the_target_questions_are_training_questions_with_their_answers() -> None:
    known = {pair for name in inputs.DATASETS for pair in first_turns(name)}
    assert report.targets()
    assert set(report.targets()) <= known
