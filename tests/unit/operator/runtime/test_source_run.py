"""Two runs of which one begins with the other's model: who is woken by what, what a wait costs, what is mounted."""

from collections.abc import Callable
from typing import Any

import pytest
import yaml

from qwensft_operator.runtime.kinds import RUNS, Key
from qwensft_operator.runtime.kube import CLAIMS, QWENSFTJOBS, Manifest
from qwensft_operator.runtime.store import Store

from .fakes import Ear, job_manifest
from .reconciling import KEY, World, reasons

DIGEST = f"sha256:{'cd' * 32}"
FIRST: Key = ("team", "first")
MERGED = {"claimName": "first-workspace", "path": "first-22222222/merged", "digest": DIGEST}
OVER = {"completionTime": "2026-01-01T00:00:00Z", "observedGeneration": 1}
SUCCEEDED: dict[str, Any] = {"phase": "Succeeded", "outputs": {"merged": MERGED}} | OVER


def second() -> Manifest:
    return job_manifest(model={"name": "Qwen/Qwen3-0.6B", "source": {"run": {"name": "first"}}})


def first(status: dict[str, Any] | None = None, uid: str = "22222222-bbbb", **spec: Any) -> Manifest:
    manifest = job_manifest("first", uid, **spec)
    return manifest | ({"status": status} if status else {})


def ear(store: Store) -> Ear:
    listener = store._listener
    assert isinstance(listener, Ear)
    return listener


def watched() -> World:
    """A cluster with the claim that was made for the first run."""
    world = World(watching=True)
    bound = {"spec": {"accessModes": ["ReadWriteOnce"]}, "status": {"phase": "Bound"}}
    world.kube.put(CLAIMS, "team", {"metadata": {"name": "first-workspace"}, **bound})
    return world


def in_order(world: World, order: str) -> None:
    """Apply the second before the first, or after it."""
    puts: list[Callable[[], Manifest]] = [
        lambda: world.kube.put(QWENSFTJOBS, "team", first({"phase": "Training"})),
        lambda: world.kube.put(QWENSFTJOBS, "team", second()),
    ]
    for put in puts if order == "first, second" else reversed(puts):
        put()


@pytest.mark.parametrize("order", ["first, second", "second, first"])
async def test_the_second_goes_on_when_the_first_has_succeeded_in_whichever_order_they_came(order: str) -> None:
    world = watched()
    in_order(world, order)
    await world.reconciler.handle(KEY)
    assert reasons(world) == {"WaitingForSourceRun"}
    assert [verb for verb, plural, _ in world.kube.calls if plural in ("persistentvolumeclaims", "configmaps")] == []

    ear(world.store).heard.clear()
    world.kube.put(QWENSFTJOBS, "team", first(SUCCEEDED))
    assert world.store.is_over(FIRST)
    assert (KEY, "qwensftjobs") in ear(world.store).heard

    for _ in range(2):
        await world.reconciler.handle(KEY)
    assert world.run["status"]["sourceRun"] == {"name": "first", "uid": "22222222-bbbb"} | MERGED
    assert world.run["status"]["phase"] == "Preparing"
    job = world.kube.objects["jobs", "team", "demo-prepare-1"]["spec"]["template"]["spec"]
    assert {"name": "model", "persistentVolumeClaim": {"claimName": "first-workspace"}} in job["volumes"]
    (trainer,) = job["containers"]
    assert {"name": "model", "mountPath": "/model", "readOnly": True} in trainer["volumeMounts"]
    run = yaml.safe_load(world.kube.objects["configmaps", "team", "demo-prepare-1"]["data"]["run.yaml"])
    assert run["model"]["path"] == "/model/first-22222222/merged"
    assert run["model"]["mergedBy"] == {"name": "first", "uid": "22222222-bbbb", "digest": DIGEST}


