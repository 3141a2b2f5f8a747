"""Whatever becomes of the process that answers: the training has its result, and the file says why it is not all."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from qwensft_trainer.contract import workspace
from qwensft_trainer.contract.errors import Interrupted
from qwensft_trainer.training import samples
from qwensft_trainer.training.samples import Samples

from ..conftest import Scene

TEXT = "a text of a row"
ANSWERS = """
    one = {"row": 1, "prompt": "TEXT", "wanted": "w", "before": {"text": "b", "complete": True}}
    told = {"source": "evaluation", "rows": 9, "newTokens": 512, "samples": [one]}
    json.dump(told, open(task["target"], "w"))
""".replace("TEXT", TEXT)
RECORDED = {"directory": "train/1", "completedAt": "2026-11-30T12:00:00+00:00"}


@pytest.fixture
def trained(scene: Scene) -> Scene:
    workspace.claim(scene.run)
    (scene.run_directory / "prepare.json").write_text('{"template": "qwen3"}')
    (scene.run_directory / "train.json").write_text(json.dumps(RECORDED))
    scene.document["samples"] = {"count": 2}
    return scene


Does = Callable[[str], None]


@pytest.fixture
def process(monkeypatch: pytest.MonkeyPatch) -> Does:
    """Let the process that answers do something else."""

    def does(body: str) -> None:
        head = "import json, os, sys, time\ntask = json.load(open(sys.argv[1]))\n"
        monkeypatch.setattr(samples, "_MODULE", ("-c", head + textwrap.dedent(body)))

    does(ANSWERS)
    return does


def left(trained: Scene, **more: Any) -> Samples:
    """What is on the volume after the end of the training."""
    samples.leave(trained.run, trained.train, trained.context.scratch, **more)
    found = samples.read(trained.run, RECORDED)
    assert found is not None
    return found


def test_what_was_generated_is_left_with_the_result_that_it_is_of(
    trained: Scene, process: Does, capfd: pytest.CaptureFixture[str]
) -> None:
    found = left(trained)
    assert (found.asked, found.rows, found.source, found.why) == (2, 9, "evaluation", None)
    assert found.samples[0].prompt == TEXT
    assert found.is_of(RECORDED)
    assert not found.is_of(RECORDED | {"completedAt": "2026-12-01T12:00:00+00:00"})
    assert TEXT not in capfd.readouterr().out


def test_the_process_is_told_where_base_and_result_lie(trained: Scene, process: Does) -> None:
    process('json.dump({"why": json.dumps(task)}, open(task["target"], "w"))')
    told = json.loads(left(trained).why or "")
    assert told["base"] == str(trained.run.model.path)
    assert told["trained"] == str(trained.run_directory / "train" / "1")
    assert (told["adapter"], told["count"]) == (True, 2)
    assert told["arguments"]["template"] == "qwen3"
    assert told["arguments"]["model_name_or_path"] == told["base"]


def test_of_an_adapter_that_is_trained_on_the_process_puts_the_copy_onto_the_base(
    trained: Scene, process: Does
) -> None:
    trained.document["version"] = 4
    adapter = {"name": "first", "uid": "uid-0", "digest": "sha256:0", "path": "/adapter/train/1"}
    trained.document["model"] |= {"adapter": adapter}
    trained.train["adapter_name_or_path"] = str(trained.run.adapter_directory)
    process('json.dump({"why": json.dumps(task)}, open(task["target"], "w"))')
    told = json.loads(left(trained).why or "")
    assert told["begunWith"] == str(trained.run.adapter_directory)
    assert "adapter_name_or_path" not in told["arguments"]


def test_nothing_is_begun_that_nobody_asks_for(trained: Scene, process: Does) -> None:
    del trained.document["samples"]
    samples.leave(trained.run, trained.train, trained.context.scratch)
    assert not (trained.run_directory / "samples.json").exists()


def test_they_are_generated_once_for_a_result_unless_another_number_is_asked_for(trained: Scene, process: Does) -> None:
    first = left(trained)
    process("sys.exit(1)")
    assert left(trained) == first
    trained.document["samples"] = {"count": 3}
    assert left(trained).why == "the process ended with exit code 1"


def test_what_ended_the_pod_meanwhile_is_not_begun_again(trained: Scene, process: Does) -> None:
    process("time.sleep(60)")
    with pytest.raises(Interrupted):
        samples.leave(trained.run, trained.train, trained.context.scratch, _interrupt)
    process(ANSWERS)
    assert left(trained).why == "the pod ended while they were generated"


def _interrupt() -> bool:
    raise Interrupted("as SIGTERM does before there are workers")


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("os.kill(os.getpid(), 9)", "the process was killed by signal 9, mostly for want of memory"),
        ("sys.exit(3)", "the process ended with exit code 3"),
        ("pass", "nothing was generated"),
        ('open(task["target"], "w").write("[]")', "nothing was generated"),
        ('json.dump({"why": "ValueError in x.py, f"}, open(task["target"], "w"))', "ValueError in x.py, f"),
    ],
)
def test_why_nothing_was_generated_is_left(trained: Scene, process: Does, body: str, why: str) -> None:
    process(body)
    found = left(trained)
    assert (found.why, found.samples) == (why, ())


def test_what_is_there_when_the_time_is_over_is_left(
    trained: Scene, process: Does, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(samples, "ALLOWED_SECONDS", 1.0)
    monkeypatch.setattr(samples, "_MORE_SECONDS", 0.0)
    process(f"{textwrap.dedent(ANSWERS)}\ntime.sleep(60)")
    found = left(trained)
    assert found.why == "it took longer than 1 s"
    assert len(found.samples) == 1
    assert 1 <= (found.seconds or 0) < 30


def test_a_pod_that_is_asked_to_stop_waits_no_longer(trained: Scene, process: Does) -> None:
    process("time.sleep(60)")
    found = left(trained, is_stopping=lambda: True)
    assert found.why == "the pod was asked to stop"
    assert (found.seconds or 0) < 30


def test_what_cannot_be_written_is_a_line_in_the_log(
    trained: Scene, process: Does, capfd: pytest.CaptureFixture[str]
) -> None:
    (trained.run_directory / "samples.json").mkdir()
    samples.leave(trained.run, trained.train, trained.context.scratch)
    assert "warning: no samples: IsADirectoryError" in capfd.readouterr().out


def test_a_directory_that_another_job_has_taken_over_is_left_alone(trained: Scene, process: Does) -> None:
    marker = trained.run_directory / ".qwensft-owner.json"
    marker.write_text(json.dumps(json.loads(marker.read_text()) | {"uid": "another"}))
    samples.leave(trained.run, trained.train, trained.context.scratch)
    assert not (trained.run_directory / "samples.json").exists()


@pytest.mark.parametrize("text", ["", "[]", '{"samples": 7}', '{"directory": "train/1", "asked": "many"}'])
def test_a_strange_file_is_none(trained: Scene, process: Does, text: str) -> None:
    Path(trained.run_directory, "samples.json").write_text(text)
    assert samples.read(trained.run, RECORDED) is None
    assert left(trained).samples
