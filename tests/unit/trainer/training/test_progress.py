"""Speed, remaining time and losses are right from the first step, also after a resume."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from qwensft_trainer.base.metrics_server import render
from qwensft_trainer.training import progress
from qwensft_trainer.training.figures import Reader, figures
from qwensft_trainer.training.progress import Attempt, Progress, Tracker

from ..conftest import UNREADABLE


def test_nothing_is_claimed_before_the_first_step() -> None:
    first = Tracker(step=0, total_steps=100, now=50.0, wall=1.7e9).progress
    assert (first.loss, first.tokens_per_second, first.estimated_remaining_seconds) == (None, None, None)


def test_remaining_time_and_speed_follow_from_the_steps() -> None:
    tracker = Tracker(step=0, total_steps=100, now=0.0, wall=1.7e9)
    tracker.step_done(step=10, epoch=0.1, now=20.0, wall=1.7e9)
    now = tracker.tokens_counted(tokens=5000, places=8000, now=20.0)
    assert now.estimated_remaining_seconds == pytest.approx(180.0)
    assert now.tokens_per_second == pytest.approx(250.0)
    assert now.attempt.padding_share == pytest.approx(0.375)


def test_after_a_resume_only_this_processs_steps_count() -> None:
    tracker = Tracker(step=90, total_steps=100, now=1000.0, wall=1.7e9)
    tracker.step_done(step=91, epoch=0.91, now=1010.0, wall=1.7e9)
    now = tracker.tokens_counted(tokens=1000, places=1000, now=1010.0)
    assert now.estimated_remaining_seconds == pytest.approx(90.0)
    assert now.tokens_per_second == pytest.approx(100.0)
    assert (now.attempt.from_step, now.attempt.padding_share) == (90, 0.0)


def test_the_first_step_counts_only_until_there_is_another() -> None:
    tracker = Tracker(step=5, total_steps=105, now=0.0, wall=1.7e9)
    first = tracker.step_done(step=6, epoch=None, now=300.0, wall=1.7e9)
    tracker.tokens_counted(tokens=1000, places=1000, now=300.0)
    assert first.estimated_remaining_seconds == pytest.approx(99 * 300.0)
    second = tracker.step_done(step=7, epoch=None, now=302.0, wall=1.7e9)
    assert second.estimated_remaining_seconds == pytest.approx(98 * 2.0)
    for step in range(8, 16):
        tracker.step_done(step=step, epoch=None, now=302.0 + (step - 7) * 2, wall=1.7e9)
    # The next count comes with the next log line, ten steps later.
    assert tracker.tokens_counted(tokens=10_000, places=1, now=318.0).tokens_per_second == pytest.approx(500.0)


def test_the_speed_follows_a_change() -> None:
    tracker = Tracker(step=0, total_steps=1000, now=0.0, wall=1.7e9)
    for step in range(1, 101):
        tracker.step_done(step=step, epoch=None, now=float(step), wall=1.7e9)
        tracker.tokens_counted(tokens=step * 100, places=step * 100, now=float(step))
    for step in range(101, 201):
        now = 100.0 + (step - 100) * 10
        tracker.step_done(step=step, epoch=None, now=now, wall=1.7e9)
        last = tracker.tokens_counted(tokens=step * 100, places=step * 100, now=now)
    assert last.estimated_remaining_seconds == pytest.approx(8000.0)
    assert last.tokens_per_second == pytest.approx(10.0)


def test_a_clock_on_the_wall_that_is_set_changes_no_speed() -> None:
    tracker = Tracker(step=0, total_steps=10, now=100.0, wall=1.7e9)
    tracker.step_done(step=1, epoch=None, now=101.0, wall=1.7e9 + 1)
    last = tracker.step_done(step=2, epoch=None, now=102.0, wall=1.6e9)
    assert last.estimated_remaining_seconds == pytest.approx(8.0)
    assert last.last_update_timestamp_seconds == 1.6e9


def test_the_first_loss_survives_a_resume() -> None:
    tracker = Tracker(step=2, total_steps=9, now=0.0, wall=1.7e9)
    tracker.restore_losses([{"loss": 15.0}, {"eval_loss": 3.0}, {"loss": math.nan}, {"loss": 9.0}])
    assert (tracker.progress.initial_loss, tracker.progress.loss) == (15.0, 9.0)
    assert tracker.logged({"loss": 7.0}).initial_loss == 15.0


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_no_number_is_flagged_and_the_last_good_one_kept(bad: float) -> None:
    tracker = Tracker(step=0, total_steps=9, now=0.0, wall=1.7e9)
    tracker.logged({"loss": 3.0, "learning_rate": 1e-5})
    now = tracker.logged({"loss": bad})
    assert (now.loss, now.non_finite_loss, now.learning_rate) == (3.0, True, 1e-5)
    assert not tracker.logged({"loss": 2.0}).non_finite_loss


def test_the_last_log_of_a_run_without_a_loss_changes_none() -> None:
    tracker = Tracker(step=0, total_steps=9, now=0.0, wall=1.7e9)
    tracker.logged({"loss": 3.0})
    assert tracker.logged({"train_runtime": 7.0}).loss == 3.0


def test_progress_survives_the_file(tmp_path: Path) -> None:
    path = tmp_path / "progress.json"
    assert progress.read(path) is None
    attempt = Attempt(training_timestamp_seconds=1.7e9, from_step=1, padding_share=0.5)
    written = Progress(step=3, total_steps=10, loss=0.5, non_finite_loss=True, device="NVIDIA H200", attempt=attempt)
    progress.write(path, written)
    assert progress.read(path) == written


def test_metrics_have_the_operators_names_and_leave_out_the_unknown(tmp_path: Path) -> None:
    path = tmp_path / "progress.json"
    reader = Reader(path, started=1.6e9, processes=2, flops_per_token=1e10)
    assert render(figures(reader.read)) == b""
    known = {"step": 120, "total_steps": 500, "loss": 0.25, "last_update_timestamp_seconds": 1.7e9}
    progress.write(path, Progress(**known, tokens_per_second=49450.0, device="NVIDIA H100 80GB HBM3"))  # type: ignore[arg-type]
    lines = [line for line in render(figures(reader.read)).decode().splitlines() if not line.startswith("#")]
    assert lines == [
        "qwensft_train_step 120.0",
        "qwensft_train_total_steps 500.0",
        "qwensft_train_loss 0.25",
        "qwensft_train_tokens_per_second 49450.0",
        "qwensft_train_last_update_timestamp_seconds 1.7e+09",
        "qwensft_train_non_finite_loss 0.0",
        "qwensft_train_attempt_started_timestamp_seconds 1.6e+09",
        "qwensft_train_attempt_model_flops_utilization 0.25",
    ]


def test_after_a_resume_the_last_evaluation_is_known() -> None:
    tracker = Tracker(step=4, total_steps=10, now=0.0, wall=1.7e9)
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


@pytest.mark.parametrize(
    ("device", "flops", "tokens"),
    [("Unheard Of 9000", 1e10, 100.0), (None, 1e10, 100.0), ("NVIDIA H200", None, 100.0), ("NVIDIA H200", 1e10, None)],
)
def test_nothing_is_claimed_of_accelerators_that_are_not_known(
    tmp_path: Path, device: str | None, flops: float | None, tokens: float | None
) -> None:
    path = tmp_path / "progress.json"
    progress.write(path, Progress(device=device, tokens_per_second=tokens))
    known = Reader(path, started=0.0, processes=1, flops_per_token=flops).read()
    assert known is not None
    assert known.attempt.model_flops_utilization is None
