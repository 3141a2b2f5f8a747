"""The documents show what is rendered, word for word.

`UPDATE_GOLDEN=1 pytest tests/unit/operator/render` fills them in anew.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from qwensft.api.v1alpha1 import Stage
from qwensft_operator.render import config_map, stage_job

from .jobs import DEFAULTS, EXAMPLES, example, example_document, job
from .test_golden import dump

REPOSITORY = Path(__file__).parents[4]
PAGES = ("docs/what-a-job-becomes.md", "docs/deepspeed.md")
BLOCK = re.compile(r"<!-- rendered: (?P<title>[^\n]+) -->\n```(?P<language>\w+)\n(?P<text>.*?)```\n", re.DOTALL)
LONGEST_SIMPLE_JOB = 14


def minimal_job() -> str:
    """The job of the minimal example, without the rows that stand before it."""
    return EXAMPLES["minimal"].read_text(encoding="utf-8").partition("---\n")[2]


def minimal(stage: str, file: str) -> str:
    text: str = config_map(example("minimal"), Stage(stage), 1)["data"][file]
    return text


def deepspeed(**fields: object) -> str:
    text: str = config_map(job(distribution={"deepspeed": fields}), Stage.TRAIN, 1)["data"]["deepspeed.json"]
    return text


RENDERED: dict[str, Callable[[], str]] = {
    "minimal: job": minimal_job,
    "minimal: train.yaml": lambda: minimal("train", "train.yaml"),
    "minimal: export.yaml": lambda: minimal("merge", "export.yaml"),
    "minimal: run.yaml": lambda: minimal("train", "run.yaml"),
    "minimal: train pod": lambda: dump([stage_job(example("minimal"), Stage.TRAIN, 1, defaults=DEFAULTS)]),
    "deepspeed: stage 2": lambda: deepspeed(stage=2),
    "deepspeed: stage 3, offloaded": lambda: deepspeed(stage=3, offloadOptimizer=True, offloadParameters=True),
}


@pytest.mark.parametrize("page", PAGES)
def test_a_page_shows_what_is_rendered(page: str) -> None:
    path = REPOSITORY / page
    written = path.read_text(encoding="utf-8")
    rendered = BLOCK.sub(
        lambda found: f"<!-- rendered: {found['title']} -->\n```{found['language']}\n{RENDERED[found['title']]()}```\n",
        written,
    )
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(rendered, encoding="utf-8")
        written = rendered
    assert written == rendered


def test_every_block_is_shown_somewhere() -> None:
    shown = [found["title"] for page in PAGES for found in BLOCK.finditer((REPOSITORY / page).read_text("utf-8"))]
    assert sorted(shown) == sorted(RENDERED)


def test_the_simplest_job_is_short() -> None:
    assert len(minimal_job().splitlines()) <= LONGEST_SIMPLE_JOB


def test_every_example_is_in_the_table_and_the_table_names_no_other() -> None:
    table = (REPOSITORY / "examples" / "README.md").read_text(encoding="utf-8")
    assert set(re.findall(r"\]\(([\w.-]+)\.yaml\)", table)) == set(EXAMPLES)


def test_examples_have_names_of_their_own() -> None:
    names = [example_document(name)["metadata"]["name"] for name in EXAMPLES]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_example_says_what_it_shows(name: str) -> None:
    lines = EXAMPLES[name].read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("# ")
    assert max(map(len, lines)) <= 125
