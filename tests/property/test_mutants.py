"""Operators with one mistake each: the tests of this folder find every one of them, or they prove nothing.

ADR 0111 says why.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import run_state_machine_as_test
from tests.faults.wire import Cut
from tests.unit.operator.runtime import test_leader

from qwensft.api.v1alpha1 import Reason
from qwensft_operator.plan import decide, leftovers, needs, policies, queueing, retry, source_run, starting, views
from qwensft_operator.plan.causes import Cause
from qwensft_operator.plan.run import Run
from qwensft_operator.plan.step import LOOK_AGAIN, Step, adopted
from qwensft_operator.plan.types import Event, JobState, Leftover
from qwensft_operator.runtime import status
from qwensft_operator.runtime.execute import Executor
from qwensft_operator.runtime.kube import JOBS, QWENSFTJOBS, Kube, Manifest, Resource
from qwensft_operator.runtime.leader import Leader
from qwensft_operator.runtime.reader import Reader
from qwensft_operator.runtime.reconcile import Reconciler
from qwensft_operator.runtime.store import Store

from . import test_crashes, test_faults, test_plan, test_source_run, test_store

Patch = pytest.MonkeyPatch
Finder = Callable[[], None]

_FEW = settings(
    max_examples=150,
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    report_multiple_bugs=False,
    deadline=None,
)


def crashes() -> None:
    """Cut writes, as `test_crashes` does."""
    for number, how in itertools.product(range(len(test_crashes.UNDISTURBED.writes)), Cut):
        test_crashes.check(number, how)


def weather() -> None:
    """Play scripts of faults, as `test_faults` does."""

    @_FEW
    @given(script=test_faults.SCRIPTS)
    def play(script: list[tuple[str, int]]) -> None:
        asyncio.run(test_faults.weather(script))

    play()


def core() -> None:
    """Play scripts on the pure core, as `test_plan` does."""

    @_FEW
    @given(policy=test_plan.POLICIES, merge=st.booleans(), head_start=st.integers(0, 7), script=test_plan.SCRIPTS)
    def play(policy: dict[str, Any], *, merge: bool, head_start: int, script: list[tuple[str, int]]) -> None:
        test_plan.survive(policy, script, merge=merge, head_start=head_start)

    play()


def same_name() -> None:
    """Delete a run and create it anew while the operator deletes a Job of the old one."""
    asyncio.run(test_faults.meet_a_namesake())


def stranger() -> None:
    """Let somebody else have made an object that the run needs."""
    asyncio.run(test_faults.meet_a_stranger())


def untold() -> None:
    """Let a watch be late with a Job."""
    asyncio.run(test_faults.meet_what_no_watch_has_told())


def old_store() -> None:
    """Let all watches be late."""
    asyncio.run(test_faults.meet_an_old_store())


def slow_leader() -> None:
    """Let a leader that was too slow write last."""
    asyncio.run(test_faults.meet_a_slow_leader())


def unheard() -> None:
    """Leave a pod of an earlier run of which no watch tells."""
    asyncio.run(test_faults.meet_pods_of_which_no_watch_tells())


def refused_figures() -> None:
    """Refuse figures in the status."""
    asyncio.run(test_faults.meet_a_definition_that_refuses_figures())


def refused_status() -> None:
    """Refuse the status, whatever its figures."""
    asyncio.run(test_faults.meet_a_definition_that_refuses_what_the_run_goes_by())


def news_in_any_order() -> None:
    """Deliver events, lists and answers to the store, late and in any order."""
    run_state_machine_as_test(test_store.StoreMachine, settings=_FEW)


def late_answer() -> None:
    """Answer who takes the Lease when it has expired."""
    test_leader.test_a_lease_whose_answer_comes_when_it_has_expired_makes_no_leader()


def anew() -> None:
    """Create the run anew with whose model another has begun, between that one's attempts."""
    for look in range(2, 20):
        test_source_run.check(None, Cut.UNSENT, look, "model")


# The mistakes.


def a_status_overwrites_whatever_is_stored(patch: Patch) -> None:
    merge = Kube.merge

    async def blind(self: Kube, resource: Resource, namespace: str, name: str, body: Manifest, **more: Any) -> Manifest:
        body = {key: value for key, value in body.items() if key != "metadata"} if resource == QWENSFTJOBS else body
        return await merge(self, resource, namespace, name, body, **more)

    patch.setattr(Kube, "merge", blind)


