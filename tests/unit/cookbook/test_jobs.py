"""The jobs of examples/cookbook, and the pages that tell of them: what a page shows is what stands in the files."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import yaml
from tests.cookbook.tasks import COOKBOOK, PAGES, REPOSITORY, TASKS, TINY, Task

from qwensft.api.v1alpha1 import differences, parse_job

BLOCK = re.compile(r"^```(?P<language>\w+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
HEADINGS = ["You bring", "Fields that matter", "While it trains", "Ask it", "What goes wrong"]
LONGEST_LINE = 125
by_task = pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)


def shown(task: Task, language: str) -> list[str]:
    return [match["text"] for match in BLOCK.finditer(task.page.read_text("utf-8")) if match["language"] == language]


def is_part(part: Any, whole: Any) -> bool:
    """Whether all that is said stands there, too; of a list every entry."""
    if isinstance(part, dict):
        return isinstance(whole, dict) and all(key in whole and is_part(part[key], whole[key]) for key in part)
    return bool(part == whole)


@by_task
def test_a_job_is_called_as_its_folder_and_its_rows_as_the_client_calls_them(task: Task) -> None:
    job = task.job
    assert job.metadata.name == task.name
    assert [dataset.name for dataset in job.spec.datasets] == ["rows"]
    source = job.spec.datasets[0].source
    if source.config_map:  # `qwensft submit --rows` makes this ConfigMap, and so does the page's kubectl
        assert source.config_map.name == f"rows-{task.name}"
        assert source.config_map.key == f"rows{task.files['rows'].suffix}"
    assert all(path.is_file() for path in task.files.values())


@by_task
def test_a_job_says_why_it_is_as_it_is(task: Task) -> None:
    text = (task.folder / "job.yaml").read_text(encoding="utf-8")
    lines = text.splitlines()
    assert lines[0].startswith("# ")
    assert f"docs/cookbook/{task.name}.md" in text
    assert max(map(len, lines)) <= LONGEST_LINE
    assert text.count("  # ") >= 6


@by_task
def test_the_choices_that_a_task_is_about_are_made_and_not_left_to_defaults(task: Task) -> None:
    spec = task.document["spec"]
    assert {"epochs", "learningRate", "warmupRatio", "cutoffLen", "saveSteps"} <= set(spec["training"])
    assert spec["evaluation"]["keepBest"] is True
    assert ("enableThinking" in spec["model"]) == (task.job.spec.model.effective_template == "qwen3")
    assert spec["worker"]["accelerator"]["memory"] in {"24Gi", "48Gi"}


@by_task
def test_the_laboratory_changes_nothing_that_a_task_is_about(task: Task) -> None:
    there, here = task.document["spec"], task.laboratory_job("lab")["spec"]
    assert parse_job(task.laboratory_job("lab")).metadata.namespace == "lab"
    for block in ("datasets", "tuning", "extraArguments"):
        assert here.get(block) == there.get(block)
    assert {key: here["model"].get(key) for key in there["model"]} == there["model"]
    assert here["training"]["learningRate"] == there["training"]["learningRate"]
    assert here["training"].get("packing") == there["training"].get("packing")
    assert here["evaluation"].keys() == there["evaluation"].keys()
    assert task.tiny_model in TINY.values()


def test_who_goes_on_with_an_adapter_says_of_it_what_is_said_there() -> None:
    for task in TASKS:
        if task.begins_with is not None:
            assert differences(task.begins_with.job.spec, task.job.spec) == []
            assert task.job.spec.model.replace(adapter=None) == task.begins_with.job.spec.model
            assert TASKS.index(task.begins_with) < TASKS.index(task)


@by_task
def test_a_page_tells_what_a_reader_asks(task: Task) -> None:
    text = task.page.read_text(encoding="utf-8")
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == HEADINGS
    assert f"../../examples/cookbook/{task.name}/job.yaml" in text


@by_task
def test_the_rows_of_a_page_are_rows_of_the_task(task: Task) -> None:
    known = [line for path in task.files.values() for line in path.read_text(encoding="utf-8").splitlines()]
    rows = shown(task, "csv") if task.name == "classification" else shown(task, "json")
    assert rows
    for text in rows:
        if task.name == "classification":
            assert set(text.splitlines()) <= set(known)
        else:
            assert json.loads(text) in [json.loads(line) for line in known]


@by_task
def test_the_fields_of_a_page_are_those_of_the_job(task: Task) -> None:
    blocks = shown(task, "yaml")
    assert blocks
    for text in blocks:
        assert is_part(yaml.safe_load(text), task.document["spec"]), text


def test_the_index_names_every_task_and_no_other() -> None:
    index = (PAGES / "README.md").read_text(encoding="utf-8")
    pages = set(re.findall(r"\]\(([\w-]+)\.md\)", index))
    assert pages == {task.name for task in TASKS} == {path.stem for path in PAGES.glob("*.md")} - {"README"}
    assert {path.name for path in COOKBOOK.iterdir() if path.is_dir()} == pages
    navigation = (REPOSITORY / "mkdocs.yml").read_text(encoding="utf-8")
    assert all(f"cookbook/{name}.md" in navigation for name in pages)
