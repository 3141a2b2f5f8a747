"""The Lease: one leader at a time, a quick hand-over, and no trust in anybody's clock."""

import asyncio

import pytest

from qwensft_operator.runtime.kube import ConflictError, Manifest, Resource, TransientError
from qwensft_operator.runtime.leader import Leader, LeaderLostError

from .fakes import FakeKube, in_virtual_time

DURATION = 15.0


def candidate(kube: FakeKube, identity: str) -> Leader:
    now = asyncio.get_running_loop().time
    return Leader(kube, namespace="system", name="lease", identity=identity, duration=DURATION, monotonic=now)


def holder(kube: FakeKube) -> str:
    return str(kube.objects["leases", "system", "lease"]["spec"]["holderIdentity"])


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
    await asyncio.wait_for(second.acquire(), timeout=DURATION)
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
    kube.refuse["get", "leases"] = TransientError(503, "ServiceUnavailable", "down")
    with pytest.raises(LeaderLostError):
        await asyncio.wait_for(leader.hold(), timeout=2 * DURATION)
    assert asyncio.get_running_loop().time() - started < DURATION
    assert not leader.leading


@in_virtual_time
async def test_a_request_that_hangs_does_not_keep_a_leader_in_office() -> None:
    class HangingKube(FakeKube):
        hanging = False

        async def get(self, resource: Resource, namespace: str, name: str) -> Manifest:
            if self.hanging:
                await asyncio.sleep(3600)
            return await super().get(resource, namespace, name)

    kube = HangingKube()
    leader = candidate(kube, "first")
    await leader.acquire()

    kube.hanging = True
    with pytest.raises(LeaderLostError):
        await asyncio.wait_for(leader.hold(), timeout=DURATION)


@in_virtual_time
async def test_a_lease_whose_answer_comes_when_it_has_expired_makes_no_leader() -> None:
    class LateKube(FakeKube):
        late = 0.0

        async def create(self, resource: Resource, namespace: str, body: Manifest) -> Manifest:
            stored = await super().create(resource, namespace, body)
            await asyncio.sleep(self.late)
            return stored

    kube = LateKube()
    kube.late = DURATION + 4
    first, second = candidate(kube, "first"), candidate(kube, "second")

    async def lead(leader: Leader) -> None:
        await leader.acquire()
        await leader.hold()

    leading = [asyncio.create_task(lead(leader)) for leader in (first, second)]
    for _ in range(int(4 * DURATION / 0.1)):
        await asyncio.sleep(0.1)
        assert not (first.leading and second.leading)
    assert first.leading or second.leading
    for task in leading:
        task.cancel()


@in_virtual_time
async def test_a_leader_stops_when_it_sees_another_name_in_the_lease() -> None:
    kube = FakeKube()
    leader = candidate(kube, "first")
    await leader.acquire()
    kube.objects["leases", "system", "lease"]["spec"] |= {"holderIdentity": "second", "renewTime": "now"}
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
    await stopped._acquire_or_renew()  # the request landed, but acquire() was cancelled before it learnt so
    assert not stopped.leading
    await stopped.release()
    assert holder(kube) == ""