async def test_who_waits_for_an_adapter_is_woken_by_the_same_end() -> None:
    world = watched()
    world.kube.put(QWENSFTJOBS, "team", first({"phase": "Training"}))
    adapter = {"name": "Qwen/Qwen3-0.6B", "adapter": {"run": {"name": "first"}}}
    world.kube.put(QWENSFTJOBS, "team", job_manifest(model=adapter))
    await world.reconciler.handle(KEY)
    assert reasons(world) == {"WaitingForSourceRun"}
    ear(world.store).heard.clear()
    trained = MERGED | {"path": "first-22222222/train/1"}
    world.kube.put(QWENSFTJOBS, "team", first(SUCCEEDED | {"outputs": {"adapter": trained}}))
    assert (KEY, "qwensftjobs") in ear(world.store).heard
    for _ in range(2):
        await world.reconciler.handle(KEY)
    assert world.run["status"]["adapterRun"] == {"name": "first", "uid": "22222222-bbbb"} | trained
    run = yaml.safe_load(world.kube.objects["configmaps", "team", "demo-prepare-1"]["data"]["run.yaml"])
    assert run["model"]["adapter"]["path"] == "/adapter/first-22222222/train/1"


async def test_the_choice_is_stored_before_anything_is_made() -> None:
    world = watched()
    world.kube.put(QWENSFTJOBS, "team", first(SUCCEEDED))
    world.kube.put(QWENSFTJOBS, "team", second())
    await world.reconciler.handle(KEY)
    assert world.writes() == [("patch/status", "qwensftjobs"), ("create", "events")]
    assert world.timers.waits == []
    assert world.queue.depth == 1, "it is looked at again at once"


async def test_a_wait_asks_the_api_server_for_nothing() -> None:
    world = watched()
    in_order(world, "first, second")
    await world.reconciler.handle(KEY)
    world.kube.calls.clear()
    world.timers.waits.clear()
    for _ in range(3):
        await world.reconciler.handle(KEY)
    assert world.kube.calls == []
    assert world.timers.waits == [], "nor is it looked at again before something happens"


async def test_a_first_that_is_created_anew_later_changes_nothing() -> None:
    world = watched()
    world.kube.put(QWENSFTJOBS, "team", first(SUCCEEDED))
    world.kube.put(QWENSFTJOBS, "team", second())
    await world.reconciler.handle(KEY)
    world.kube.remove(QWENSFTJOBS, "team", "first")
    another = {"merged": MERGED | {"path": "first-33333333/merged", "digest": "sha256:other"}}
    world.kube.put(QWENSFTJOBS, "team", first(SUCCEEDED | {"outputs": another}, uid="33333333-cccc"))
    await world.reconciler.handle(KEY)
    assert world.run["status"]["sourceRun"]["uid"] == "22222222-bbbb"
    run = yaml.safe_load(world.kube.objects["configmaps", "team", "demo-prepare-1"]["data"]["run.yaml"])
    assert run["model"]["mergedBy"]["digest"] == DIGEST


def begins_with(name: str, other: str) -> Manifest:
    model = {"name": "Qwen/Qwen3-0.6B", "source": {"run": {"name": other}}}
    return job_manifest(name, f"{name}-uid", model=model)


async def test_runs_in_a_circle_are_all_told_when_it_closes_and_when_it_opens() -> None:
    world = watched()
    for name, other in (("demo", "second"), ("second", "third")):
        world.kube.put(QWENSFTJOBS, "team", begins_with(name, other))
        await world.reconciler.handle(("team", name))
    assert reasons(world) == {"WaitingForSourceRun"}
    ear(world.store).heard.clear()
    world.kube.put(QWENSFTJOBS, "team", begins_with("third", "demo"))
    circle = [("team", name) for name in ("demo", "second", "third")]
    assert {key for key, _ in ear(world.store).heard} == set(circle)
    world.kube.calls.clear()
    for key in circle:
        await world.reconciler.handle(key)
        assert world.kube.objects["qwensftjobs", *key]["status"]["conditions"][0]["reason"] == "SourceRunUnavailable"
    assert {verb for verb, _, _ in world.kube.calls} == {"patch/status", "create"}, "nothing is read for it"

    ear(world.store).heard.clear()
    world.kube.remove(QWENSFTJOBS, "team", "third")
    assert (KEY, "qwensftjobs") in ear(world.store).heard
    await world.reconciler.handle(KEY)
    assert reasons(world) == {"WaitingForSourceRun"}


