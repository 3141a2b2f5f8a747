"""What past attempts leave is bounded, and nothing that is needed goes."""

from dataclasses import replace

from qwensft_operator.plan.types import JobState

from .builders import COMPLETE, FAILED, MERGE, TRAIN, child, look, scene


def start(attempt: int, *children: tuple[int, JobState], config_maps: tuple[str, ...] = ()) -> list[str]:
    """The actions by which an attempt of the training starts beside earlier ones."""
    reserved = scene(TRAIN, None, attempt=attempt, recorded=False, observed={"config_maps": frozenset(config_maps)})
    earlier = tuple(child(TRAIN, state, number, ready=0) for number, state in children)
    return look(replace(reserved, children=earlier)).actions


def test_the_last_three_attempts_stay() -> None:
    assert start(3, (1, FAILED), (2, FAILED)) == ["EnsureConfigMap train-3", "CreateJob train-3"]
    begin = ["EnsureConfigMap train-4", "CreateJob train-4"]
    assert start(4, (1, FAILED), (2, FAILED), (3, FAILED)) == ["ForgetAttempt train-1", *begin]


def test_a_number_whose_job_is_gone_is_seen_to_for_its_config_map() -> None:
    assert start(9, (8, FAILED))[0] == "ForgetAttempt train-6"


def test_a_number_that_never_started_is_seen_to_whenever_its_config_map_is_found() -> None:
    left = tuple(f"support-train-{number}" for number in (1, 2, 4, 7, 8))
    others = ("support-merge-2", "support-train-2-notes", "support-train-x")
    assert start(9, (8, FAILED), config_maps=left + others)[:-2] == [
        "ForgetAttempt train-2",
        "ForgetAttempt train-4",
        "ForgetAttempt train-6",
    ]


def test_what_could_not_be_removed_before_is_removed_now() -> None:
    assert start(9, (2, FAILED), (5, COMPLETE), (7, FAILED))[:3] == [
        "ForgetAttempt train-2",
        "ForgetAttempt train-5",
        "ForgetAttempt train-6",
    ]


def test_other_stages_are_left_alone() -> None:
    reserved = scene(MERGE, None, attempt=5, recorded=False)
    seen = look(replace(reserved, children=(child(TRAIN, COMPLETE, 1), child(MERGE, FAILED, 1))))
    assert seen.actions[:2] == ["ForgetAttempt merge-1", "ForgetAttempt merge-2"]
    assert not any("train" in action for action in seen.actions)
