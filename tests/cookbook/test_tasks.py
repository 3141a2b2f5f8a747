"""Every task of the cookbook, from its files to a merged model: the page's own commands, with a tiny model."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
from quickstart import follow
from tests.cli.conftest import Cli
from tests.cookbook.tasks import STEPS, TASKS, Task
from tests.e2e.runs import Runs


@dataclass(frozen=True)
class Learnt:
    """Words of the first rows that must be learnt, and words that must not."""

    answers: tuple[str, ...]
    others: tuple[str, ...]


LEARNT = {
    "classification": Learnt(("billing<|im_end|>",), ("Which team should read this message?", "49 euros")),
    "continuing": Learnt(
        ("Yes, since April. Delivery takes three to five working days", "drei bis fünf Werktagen"),
        ("Do you ship to Switzerland?", "You are the support assistant of Larkspur", "<think>\n\n</think>"),
    ),
    "json-extraction": Learnt(
        ('{"customer": "Norrland Pumps AB", "po_number": "77-1043"',), ("Extract the order", "our PO 77-1043")
    ),
    "reasoning": Learnt(
        ("<think>\nThe first month is paid by days", "160 euros: 20 days at 8 euros."), ("A desk is 240 euros a month",)
    ),
    "receipts": Learnt(('"merchant": "CAFE MORAVA"', "3.90<|im_end|>"), ("<|vision_start|>", "How was it paid?")),
    "small-model": Learnt(("We replaced the front brake pads",), ("frt brk pads", "<think>\n\n</think>")),
    "support-bot": Learnt(
        ("Could you give me the order number?", "With that number you can follow the parcel"),
        ("You are the support assistant of Larkspur", "LK-204418", "<think>\n\n</think>"),
    ),
    # The call in the middle is learnt, and so is what is made of its result, which is not.
    "tool-calling": Learnt(
        ('<tool_call>\n{"name": "get_stock"', "140 in Lyon, of which 35 are reserved"),
        ("<tool_response>", "Pieces of an article in one warehouse"),
    ),
}


@pytest.mark.timeout(1800)
@pytest.mark.usefixtures("tiny_model")
def test_a_task_runs_from_its_rows_to_a_model(
    task: Task, cli: Cli, runs: Runs, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    earlier = task.begins_with
    if earlier is not None and earlier.name not in _names(runs):
        _submit(earlier, cli, runs, tmp_path)
    if task.job.spec.datasets[0].source.volume:
        request.getfixturevalue("pictures")
    _submit(task, cli, runs, tmp_path)

    status = runs.get(task.name)["status"]
    if earlier is not None:
        left = runs.get(earlier.name)["status"]["outputs"]["adapter"]
        assert status["adapterRun"]["digest"] == left["digest"] != status["outputs"]["adapter"]["digest"]
    counted = status["dataset"]
    rows = sum(_rows(path) for path in task.files.values())
    assert counted["samples"] + counted["evalSamples"] == rows
    assert counted["evalSamples"] >= 3
    assert (counted.get("truncatedSamples", 0), counted.get("duplicateSamples", 0)) == (0, 0)
    assert status["progress"]["step"] == STEPS
    assert status["progress"]["bestEvalLoss"] > 0
    assert {"adapter", "merged"} <= set(status["outputs"])

    samples = json.loads(cli("preview", "--run", task.name, "-o", "json").out)["samples"]
    parts = [part for sample in samples for part in sample["parts"]]
    learnt = "".join(part["text"] for part in parts if part["learnt"])
    other = "".join(part["text"] for part in parts if not part["learnt"])
    for words in LEARNT[task.name].answers:
        assert words in learnt
    for words in LEARNT[task.name].others:
        assert words in other
        assert words not in learnt


def _submit(task: Task, cli: Cli, runs: Runs, directory: Path) -> None:
    """By the command of the page, and to the end."""
    file = directory / f"{task.name}.yaml"
    file.write_text(json.dumps(task.laboratory_job(runs.namespace)), encoding="utf-8")
    brought = [] if task.job.spec.datasets[0].source.volume else ["--rows", f"rows={task.files['rows']}"]
    runs.latest = task.name
    followed = cli("submit", str(file), *brought, "--watch")
    assert followed.code == 0, followed.out + followed.err


def _names(runs: Runs) -> set[str]:
    """Of the jobs that there are: a task may be run alone."""
    return {job["metadata"]["name"] for job in runs.kubectl.items(follow.RESOURCE, "-n", runs.namespace)}


def _rows(path: Path) -> int:
    """Rows of a file; a table has a line of names before them."""
    lines = len(path.read_text(encoding="utf-8").splitlines())
    return lines - 1 if path.suffix == ".csv" else lines


def test_each_task_says_what_it_teaches() -> None:
    assert set(LEARNT) == {task.name for task in TASKS}
