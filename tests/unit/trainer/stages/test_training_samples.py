"""A training whose result is recorded has it answer, and shows that in the report, whatever comes of it."""

from __future__ import annotations

import json
import os

import pytest

from qwensft_trainer import cli
from qwensft_trainer.stages import train
from qwensft_trainer.training import samples

from ..conftest import Scene
from .conftest import Torchrun

ANSWERS = """
import json, os, sys
task = json.load(open(sys.argv[1]))
recorded = os.path.exists(task["trained"] + "/../../train.json")
one = {"row": 1, "prompt": "what?", "wanted": "this", "before": {"text": f"recorded: {recorded}", "complete": True}}
json.dump({"rows": 9, "newTokens": 512, "samples": [one]}, open(task["target"], "w"))
"""


@pytest.fixture
def asked(prepared: Scene, torchrun: Torchrun, monkeypatch: pytest.MonkeyPatch) -> Scene:
    prepared.document["samples"] = {"count": 1}
    (prepared.run_directory / "prepare.json").write_text('{"template": "qwen3"}')
    monkeypatch.setattr(samples, "_MODULE", ("-c", ANSWERS))
    return prepared


def page(scene: Scene) -> str:
    return (scene.run_directory / "report.html").read_text()


def test_it_answers_once_its_result_is_recorded(asked: Scene) -> None:
    told = train.main(asked.context)
    assert "recorded: True" in page(asked)
    assert set(told.outputs) == {"adapter", "report"}
    assert "what?" not in json.dumps(
        [dict(told.metrics), told.outputs, (asked.run_directory / "train.json").read_text()]
    )


def test_node_rank_0_alone_does(asked: Scene) -> None:
    train.main(asked.context)
    (asked.run_directory / "samples.json").unlink()
    os.environ["NODE_RANK"] = "1"
    train.main(asked.attempt(2))
    assert not (asked.run_directory / "samples.json").exists()


def test_answers_that_a_pod_did_not_come_to_are_made_by_the_next(asked: Scene, torchrun: Torchrun) -> None:
    train.main(asked.context)
    (asked.run_directory / "samples.json").unlink()
    (torchrun.directory / "calls").unlink()
    train.main(asked.attempt(2))
    assert torchrun.called_with is None
    assert "recorded: True" in page(asked)


def test_a_process_that_fails_is_a_warning_on_the_page_of_a_run_that_succeeded(
    asked: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(samples, "_MODULE", ("-c", "import os; os.kill(os.getpid(), 9)"))
    _ = asked.context  # writes the configuration
    assert cli.main(["train", *asked.arguments]) == 0
    assert "evaluation.samples: the process was killed by signal 9" in page(asked)
    assert "Before and after" not in page(asked)


def test_an_earlier_number_of_samples_is_no_other_experiment(asked: Scene, torchrun: Torchrun) -> None:
    train.main(asked.context)
    (torchrun.directory / "calls").unlink()
    del asked.document["samples"]
    train.main(asked.attempt(2))
    assert torchrun.called_with is None
    assert "Before and after" not in page(asked)
