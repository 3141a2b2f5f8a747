"""Speed, remaining time and losses are right from the first step, also after a resume."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from qwensft_trainer.base.metrics_server import render
from qwensft_trainer.training import progress
from qwensft_trainer.training.figures import figures
from qwensft_trainer.training.progress import Progress, Tracker

from ..conftest import UNREADABLE


def test_nothing_is_claimed_before_the_first_step() -> None:
    first = Tracker(step=0, total_steps=100, tokens=0, now=50.0).progress
    assert (first.loss, first.tokens_per_second, first.estimated_remaining_seconds) == (None, None, None)


def test_remaining_time_and_speed_follow_from_the_steps() -> None:
    tracker = Tracker(step=0, total_steps=100, tokens=0, now=0.0)
    now = tracker.step_done(step=10, epoch=0.1, tokens=5000, now=20.0)
    assert now.estimated_remaining_seconds == pytest.approx(180.0)
    assert now.tokens_per_second == pytest.approx(250.0)


def test_after_a_resume_only_this_processs_steps_count() -> None:
    tracker = Tracker(step=90, total_steps=100, tokens=90_000, now=1000.0)
    now = tracker.step_done(step=91, epoch=0.91, tokens=91_000, now=1010.0)
    assert now.estimated_remaining_seconds == pytest.approx(90.0)
    assert now.tokens_per_second == pytest.approx(100.0)


def test_the_speed_follows_a_change() -> None:
    tracker = Tracker(step=0, total_steps=1000, tokens=0, now=0.0)
    for step in range(1, 101):
        tracker.step_done(step=step, epoch=None, tokens=0, now=float(step))
    for step in range(101, 201):
        last = tracker.step_done(step=step, epoch=None, tokens=0, now=100.0 + (step - 100) * 10)
    assert last.estimated_remaining_seconds == pytest.approx(8000.0)


def test_the_first_loss_survives_a_resume() -> None:
    tracker = Tracker(step=2, total_steps=9, tokens=0, now=0.0)
    tracker.restore_losses([{"loss": 15.0}, {"eval_loss": 3.0}, {"loss": math.nan}, {"loss": 9.0}])
    assert (tracker.progress.initial_loss, tracker.progress.loss) == (15.0, 9.0)
    assert tracker.logged({"loss": 7.0}).initial_loss == 15.0


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_no_number_is_flagged_and_the_last_good_one_kept(bad: float) -> None:
    tracker = Tracker(step=0, total_steps=9, tokens=0, now=0.0)
    tracker.logged({"loss": 3.0, "learning_rate": 1e-5})
    now = tracker.logged({"loss": bad})
    assert (now.loss, now.non_finite_loss, now.learning_rate) == (3.0, True, 1e-5)
    assert not tracker.logged({"loss": 2.0}).non_finite_loss


def test_the_last_log_of_a_run_without_a_loss_changes_none() -> None:
    tracker = Tracker(step=0, total_steps=9, tokens=0, now=0.0)
    tracker.logged({"loss": 3.0})
    assert tracker.logged({"train_runtime": 7.0}).loss == 3.0


def test_progress_survives_the_file(tmp_path: Path) -> None:
    path = tmp_path / "progress.json"
    assert progress.read(path) is None
    written = Progress(step=3, total_steps=10, loss=0.5, non_finite_loss=True)
    progress.write(path, written)
    assert progress.read(path) == written


def test_metrics_have_the_operators_names_and_leave_out_the_unknown(tmp_path: Path) -> None:
    path = tmp_path / "progress.json"
    assert render(figures(path)) == b""
    progress.write(path, Progress(step=120, total_steps=500, loss=0.25, last_update_timestamp_seconds=1.7e9))
    lines = [line for line in render(figures(path)).decode().splitlines() if not line.startswith("#")]
    assert lines == [
        "qwensft_train_step 120.0",
        "qwensft_train_total_steps 500.0",
        "qwensft_train_loss 0.25",
        "qwensft_train_last_update_timestamp_seconds 1.7e+09",
        "qwensft_train_non_finite_loss 0.0",
    ]


def test_after_a_resume_the_last_evaluation_is_known() -> None:
    tracker = Tracker(step=4, total_steps=10, tokens=0, now=0.0)
    tracker.restore_losses([{"loss": 4.0}, {"eval_loss": 3.0}, {"loss": 2.0}, {"eval_loss": 2.5}])
    assert (tracker.progress.initial_loss, tracker.progress.loss, tracker.progress.eval_loss) == (4.0, 2.0, 2.5)


def test_the_log_goes_on_where_the_checkpoint_was_made(tmp_path: Path) -> None:
    old, new = tmp_path / "1", tmp_path / "2"
    old.mkdir()
    lines = [json.dumps({"current_steps": step, "loss": 1.0}) for step in (1, 2, 3)]
    (old / "trainer_log.jsonl").write_text("\n".join([*lines, '{"current_st']))
    progress.continue_log(old / "checkpoint-2", new)
    assert (new / "trainer_log.jsonl").read_text().splitlines() == lines[:2]


def test_an_attempt_that_logged_nothing_is_no_error(tmp_path: Path) -> None:
    progress.continue_log(tmp_path / "1" / "checkpoint-2", tmp_path / "2")
    assert not (tmp_path / "2").exists()


def test_a_log_that_cannot_be_read_now_is_no_missing_one(tmp_path: Path) -> None:
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "trainer_log.jsonl").symlink_to(UNREADABLE)
    with pytest.raises(OSError, match="Input/output error"):
        progress.continue_log(tmp_path / "1" / "checkpoint-2", tmp_path / "2")