def a_deletion_goes_by_the_name_alone(patch: Patch) -> None:
    async def blind(self: Kube, resource: Resource, namespace: str, name: str, **_: Any) -> None:
        await self._request("DELETE", resource.path(namespace, name), body={"propagationPolicy": "Foreground"})

    patch.setattr(Kube, "delete", blind)


def a_job_that_no_watch_tells_of_is_lost(patch: Patch) -> None:
    async def ignore(self: Reader, resource: Resource, namespace: str, name: str) -> Manifest | None:
        return None if resource == JOBS else await find(self, resource, namespace, name)

    find = Reader.find
    patch.setattr(Reader, "find", ignore)


def nothing_is_confirmed_before_it_is_done(patch: Patch) -> None:
    async def trust(self: Reader, manifest: Manifest) -> None:
        """What the store says is true enough."""

    patch.setattr(Reader, "confirm", trust)


def an_object_that_exists_is_an_error(patch: Patch) -> None:
    async def create(self: Executor, job: Any, resource: Resource, manifest: Manifest) -> None:
        await self._kube.create(resource, job.metadata.namespace, manifest)

    patch.setattr(Executor, "_ensure", create)


def an_object_of_that_name_is_taken_for_ours(patch: Patch) -> None:
    async def trust(self: Executor, *_: Any) -> None:
        """Whose it is does not matter."""

    patch.setattr(Executor, "_check_owner", trust)


def nobody_waits_for_pods_of_the_last_attempt(patch: Patch) -> None:
    _without(patch, policies.previous_attempt_stopping, leftovers.leftovers_alive)


def nobody_waits_between_attempts(patch: Patch) -> None:
    _without(patch, retry.backing_off)


def a_clock_that_was_set_back_is_waited_for(patch: Patch) -> None:
    def wait(run: Run, now: datetime) -> Step | None:
        step, stage = honest(run, now), run.current_stage
        until = None if stage is None else run.record(stage).retry_time
        if step is None or until is None:
            return step
        return replace(step, status=run.status, requeue_after=(until - now).total_seconds())

    honest = retry.backing_off
    _instead(patch, honest, wait)


def an_end_that_was_a_hold_is_remembered(patch: Patch) -> None:
    for module in (policies, starting):
        patch.setattr(module, "going_on", adopted)


def nobody_notices_a_job_that_is_gone(patch: Patch) -> None:
    _without(patch, retry.stage_lost)


def a_job_has_failed_as_soon_as_a_pod_has(patch: Patch) -> None:
    state = views.job_state

    def hasty(status: dict[str, Any]) -> Any:
        found, condition = state(status)
        return (JobState.FAILED if found is JobState.FAILING else found), condition

    patch.setattr(views, "job_state", hasty)


def a_number_is_used_again(patch: Patch) -> None:
    def same(self: Run, stage: Any, **changes: Any) -> Any:
        return self.recorded(stage, job_name=None, **changes)

    patch.setattr(Run, "reserved", same)


def a_model_is_chosen_for_each_attempt(patch: Patch) -> None:
    honest = source_run.source_run_awaited

    def forgetful(run: Run) -> str | None:
        return source_run.awaited(Run(run.observed, status=run.status.replace(source_run=None)))

    def choose(run: Run, now: datetime) -> Step | None:
        step = honest(Run(run.observed, status=run.status.replace(source_run=None)), now)
        return None if step is None or step.status.source_run == run.status.source_run else step

    patch.setattr(needs, "awaited", forgetful)
    _instead(patch, honest, choose)


def what_a_complete_list_lacks_is_still_there(patch: Patch) -> None:
    def trust(self: Store, *_: Any) -> None:
        """Somebody will tell of deletions."""

    patch.setattr(Store, "listed", trust)


def an_api_server_that_has_gone_back_is_taken_for_late(patch: Patch) -> None:
    patch.setattr(Store, "rewound", lambda self, kind, namespace: None)


def an_attempt_starts_without_a_look_at_what_is_left(patch: Patch) -> None:
    for module in (policies, retry):
        patch.setattr(module, "unlooked", lambda run: None)


def what_watches_tell_of_pods_is_all_there_is(patch: Patch) -> None:
    async def trust(self: Reader, run: Run, jobs: Any) -> tuple[Leftover, ...]:
        return await self.known_leftovers(run, jobs)

    patch.setattr(Reader, "leftovers", trust)


