"""How far a merge is: from what its pod tells while it runs, from its report when it is done."""

from typing import Any

import pytest

from qwensft.api.v1alpha1 import Progress, StageStatus
from qwensft_operator.plan.merge_progress import doing, live
from qwensft_operator.plan.types import Report, Scrape

from .builders import COMPLETE, FAILED, MERGE, TRAIN, Seen, child, failed, later, look, pod, scene

HALF = Scrape(bytes_done=3_100_000_000, bytes_total=6_200_000_000)
ALL = Scrape(bytes_done=6_200_000_000, bytes_total=6_200_000_000)


def merging(scrape: Scrape | None = HALF, **fields: Any) -> Seen:
    return look(scene(MERGE, observed={"scrape": scrape}, **fields))


def written(seen: Seen) -> tuple[int | None, int | None, str | None]:
    record = seen.stage(MERGE)
    return record.bytes_done, record.bytes_total, record.message


@pytest.mark.parametrize(
    ("done", "total", "words"),
    [
        (None, None, ""),
        (0, 6_200_000_000, "writing 0.0 of 6.2 GB"),
        (3_100_000_000, 6_200_000_000, "writing 3.1 of 6.2 GB"),
        (99_000_000_000, 470_200_000_000, "writing 99.0 of 470 GB"),
        (1_000_000, 20_000_000, "writing 1.0 of 20.0 MB"),
        (100, 2_000, "writing 0.1 of 2.0 kB"),
        (20, 20, "verifying"),
    ],
)
def test_what_a_merge_does_in_words(done: int | None, total: int | None, words: str) -> None:
    assert doing(StageStatus(bytes_done=done, bytes_total=total)) == words


def test_a_scrape_becomes_bytes_and_words() -> None:
    seen = merging()
    assert written(seen) == (3_100_000_000, 6_200_000_000, "writing 3.1 of 6.2 GB")
    assert seen.message == "Job support-merge-1 runs: writing 3.1 of 6.2 GB"
    seen = look(seen.then(scrape=ALL))
    assert written(seen) == (6_200_000_000, 6_200_000_000, "verifying")
    assert seen.events == [], "new words for the same state"


def test_the_same_bytes_are_not_written_again() -> None:
    assert look(merging().then(), later(minutes=1)).plan.status is None


@pytest.mark.parametrize(
    ("done", "moves"), [(149, False), (150, True), (50, True), (1000, True)], ids=["little", "enough", "anew", "all"]
)
def test_the_status_moves_by_a_twentieth(done: int, *, moves: bool) -> None:
    known = StageStatus(bytes_done=100, bytes_total=1000)
    assert live(known, Scrape(bytes_done=done, bytes_total=1000)).bytes_done == (done if moves else 100)


def test_a_scrape_that_fails_leaves_what_is_known() -> None:
    assert look(merging().then(scrape=None)).plan.status is None


@pytest.mark.parametrize(
    "scrape",
    [None, Scrape(), Scrape(bytes_done=5), Scrape(bytes_done=6, bytes_total=5), Scrape(bytes_done=-1, bytes_total=5)],
    ids=repr,
)
def test_a_pod_that_tells_nothing_of_use_merges_all_the_same(scrape: Scrape | None) -> None:
    seen = merging(scrape)
    assert written(seen) == (None, None, None)
    assert (seen.message, seen.plan.poll) == ("Job support-merge-1 runs", True)


def test_the_report_says_how_much_was_written() -> None:
    report = Report("Succeeded", metrics={"bytesDone": 7.0, "bytesTotal": 7.0})
    assert written(look(scene(MERGE, COMPLETE, pods=(pod(report=report),)))) == (7, 7, None)


def test_a_merge_whose_report_is_gone_has_written_everything() -> None:
    done = look(merging().then(children=(child(MERGE, COMPLETE),), scrape=None))
    assert written(done) == (6_200_000_000, 6_200_000_000, None)


def test_of_an_older_image_no_bytes_are_known() -> None:
    report = Report("Succeeded", outputs={"merged": {"path": "run/merged"}})
    assert written(look(scene(MERGE, COMPLETE, pods=(pod(report=report),)))) == (None, None, None)


def test_another_attempt_begins_without_bytes_and_keeps_the_cause_in_view() -> None:
    again = look(merging().then(children=(child(MERGE, FAILED),), scrape=None, pods=(failed(message="boom"),)))
    assert written(again)[:2] == (None, None)
    running = look(again.then(children=(child(MERGE, attempt=2),), scrape=HALF, pods=()))
    assert running.stage(MERGE).reason == "MergeFailed"
    assert "boom" in running.stage(MERGE).message
    assert running.message == "Job support-merge-2 runs: writing 3.1 of 6.2 GB"


def test_merging_again_begins_without_bytes() -> None:
    done = look(merging(ALL).then(children=(child(MERGE, COMPLETE),), scrape=None))
    assert written(look(done.then(spec={"merge": {"dtype": "fp32"}}))) == (None, None, None)


def test_a_merge_brings_no_pace_of_the_training_back() -> None:
    seen = merging(status={"progress": Progress(step=9, total_steps=9, eta="1m", tokens_per_second=5.0)})
    assert (seen.status.progress.step, seen.status.progress.eta) == (9, None)
    assert seen.status.progress.tokens_per_second is None


def test_no_other_stage_has_bytes() -> None:
    seen = look(scene(TRAIN, observed={"scrape": HALF}))
    assert (seen.stage(TRAIN).bytes_done, seen.stage(TRAIN).message, seen.status.progress) == (None, None, None)
