"""The examples are valid, and the quickstart's rows are what the quickstart says they are."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from quickstart import inputs, report

from qwensft.api.v1alpha1 import parse_job
from qwensft_trainer.config import Dataset
from qwensft_trainer.formats import conversation

EXAMPLES = sorted(inputs.EXAMPLES.glob("*.yaml"))
FORMATS = {"handbook": "alpaca", "support-desk": "sharegpt"}


def rows(name: str) -> list[dict[str, Any]]:
    return list(json.loads((inputs.EXAMPLES / "data" / f"{name}.json").read_text()))


def first_turns(name: str) -> list[tuple[str, str]]:
    """Question and answer of the first turn of each row, as the model sees them."""
    dataset = Dataset(name=name, format=FORMATS[name], path=Path(name), columns={}, tags={}, sample_count=None)
    found = [conversation(dataset, row).messages for row in rows(name)]
    return [(messages[0]["content"], messages[1]["content"]) for messages in found]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_every_example_is_a_valid_job(path: Path) -> None:
    document = yaml.safe_load(path.read_text())
    document["metadata"] |= {"namespace": "default", "uid": "0a1b2c3d", "generation": 1}
    assert parse_job(document).spec.model.effective_template


def test_the_minimal_example_is_short() -> None:
    text = (inputs.EXAMPLES / "minimal.yaml").read_text()
    assert len([line for line in text.splitlines() if not line.startswith("#")]) < 15


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
