"""The parts together: what a process does when it leads, does not lead any more, and leads again."""

import asyncio

from kubernetes.aio.client.configuration import Configuration

from qwensft_operator.runtime.app import App
from qwensft_operator.runtime.kube import CONFIG_MAPS, JOBS, QWENSFTJOBS, TransientError
from qwensft_operator.runtime.leader import Leader
from qwensft_operator.runtime.settings import Settings

from .fakes import FakeKube, in_virtual_time, job_manifest


@in_virtual_time
async def test_a_process_that_loses_its_lease_stops_acting_and_goes_on_when_it_has_it_again() -> None:
    kube = FakeKube()
    kube.configuration = Configuration(host="https://cluster.example")
    kube.put(CONFIG_MAPS, "team", {"metadata": {"name": "facts"}, "data": {"f.json": "[]"}})
    settings = Settings(trainer_image="trainer:1", lease_namespace="system", identity="me")
    app = App(settings, kube)
    app._leader = Leader(
        kube, namespace="system", name="lease", identity="me", duration=15, monotonic=asyncio.get_running_loop().time
    )
    acting = asyncio.create_task(app._act())
    await asyncio.sleep(5)
    for verb in ("get", "replace"):
        kube.refuse[verb, "leases"] = TransientError(503, "ServiceUnavailable", "down")
    await asyncio.sleep(15)
    kube.put(QWENSFTJOBS, "team", job_manifest())
    app._queue.add(("team", "demo"))
    await asyncio.sleep(60)
    assert not acting.done()
    assert kube.named(JOBS) == set(), "it acts without the Lease"
    assert app._live() == ""

    kube.refuse.clear()
    await asyncio.sleep(5)
    assert kube.named(JOBS) == {"demo-prepare-1"}
    app._queue.close()
    await acting
