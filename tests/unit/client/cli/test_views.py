"""What is shown of runs in every state that was recorded; read the difference before you update a golden file."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest

from qwensft.api.v1alpha1 import Output, Outputs
from qwensft.cli.output import PLAIN, Paint
from qwensft.cli.views import comparison, listing, logs, preview, status
from qwensft.client import progress, words

from .conftest import GOLDEN, NOW, STATES, check_golden, recorded

LOSSES = [2.0, 1.9, 1.7, 1.75, 1.5, 1.45]


@pytest.mark.parametrize("state", STATES)
def test_the_status_of_a_run(state: str) -> None:
    check_golden(f"status/{state}.txt", status.text(recorded(state), NOW, LOSSES, PLAIN))


def test_the_lines_of_runs_where_nothing_can_be_drawn_anew() -> None:
    check_golden("lines.txt", "\n".join(progress.line(recorded(state)) for state in STATES))


def test_the_list_of_runs() -> None:
    jobs = [recorded(state) for state in STATES]
    check_golden("list.txt", listing.text(jobs, NOW, PLAIN))
    check_golden("list-of-all-namespaces.txt", listing.text(jobs[:2], NOW, PLAIN, namespaces=True))


def test_what_sets_two_runs_apart() -> None:
    check_golden("compare.txt", comparison.text(recorded("succeeded"), recorded("training"), PLAIN))
    pairs = comparison.document(recorded("succeeded"), recorded("training"))
    assert pairs["spec"]["distribution.nodes"] == ["-", "2"]
    assert pairs["outcome"]["phase"] == ["Succeeded", "Training"]
    assert not comparison.document(recorded("training"), recorded("training"))["spec"]


def test_golden_files_belong_to_tests() -> None:
    views = {"lines.txt", "list.txt", "list-of-all-namespaces.txt", "compare.txt", "preview.txt", "estimate.txt"}
    views |= {f"status/{state}.txt" for state in STATES} | {"check.txt", "job.yaml"}
    assert {str(path.relative_to(GOLDEN)) for path in GOLDEN.rglob("*.*")} == views


def test_colours_change_no_letter() -> None:
    coloured = status.text(recorded("training"), NOW, LOSSES, Paint(True))
    assert "\x1b[36m" in coloured
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == status.text(recorded("training"), NOW, LOSSES, PLAIN)


def test_a_long_sentence_is_wrapped_to_the_terminal() -> None:
    narrow = status.text(recorded("queued"), NOW, [], PLAIN, width=60)
    assert max(map(len, [row for row in narrow.splitlines() if "‖" not in row and "✓" not in row][1:])) <= 60


def test_a_run_that_nobody_has_looked_at_says_so() -> None:
    assert "has not looked at it" in status.text(recorded("blank"), NOW, [], PLAIN)


def test_an_edit_that_nobody_has_seen_is_told() -> None:
    assert "has not seen the newest edit" in status.text(recorded("stale"), NOW, [], PLAIN)


def test_accelerator_hours_say_what_is_worth_telling() -> None:
    job = recorded("restarting")
    usage = {"accelerator_seconds": 7200, "before_first_step_seconds": 20, "lost_to_restarts_seconds": 360}
    told = job.status.usage
    assert told is not None
    shown = status.text(job.replace(status=job.status.replace(usage=told.replace(**usage))), NOW, [], PLAIN)
    assert "\n  2.00 accelerator-hours, 0.10 lost to restarts, 1 restart of 3\n" in shown


def test_the_report_is_told_beside_the_results() -> None:
    job = recorded("succeeded")
    report = Output(claim_name="volume", path="demo-1/report.html", size_bytes=40_960)
    told = job.status.replace(outputs=(job.status.outputs or Outputs()).replace(report=report))
    shown = status.text(job.replace(status=told), NOW, [], PLAIN)
    assert shown.endswith("\n  report   demo-1/report.html on claim volume, 40.0 KiB")


def test_a_message_cannot_steer_the_terminal() -> None:
    job = recorded("failed")
    conditions = tuple(one.replace(message=f"{one.message}\x1b[2J\x07") for one in job.status.conditions)
    shown = status.text(job.replace(status=job.status.replace(conditions=conditions)), NOW, [], PLAIN)
    assert "\x1b" not in shown
    assert "\x07" not in shown


def test_a_message_is_one_line_that_cannot_steer_the_terminal() -> None:
    job = recorded("failed")
    conditions = tuple(one.replace(message="row 7:\n\x1b[2J\r\u202eno\toutput") for one in job.status.conditions)
    shown = progress.line(job.replace(status=job.status.replace(conditions=conditions)))
    assert shown == "Failed      InvalidDataset: row 7: �[2J �no output"


def test_preview_marks_what_is_learnt() -> None:
    parts = [{"text": "<|im_start|>user\nHi<|im_end|>\n", "learnt": False}, {"text": "Hello\x1b[1m", "learnt": True}]
    sample = {"dataset": "support", "place": "file rows.jsonl, row 1", "tokens": 12, "learntTokens": 3}
    samples = [sample | {"tokensBeforeCut": 20, "parts": parts}]
    check_golden("preview.txt", preview.text(samples, PLAIN))
    assert "\x1b[32mHello�[1m\x1b[0m" in preview.text(samples, Paint(True))


def test_ranks_have_colours_and_single_pods_none() -> None:
    assert logs.text("step 1\n", 1, 2, PLAIN) == "[1] step 1"
    assert logs.text("step 1", 0, 1, Paint(True)) == "step 1"
    assert logs.text("step 1", 3, 12, Paint(True)) == "\x1b[35m [3]\x1b[0m step 1"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0s"), (59.9, "59s"), (61, "1m01s"), (3600, "1h00m"), (200_000, "2d07h"), (-5, "0s")]
)
def test_durations(seconds: float, text: str) -> None:
    assert words.duration(seconds) == text
    assert words.between(NOW, NOW + timedelta(seconds=seconds)) == text


def test_sparklines_fall_with_the_loss() -> None:
    assert words.sparkline([4.0, 3.0, 2.0, 1.0], 4) == "█▆▃▁"
    assert words.sparkline([1.0], 4) == ""
    assert words.sparkline([2.0, 2.0], 4) == "▁▁"
    assert len(words.sparkline([float(number) for number in range(1000)], 24)) == 24