# What the store tells.


def versioned(manifest: Manifest, version: int) -> Manifest:
    manifest["metadata"]["resourceVersion"] = str(version)
    return manifest


def waiting_store() -> tuple[Store, Ear]:
    """A store in which the second waits for the first, which trains."""
    listener = Ear()
    store = Store(listener)
    store.observed(RUNS, versioned(second(), 1))
    store.observed(RUNS, versioned(first({"phase": "Training"}), 2))
    listener.heard.clear()
    return store, listener


def test_those_who_wait_hear_of_an_end_that_this_operator_has_written_itself() -> None:
    store, listener = waiting_store()
    store.wrote(QWENSFTJOBS, versioned(first(SUCCEEDED), 3))
    assert listener.heard == [(KEY, "qwensftjobs")]


@pytest.mark.parametrize("ttl", [None, 3600])
def test_those_who_wait_hear_of_an_end_whatever_becomes_of_the_first_then(ttl: int | None) -> None:
    store, listener = waiting_store()
    policy = {} if ttl is None else {"ttlSecondsAfterFinished": ttl}
    store.observed(RUNS, versioned(first(SUCCEEDED, runPolicy=policy), 3))
    assert store.is_over(FIRST) == (ttl is None)
    assert (KEY, "qwensftjobs") in listener.heard


def test_those_who_wait_hear_of_a_failed_run_that_goes_on_and_of_its_new_end() -> None:
    store, listener = waiting_store()
    failed = first({"phase": "Failed"} | OVER)
    store.observed(RUNS, versioned(failed, 3))
    retried = first({"phase": "Failed"} | OVER)
    retried["metadata"]["generation"] = 2
    store.observed(RUNS, versioned(retried, 4))
    listener.heard.clear()
    store.observed(RUNS, versioned(first({"phase": "Training"}), 5))
    store.observed(RUNS, versioned(first(SUCCEEDED), 6))
    assert listener.heard.count((KEY, "qwensftjobs")) == 2


@pytest.mark.parametrize("over", [False, True])
def test_those_who_wait_hear_of_a_deletion(*, over: bool) -> None:
    store, listener = waiting_store()
    if over:
        store.observed(RUNS, versioned(first({"phase": "Failed"} | OVER), 3))
        listener.heard.clear()
    store.deleted(RUNS, versioned(first(), 4))
    assert (KEY, "qwensftjobs") in listener.heard


def test_those_who_wait_hear_that_the_first_waits_no_longer_itself() -> None:
    store, listener = waiting_store()
    waits = {"model": {"name": "Qwen/Qwen3-0.6B", "source": {"run": {"name": "demo"}}}}
    store.observed(RUNS, versioned(first(uid="33333333-cccc", **waits), 3))
    listener.heard.clear()
    store.observed(RUNS, versioned(first({"sourceRun": {"name": "demo"}}, uid="33333333-cccc", **waits), 4))
    assert (KEY, "qwensftjobs") in listener.heard, "it had chosen an earlier run of that name"


def test_steps_of_the_first_wake_nobody_else() -> None:
    store, listener = waiting_store()
    for version in range(3, 9):
        store.observed(RUNS, versioned(first({"phase": "Training", "progress": {"step": version}}), version))
    assert {key for key, _ in listener.heard} == {FIRST}


@pytest.mark.parametrize("how", ["chosen", "deleted"])
def test_who_has_chosen_or_is_gone_is_woken_no_more(how: str) -> None:
    store, listener = waiting_store()
    if how == "chosen":
        store.observed(RUNS, versioned(second() | {"status": {"sourceRun": {"name": "first"}}}, 3))
    else:
        store.deleted(RUNS, versioned(second(), 3))
    listener.heard.clear()
    store.observed(RUNS, versioned(first(SUCCEEDED), 4))
    assert (KEY, "qwensftjobs") not in listener.heard
