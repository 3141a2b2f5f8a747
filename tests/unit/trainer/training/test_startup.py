"""The start is told by its parts, whichever process has seen them."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from qwensft_trainer.training import progress, startup
from qwensft_trainer.training.figures import Reader
from qwensft_trainer.training.startup import Marks


def test_each_part_lasts_from_the_end_of_the_one_before() -> None:
    entrypoint, worker = {"checks": 101.0, "gang": 111.0}, {"imports": 126.0, "rendezvous": 127.0, "setup": 137.0}
    lengths = startup.seconds(100.0, entrypoint, worker)
    assert lengths == {"checks": 1.0, "gang": 10.0, "imports": 15.0, "rendezvous": 1.0, "setup": 10.0}


def test_what_has_not_ended_is_not_told() -> None:
    assert startup.seconds(100.0, {"checks": 101.0}, {}) == {"checks": 1.0}


def test_a_start_begins_with_the_process() -> None:
    program = "import time; time.sleep(0.3)\nfrom qwensft_trainer.training import startup\nprint(startup.process_age())"
    before = time.monotonic()
    age = float(subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout)
    assert 0.3 <= age <= time.monotonic() - before + 0.02  # the system counts in hundredths


def test_a_worker_leaves_its_marks_at_once(tmp_path: Path) -> None:
    path = tmp_path / "startup.json"
    marks = Marks(path, clock=lambda: 7.5)
    marks.mark(startup.IMPORTED)
    assert json.loads(path.read_text()) == {"imports": 7.5}


def test_the_workflow_is_followed_and_does_what_it_did() -> None:
    ticks = iter(range(100))
    calls: list[Any] = []

    def does(name: str) -> Any:
        def called(*arguments: Any, **named: Any) -> str:
            calls.append((name, arguments, named))
            return name

        return called

    workflow = SimpleNamespace(**{name: does(name) for name in ("load_tokenizer", "get_dataset", "load_model")})
    marks = Marks(clock=lambda: float(next(ticks)))
    startup.follow_workflow(workflow, marks)
    answers = [workflow.load_tokenizer(1), workflow.get_dataset(stage="sft"), workflow.load_model(2, x=3)]
    assert answers == ["load_tokenizer", "get_dataset", "load_model"]
    assert calls[1] == ("get_dataset", (), {"stage": "sft"})
    assert marks.times == {"rendezvous": 0.0, "data": 1.0, "model": 2.0}


@pytest.fixture
def reader(tmp_path: Path) -> Reader:
    """Of a training that has begun."""
    progress.write(tmp_path / "progress.json", progress.Progress(step=1))
    return Reader(tmp_path / "progress.json", 1.7e9, 1, startup=tmp_path / "startup.json", began=100.0)


def test_the_figures_have_the_parts_of_both_processes(reader: Reader) -> None:
    assert reader.startup is not None
    reader.marks.times.update(checks=100.5, gang=101.0)
    reader.startup.write_text(json.dumps({"imports": 111.0}))
    known = reader.read()
    assert known is not None
    attempt = known.attempt
    assert (attempt.checks_seconds, attempt.gang_seconds, attempt.imports_seconds) == (0.5, 0.5, 10.0)
    assert attempt.model_seconds is None
