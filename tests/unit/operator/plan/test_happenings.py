"""What counters are moved by: the difference between two statuses."""

from typing import Any

from qwensft.api.v1alpha1 import Stage
from qwensft_operator.plan.happenings import Happenings, happenings

MORNING, NOON = "2026-01-02T06:00:00Z", "2026-01-02T12:00:00Z"


def training(**record: Any) -> dict[str, Any]:
    return {"stages": {"train": record}}


def test_another_attempt_after_a_failed_one_is_a_restart() -> None:
    again = training(attempt=2, failedAttempt=1, reason="OutOfMemory")
    assert happenings(training(attempt=1), again) == Happenings(restarts=((Stage.TRAIN, "OutOfMemory"),))
    assert happenings(training(), again).restarts == ((Stage.TRAIN, "OutOfMemory"),), "the first has no number yet"


def test_a_failure_that_is_told_before_the_pods_have_ended_is_counted_with_the_next_attempt_alone() -> None:
    failing = training(attempt=1, failedAttempt=1, reason="NodeLost")
    again = training(attempt=2, failedAttempt=1, reason="NodeLost")
    assert happenings(training(attempt=1), failing) == Happenings()
    assert happenings(failing, again).restarts == ((Stage.TRAIN, "NodeLost"),)
    assert happenings(again, again | {"phase": "Restarting"}) == Happenings()


def test_an_attempt_after_a_suspension_or_a_retry_by_hand_is_none() -> None:
    assert happenings(training(attempt=1), training(attempt=2)) == Happenings()
    failed = training(attempt=1, failedAttempt=1, reason="DiskFull")
    assert happenings(failed, training(attempt=2)) == Happenings()


def test_a_reason_of_another_version_makes_no_new_series() -> None:
    again = training(attempt=2, failedAttempt=1, reason="TooClever")
    assert happenings({}, again).restarts == ((Stage.TRAIN, "Other"),)


def test_a_stage_is_done_once_and_a_merge_again_when_it_was_made_again() -> None:
    done = training(startTime=MORNING, completionTime=NOON)
    assert happenings(training(startTime=MORNING), done).stages == ((Stage.TRAIN, 6 * 3600.0),)
    assert happenings(done, done).stages == ()
    later = training(startTime=MORNING, completionTime="2026-01-02T13:00:00Z")
    assert happenings(done, later).stages == ((Stage.TRAIN, 7 * 3600.0),)


def test_a_run_ends_once() -> None:
    ended = {"phase": "Failed", "completionTime": NOON}
    assert happenings({"phase": "Training"}, ended).end == "Failed"
    assert happenings(ended, ended).end is None
    assert happenings(ended, {"phase": "Merging"}).end is None


def test_accelerator_time_is_what_the_totals_have_grown_by() -> None:
    before = {"usage": {"acceleratorSeconds": 100, "beforeFirstStepSeconds": 40, "lostToRestartsSeconds": 5}}
    after = {"usage": {"acceleratorSeconds": 160, "beforeFirstStepSeconds": 30, "lostToRestartsSeconds": 5}}
    assert happenings(before, after) == Happenings(held=60), "a total that was corrected downwards takes nothing back"
    assert happenings({}, after) == Happenings(held=160, before_first_step=30, lost_to_restarts=5)
