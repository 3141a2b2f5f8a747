"""The Lease: one leader at a time, a quick hand-over, and no trust in anybody's clock."""

import asyncio
from collections.abc import Awaitable

import pytest

from qwensft_operator.runtime.kube import LEASES, ConflictError, Manifest, Resource, TransientError
from qwensft_operator.runtime.leader import Leader, LeaderLostError

from .fakes import FakeKube, in_virtual_time

DURATION = 15.0


def candidate(kube: FakeKube, identity: str) -> Leader:
    now = asyncio.get_running_loop().time
    return Leader(kube, namespace="system", name="lease", identity=identity, duration=DURATION, monotonic=now)


def holder(kube: FakeKube) -> str:
    return str(kube.objects["leases", "system", "lease"]["spec"]["holderIdentity"])


class SlowKube(FakeKube):
    """Carries requests out at once, and answers `seconds[verb]` later."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: dict[str, float] = {}

    async def get(self, resource: Resource, namespace: str, name: str, *, subresource: str = "") -> Manifest:
        return await self._late("get", super().get(resource, namespace, name, subresource=subresource))

    async def create(self, resource: Resource, namespace: str, body: Manifest) -> Manifest:
        return await self._late("create", super().create(resource, namespace, body))

    async def replace(self, resource: Resource, namespace: str, body: Manifest) -> Manifest:
        return await self._late("replace", super().replace(resource, namespace, body))

    async def _late(self, verb: str, answer: Awaitable[Manifest]) -> Manifest:
        found = await answer
        await asyncio.sleep(self.seconds.get(verb, 0))
        return found


@in_virtual_time
async def test_the_first_candidate_leads_and_the_second_waits() -> None:
    kube = FakeKube()
    first, second = candidate(kube, "first"), candidate(kube, "second")
    await first.acquire()
    holding = asyncio.create_task(first.hold())
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(second.acquire(), timeout=4 * DURATION)
    assert (first.leading, second.leading, holder(kube)) == (True, False, "first")
    holding.cancel()


@in_virtual_time
async def test_a_released_lease_is_taken_at_once() -> None:
    kube = FakeKube()
    first, second = candidate(kube, "first"), candidate(kube, "second")
    await first.acquire()
    await first.release()
    await asyncio.wait_for(second.acquire(), timeout=2)
    assert holder(kube) == "second"
    assert kube.objects["leases", "system", "lease"]["spec"]["leaseTransitions"] == 1


@in_virtual_time
async def test_a_dead_leader_is_succeeded_after_the_duration_even_if_its_clock_was_wrong() -> None:
    kube = FakeKube()
    await candidate(kube, "first").acquire()
    kube.objects["leases", "system", "lease"]["spec"] |= {
        "renewTime": "2099-01-01T00:00:00.000000Z",
    }
    second = candidate(kube, "second")
    started = asyncio.get_running_loop().time()
    await asyncio.wait_for(second.acquire(), timeout=2 * DURATION)
    assert DURATION < asyncio.get_running_loop().time() - started < DURATION * 1.3
    assert holder(kube) == "second"


@in_virtual_time
async def test_a_stand_by_leads_within_twenty_seconds_of_the_death_of_the_leader() -> None:
    kube, now = FakeKube(), asyncio.get_running_loop().time
    for fraction in range(20):
        first, second = candidate(kube, "first"), candidate(kube, "second")
        await first.acquire()
        holding, waiting = asyncio.create_task(first.hold()), asyncio.create_task(second.acquire())
        await asyncio.sleep(5 + fraction / 4)
        holding.cancel()
        died = now()
        await waiting
        assert now() - died < 18
        await second.release()


@in_virtual_time
async def test_of_two_that_reach_for_an_expired_lease_one_loses() -> None:
    kube = FakeKube()
    first, second = candidate(kube, "first"), candidate(kube, "second")
    await first.acquire()
    await first.release()
    kube.refuse["replace", "leases"] = ConflictError(409, "Conflict", "modified")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(second.acquire(), timeout=DURATION)
    assert not second.leading


@in_virtual_time
async def test_a_restarted_process_of_the_same_name_need_not_wait() -> None:
    kube = FakeKube()
    await candidate(kube, "pod-a").acquire()
    await asyncio.wait_for(candidate(kube, "pod-a").acquire(), timeout=DURATION)
    assert kube.objects["leases", "system", "lease"]["spec"]["leaseTransitions"] == 0


@in_virtual_time
async def test_a_leader_that_cannot_renew_gives_up_before_another_may_take_over() -> None:
    kube = FakeKube()
    leader = candidate(kube, "first")
    await leader.acquire()
    started = asyncio.get_running_loop().time()
    for verb in ("get", "replace"):
        kube.refuse[verb, "leases"] = TransientError(503, "ServiceUnavailable", "down")
    with pytest.raises(LeaderLostError):
        await asyncio.wait_for(leader.hold(), timeout=2 * DURATION)
    assert asyncio.get_running_loop().time() - started < DURATION
    assert not leader.leading


@in_virtual_time
async def test_a_request_that_hangs_does_not_keep_a_leader_in_office() -> None:
    kube = SlowKube()
    leader = candidate(kube, "first")
    await leader.acquire()

    kube.seconds = {"get": 3600, "replace": 3600}
    started = asyncio.get_running_loop().time()
    with pytest.raises(LeaderLostError):
        await leader.hold()
    assert asyncio.get_running_loop().time() - started <= DURATION * 2 / 3


@in_virtual_time
async def test_a_connection_that_is_dead_costs_a_try_and_not_the_lease() -> None:
    kube = SlowKube()
    leader = candidate(kube, "first")
    await leader.acquire()
    holding = asyncio.create_task(leader.hold())
    for _ in range(5):
        kube.seconds = {"replace": 3600}
        await asyncio.sleep(DURATION / 3)
        kube.seconds = {}
        await asyncio.sleep(DURATION)
    assert leader.leading
    assert not holding.done()
    holding.cancel()


@in_virtual_time
async def test_a_leader_on_a_slow_api_server_keeps_the_lease() -> None:
    kube = SlowKube()
    kube.seconds = {"get": 3.9, "create": 3.9, "replace": 3.9}
    leader = candidate(kube, "first")
    await leader.acquire()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(leader.hold(), timeout=20 * DURATION)


@in_virtual_time
async def test_a_leader_that_has_lost_the_lease_may_lead_again_while_nobody_else_wants_it() -> None:
    kube = SlowKube()
    leader = candidate(kube, "first")
    await leader.acquire()
    kube.seconds = {"get": 3600, "replace": 3600}
    with pytest.raises(LeaderLostError):
        await leader.hold()
    kube.seconds = {}
    await asyncio.wait_for(leader.acquire(), timeout=DURATION / 5)
    assert (leader.leading, kube.objects["leases", "system", "lease"]["spec"]["leaseTransitions"]) == (True, 0)


@in_virtual_time
async def test_renewing_costs_one_request() -> None:
    kube = FakeKube()
    leader = candidate(kube, "first")
    await leader.acquire()
    kube.calls.clear()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(leader.hold(), timeout=2 * DURATION)
    assert {verb for verb, _, _ in kube.calls} == {"replace"}
    assert len(kube.calls) in (9, 10), "one every fifth of the duration"


@in_virtual_time
async def test_a_lease_whose_answer_comes_when_it_has_expired_makes_no_leader() -> None:
    kube = SlowKube()
    kube.seconds = {"create": DURATION + 4}
    first, second = candidate(kube, "first"), candidate(kube, "second")

    async def lead(leader: Leader, other: Leader) -> None:
        await leader.acquire()
        assert not other.leading, "two leaders, if only for a moment"
        await leader.hold()

    leading = [asyncio.create_task(lead(*both)) for both in ((first, second), (second, first))]
    for _ in range(int(4 * DURATION / 0.1)):
        await asyncio.sleep(0.1)
        assert not (first.leading and second.leading)
        for task in leading:
            assert not task.done(), task.exception()
    assert first.leading or second.leading
    for task in leading:
        task.cancel()


@in_virtual_time
async def test_a_leader_stops_when_it_sees_another_name_in_the_lease() -> None:
    kube = FakeKube()
    leader = candidate(kube, "first")
    await leader.acquire()
    taken = {"spec": {"holderIdentity": "second", "renewTime": "now"}}
    await kube.merge(LEASES, "system", "lease", taken)
    with pytest.raises(LeaderLostError):
        await asyncio.wait_for(leader.hold(), timeout=DURATION)
    await leader.release()
    assert holder(kube) == "second"


@in_virtual_time
async def test_one_failed_renewal_is_no_loss() -> None:
    kube = FakeKube()
    leader = candidate(kube, "first")
    await leader.acquire()
    holding = asyncio.create_task(leader.hold())
    kube.refuse["replace", "leases"] = ConflictError(409, "Conflict", "modified")
    await asyncio.sleep(DURATION / 5 * 1.5)
    del kube.refuse["replace", "leases"]
    await asyncio.sleep(2 * DURATION)
    assert leader.leading
    assert not holding.done()
    holding.cancel()


@in_virtual_time
async def test_a_candidate_that_is_stopped_while_it_takes_the_lease_does_not_keep_it() -> None:
    kube = FakeKube()
    stopped = candidate(kube, "stopped")
    await stopped._try()  # the request landed, but acquire() was cancelled before it learnt so
    assert not stopped.leading
    await stopped.release()
    assert holder(kube) == ""