def who_was_queued_stays_so(patch: Patch) -> None:
    def wait(run: Run, now: datetime) -> Step | None:
        said, child = run.status.condition("Succeeded"), run.current_child
        if child is None or said is None or said.reason != Reason.QUEUED:
            return queueing.queued(run, now)
        return Step("Suspended", said.reason, said.message, run.status, requeue_after=LOOK_AGAIN)

    _instead(patch, queueing.queued, wait)


def a_hold_is_a_failure(patch: Patch) -> None:
    def give_up(run: Run, now: datetime) -> Step | None:
        stage, child = run.current_stage, run.current_child
        if stage is None or child is None or not child.suspended:
            return None
        return retry.retry_or_fail(run, stage, Cause(Reason.PREEMPTED, "a queue holds it"), child, now)

    _instead(patch, queueing.queued, give_up)


def who_waits_for_the_lease_has_all_the_time_in_the_world(patch: Patch) -> None:
    async def patient(self: Leader) -> bool:
        deadline, self._deadline = self._deadline, 1e6
        try:
            return await honest(self)
        finally:
            self._deadline = deadline

    honest = Leader._try
    patch.setattr(Leader, "_try", patient)


def a_refused_status_is_not_tried_without_figures(patch: Patch) -> None:
    patch.setattr(status, "_dispensable", lambda patch, error: frozenset())


def a_refused_status_is_told_to_nobody(patch: Patch) -> None:
    async def keep_quiet(self: Reconciler, *_: Any) -> None:
        """The log has it."""

    patch.setattr(Reconciler, "_report_error", keep_quiet)


def every_pass_is_told(patch: Patch) -> None:
    event = Event("Normal", Reason.RUNNING, "still here")
    patch.setattr(decide_module, "_events", lambda run, step, status: (event,))


def _without(patch: Patch, *out: Any) -> None:
    patch.setattr(decide_module, "POLICIES", tuple(p for p in policies.POLICIES if p not in out))


def _instead(patch: Patch, honest: Any, mistaken: Any) -> None:
    patch.setattr(decide_module, "POLICIES", tuple(mistaken if p is honest else p for p in policies.POLICIES))


decide_module = sys.modules[decide.__module__]  # the package has a function of the same name

MUTANTS: list[tuple[Callable[[Patch], None], Finder]] = [
    (a_status_overwrites_whatever_is_stored, slow_leader),
    (a_deletion_goes_by_the_name_alone, same_name),
    (a_job_that_no_watch_tells_of_is_lost, untold),
    (nothing_is_confirmed_before_it_is_done, old_store),
    (an_object_that_exists_is_an_error, crashes),
    (an_object_of_that_name_is_taken_for_ours, stranger),
    (nobody_waits_for_pods_of_the_last_attempt, weather),
    (nobody_waits_between_attempts, weather),
    (nobody_waits_between_attempts, core),
    (a_clock_that_was_set_back_is_waited_for, test_plan.meet_a_clock_that_is_set_back),
    (an_end_that_was_a_hold_is_remembered, test_plan.meet_a_hold_that_nobody_sees),
    (nobody_notices_a_job_that_is_gone, core),
    (a_job_has_failed_as_soon_as_a_pod_has, weather),
    (a_number_is_used_again, crashes),
    (a_number_is_used_again, core),
    (a_model_is_chosen_for_each_attempt, anew),
    (what_a_complete_list_lacks_is_still_there, news_in_any_order),
    (what_a_complete_list_lacks_is_still_there, weather),
    (an_api_server_that_has_gone_back_is_taken_for_late, news_in_any_order),
    (an_attempt_starts_without_a_look_at_what_is_left, core),
    (what_watches_tell_of_pods_is_all_there_is, unheard),
    (who_was_queued_stays_so, test_plan.meet_a_queue),
    (a_hold_is_a_failure, test_plan.meet_a_queue),
    (who_waits_for_the_lease_has_all_the_time_in_the_world, late_answer),
    (a_refused_status_is_not_tried_without_figures, refused_figures),
    (a_refused_status_is_told_to_nobody, refused_status),
    (every_pass_is_told, crashes),
]


@pytest.mark.parametrize(("mistake", "finder"), MUTANTS, ids=lambda function: function.__name__)
def test_an_operator_with_a_mistake_is_found_out(
    mistake: Callable[[Patch], None], finder: Finder, monkeypatch: Patch, caplog: pytest.LogCaptureFixture
) -> None:
    mistake(monkeypatch)
    caplog.set_level(logging.CRITICAL)
    with pytest.raises(AssertionError):
        finder()
