"""Whatever happens to a run, at whatever moment: it is alone, its attempts are counted right, in the end it ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qwensft.api.v1alpha1 import Phase, Stage

from .cluster import OVER
from .cuts import CutCluster
from .trial import Trial

# What may happen next, and how often compared with the rest. A number goes with each.
_HAPPENINGS = {
    "reconcile": 8,
    "go_well": 2,
    "go_badly": 4,
    "crash": 6,
    "race": 4,
    "suspend": 3,
    "resume": 4,
    "change_merge": 3,
    "switch_merge": 1,
    "edit_worker": 3,
    "delete_by_hand": 2,
    "delete_in_background": 3,
    "orphan_pods": 2,
    "take_off_labels": 2,
    "take_off_owner": 1,
    "apply_again": 2,
    "strays_end": 3,
    "clean_up": 1,
    "pods_start": 2,
    "complete": 1,
    "half_schedule": 2,
    "hold": 2,
    "release": 3,
    "hold_unseen": 2,
    "fail": 4,
    "evict": 3,
    "reject": 2,
    "fail_for_good": 1,
    "outlive": 2,
    "get_stuck": 1,
    "pods_stop": 6,
    "pods_vanish": 1,
    "lose_node": 1,
    "delete_node": 2,
    "switch_quota": 1,
    "switch_claim": 1,
    "switch_rows": 1,
    "wait": 4,
    "time_passes": 2,
    "retry": 3,
    "lose_answer": 4,
    "answer_slowly": 2,
    "set_clock": 1,
}
_AFTER_THE_END = 8  # happenings that a finished run must stand
SCRIPTS = st.lists(
    st.tuples(st.sampled_from([name for name, often in _HAPPENINGS.items() for _ in range(often)]), st.integers(0, 9)),
    min_size=25,
    max_size=60,
)
POLICIES = st.fixed_dictionaries(
    {"maxRestarts": st.integers(0, 2)},
    optional={"activeDeadlineSeconds": st.just(600), "ttlSecondsAfterFinished": st.sampled_from([0, 60])},
)


def survive(policy: dict[str, Any], script: list[tuple[str, int]], *, merge: bool, head_start: int) -> None:
    """Play a script on a run that has gone well for a while; everything that must hold is asserted."""
    trial = Trial(policy, merge=merge)
    for _ in range(head_start):
        trial.go_well(0)
    patience = _AFTER_THE_END
    for happening, number in script:
        getattr(trial, happening)(number)
        trial.check()
        patience = patience - 1 if trial.cluster.phase in OVER else _AFTER_THE_END
        if patience == 0:
            break
    trial.come_to_rest()
    trial.check()
    trial.check_merged_as_asked()
    trial.succeed_at_last()
    trial.check()
    trial.check_merged_as_asked()


@settings(max_examples=200)
@given(policy=POLICIES, merge=st.booleans(), head_start=st.integers(0, 7), script=SCRIPTS)
def test_a_run_survives_whatever_happens(
    policy: dict[str, Any], *, merge: bool, head_start: int, script: list[tuple[str, int]]
) -> None:
    survive(policy, script, merge=merge, head_start=head_start)


def meet_a_clock_that_is_set_back() -> None:
    """Set the clock back by an hour while the next attempt is waited for."""
    script = [("fail", 0), ("pods_stop", 0), ("reconcile", 0), ("set_clock", 0), ("reconcile", 0)]
    survive({"maxRestarts": 2}, script, merge=True, head_start=1)


def meet_a_hold_that_nobody_sees() -> None:
    """Let an attempt fail, with no pod left to tell why, that a queue had held for a moment."""
    script = [("hold_unseen", 0), ("fail", 0), ("pods_vanish", 0), ("pods_stop", 0), ("reconcile", 0)]
    survive({"maxRestarts": 2}, script, merge=True, head_start=1)


def meet_a_failure_that_came_while_nobody_looked() -> None:
    """Let a pass die that has made the training's Job, and a node refuse its pods before the next one."""
    script = [("complete", 0), ("crash", 3), ("reject", 0), ("pods_stop", 0), ("reconcile", 0), ("reconcile", 0)]
    survive({"maxRestarts": 2}, script, merge=True, head_start=1)


def meet_a_queue() -> None:
    """Let a queue hold an attempt for a while, and another one later."""
    held = [("hold", 0), ("reconcile", 0), ("time_passes", 5), ("reconcile", 0), ("release", 0), ("reconcile", 0)]
    survive({"maxRestarts": 2}, [*held, *[("go_well", 0)] * 3, *held], merge=True, head_start=1)


@pytest.mark.parametrize(
    "meeting",
    [
        meet_a_clock_that_is_set_back,
        meet_a_hold_that_nobody_sees,
        meet_a_failure_that_came_while_nobody_looked,
        meet_a_queue,
    ],
)
def test_a_run_survives(meeting: Callable[[], None]) -> None:
    meeting()


def _whole_run(cut_at: int | None = None, *, lands: bool = False) -> CutCluster:
    """Play a run of which the first training fails, with an operator that dies at one of all its writes."""
    trial = Trial({"maxRestarts": 2}, merge=True)
    trial.cluster.cut_at, trial.cluster.lands = cut_at, lands
    for _ in range(60):
        trial.reconcile(0)
        failed = trial.cluster.newest.get(Stage.TRAIN) == 1 and trial.cluster.active(Stage.TRAIN)
        if failed and failed[0].ready and not failed[0].cause:
            trial.fail(0)
        else:
            trial.cluster.move_on()
        trial.time_passes(1)
        trial.check()
        if trial.cluster.phase in OVER:
            return trial.cluster
    raise AssertionError("the run does not end")


def test_an_operator_that_dies_before_or_after_any_write_leaves_what_an_undisturbed_one_leaves() -> None:
    expected = _whole_run()
    assert (expected.phase, expected.newest) == (
        Phase.SUCCEEDED,
        {Stage.PREPARE: 1, Stage.TRAIN: 2, Stage.MERGE: 1},
    )
    for cut_at in range(expected.writes):
        for lands in (False, True):
            left = _whole_run(cut_at, lands=lands)
            assert (left.phase, left.newest, left.jobs.keys()) == (
                expected.phase,
                expected.newest,
                expected.jobs.keys(),
            )
            assert left.status["restarts"] == expected.status["restarts"] == 1
            assert left.status["outputs"] == expected.status["outputs"]
