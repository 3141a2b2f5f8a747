"""What is measured beside the loads: one run alone, an hour, a gang, many runs that live or have ended, a restart."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from benchmarks.control_plane import audit, figures
from benchmarks.control_plane.api import Manifest
from benchmarks.control_plane.contestants import RUNS, Controller, Ours
from benchmarks.control_plane.hands import Figures, Hands
from benchmarks.control_plane.loads import Bench
from benchmarks.control_plane.plane import RECORDED
from benchmarks.control_plane.writes import Write, recipe

from qwensft.api.v1alpha1 import METRICS_PORT

_SETTLE = 5.0  # seconds until nothing more is written about what has just happened
_CALM = 20.0  # seconds until memory is what it stays
_AT_ONCE = 32
_PATIENCE = 600.0

_METRICS = {"step": 1800, "totalSteps": 1800, "loss": 0.5, "initialLoss": 3.0}
_ADAPTER = {"path": "run/train/1/adapter", "sizeBytes": 1000, "digest": "sha256:abc"}
_MERGED = {"path": "run/merged", "sizeBytes": 2000, "digest": "sha256:def"}
PREPARED = {"stage": "prepare", "metrics": {"samples": 200, "tokens": 40000}}
TRAINED = {"metrics": _METRICS, "outputs": {"adapter": _ADAPTER}}
MERGED = {"outputs": {"merged": _MERGED}}


async def record(bench: Bench) -> tuple[list[Write], Manifest]:
    """Have the operator bring one run from its creation to its end.

    Returns:
        What was written for it until its Job existed and was told; the run as it is at the end.
    """
    ours, name = Ours(bench.plane, RECORDED), "benchrecordedrun"
    namespace = await bench.namespace("benchrecordedspace")
    runs, offset = RUNS.format(namespace), bench.audit_size()
    async with ours.running():
        run = await bench.api.create(runs, ours.manifest(name))
        await _until(bench, f"{runs}/{name}", ours.told)
        await asyncio.sleep(_SETTLE)
        writes = recipe(_of(bench.made(offset, ours.users), namespace), run, runs)
        hands = Hands(bench.api, namespace)
        await hands.through(f"{name}-prepare-1", 1.0, PREPARED)
        await hands.through(f"{name}-train-1", 1.0, TRAINED)
        await hands.through(f"{name}-merge-1", 1.0, MERGED)
        ended = await _until(bench, f"{runs}/{name}", _succeeded)
    await bench.clear(namespace, (RUNS,))
    return writes, ended


async def one(bench: Bench) -> dict[str, Any]:
    """Requests for a run until its Job exists and is told: the mean of twenty, one after the other."""
    ours, count = Ours(bench.plane), 20
    namespace = await bench.namespace("one")
    async with ours.running():
        offset = bench.audit_size()
        await bench.runs(ours, namespace, count, 2.0)
        made = _made(bench, offset, namespace)
    await bench.clear(namespace, (RUNS,))
    per_run = {what: number / count for what, number in audit.by_verb(made).items()}
    reads, writes = (audit.count(made, verbs) / count for verbs in (audit.READS, audit.WRITES))
    return {"reads": reads, "writes": writes, "requests": per_run}


async def ends(bench: Bench, controller: Controller, count: int) -> dict[str, Any]:
    """Seconds from the success of a run's pod until the status tells of it, for runs that end five a second."""
    namespace = await bench.namespace(f"{controller.name}-ends")
    hands = Hands(bench.api, namespace)
    succeeded: dict[str, float] = {}
    told: dict[str, float] = {}

    def seen(run: Manifest) -> None:
        name = run["metadata"]["name"]
        if name in succeeded and name not in told and controller.ended(run):
            told[name] = time.monotonic()

    async with controller.running():
        await bench.runs(controller, namespace, count, None)
        playing = []
        for number in range(count):
            job = await hands.job(controller.job(f"run-{number}"))
            pods = await hands.create_pods(job)
            await hands.run(job, pods, 0.0)
            playing.append((f"run-{number}", job, pods))
        await asyncio.sleep(_SETTLE)
        watch = asyncio.create_task(bench.follow(controller.runs.format(namespace), seen))
        for name, job, pods in playing:
            succeeded[name] = time.monotonic()
            await hands.finish(job, pods, PREPARED)
            await asyncio.sleep(0.2)
        await _when(lambda: len(told) == count)
        watch.cancel()
    await bench.clear(namespace, controller.kinds)
    latencies = [told[name] - succeeded[name] for name in told]
    return {
        "name": controller.name,
        "count": count,
        "p50": figures.percentile(latencies, 0.5),
        "p99": figures.percentile(latencies, 0.99),
    }


async def hour_beside_finished(
    bench: Bench, ended: Manifest, count: int, minutes: float
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Play a run of two pods beside many that have ended; what it costs, and what they do.

    `minutes` of training are played. Ten hold one resync, as each ten minutes of an hour do.
    """
    ours = Ours(bench.plane)
    past, present = await bench.namespace("finished"), await bench.namespace("hour")
    await _make_finished(bench, past, ended, count)
    hands, name = Hands(bench.api, present), "run"
    runs = RUNS.format(present)
    async with ours.running() as (program,), Figures(METRICS_PORT):
        await asyncio.sleep(_CALM)
        resident, offset = program.resident_mb(), bench.audit_size()
        opened = time.monotonic()
        await bench.api.create(runs, ours.manifest(name, nodes=2))
        await hands.through(f"{name}-prepare-1", 2.0, PREPARED)
        job = await hands.job(f"{name}-train-1")
        pods = await hands.create_pods(job)
        await hands.run(job, pods)
        await asyncio.sleep(_SETTLE)
        steady = datetime.now(UTC)
        await asyncio.sleep(minutes * 60)
        ending = datetime.now(UTC)
        await hands.finish(job, pods, TRAINED)
        await hands.through(f"{name}-merge-1", 2.0, MERGED)
        await _until(bench, f"{runs}/{name}", _succeeded)
        await asyncio.sleep(_SETTLE)
        window, peak = (time.monotonic() - opened) / 60, program.peak_mb()
    made = bench.made(offset, ours.users)
    await bench.clear(past, (RUNS,))
    await bench.clear(present, (RUNS,))
    begun, middle, end = (
        {kind: audit.count(part, verbs) for kind, verbs in (("reads", audit.READS), ("writes", audit.WRITES))}
        for part in audit.split(_of(made, present), at=(steady, ending))
    )
    # The nodes' labels are for the run that begins.
    elsewhere = [r for r in made if r.namespace != present and r.verb != "watch" and r.resource != "nodes"]
    finished = {
        "count": count,
        "residentMB": resident,
        "peakMB": peak,
        "minutes": round(window, 1),
        "requests": len(elsewhere),
        "byVerb": audit.by_verb(elsewhere),
    }
    long = figures.hour(begun=begun, steady=middle, ended=end, minutes=minutes)
    requests = audit.by_verb(_of(made, present))
    return {**long, "minutes": minutes, "begun": begun, "steady": middle, "ended": end, "requests": requests}, finished


async def gang(bench: Bench, size: int) -> dict[str, Any]:
    """Lists of pods and events while a gang starts, trains for half a minute and ends."""
    ours, name = Ours(bench.plane), "run"
    namespace = await bench.namespace("gang")
    hands, runs = Hands(bench.api, namespace), RUNS.format(namespace)
    async with ours.running():
        await bench.api.create(runs, ours.manifest(name, nodes=size))
        await hands.through(f"{name}-prepare-1", 1.0, PREPARED)
        job = await hands.job(f"{name}-train-1")
        offset = bench.audit_size()
        pods = await hands.create_pods(job)
        await hands.run(job, pods, 5.0)
        await asyncio.sleep(30)
        await hands.finish(job, pods, TRAINED)
        await hands.job(f"{name}-merge-1")
        made = _made(bench, offset, namespace)
    await bench.clear(namespace, (RUNS,))
    requests = audit.by_verb(made)
    return {
        "pods": size,
        "podLists": requests.get("list pods", 0),
        "eventLists": requests.get("list events", 0),
        "reads": audit.count(made, audit.READS),
        "writes": audit.count(made, audit.WRITES),
        "requests": requests,
    }


async def live(bench: Bench, writes: Sequence[Write], count: int) -> dict[str, Any]:
    """Memory of an operator with runs whose prepare pods run."""
    namespace = await _make_live(bench, "live", writes, count)
    hands, ours = Hands(bench.api, namespace), Ours(bench.plane)

    async def play(number: int) -> None:
        job = await hands.job(ours.job(f"run-{number}"))
        await hands.run(job, await hands.create_pods(job), 0.0)

    await _at_once(play(number) for number in range(count))
    async with ours.running() as (program,):
        await asyncio.sleep(_CALM)
        found = {"count": count, "residentMB": program.resident_mb(), "peakMB": program.peak_mb()}
    await bench.clear(namespace, (RUNS,))
    return found


async def restart(bench: Bench, writes: Sequence[Write], count: int) -> dict[str, Any]:
    """Seconds from the start of an operator until it has told what happened to one run in fifty while it was away."""
    namespace = await _make_live(bench, "restart", writes, count)
    hands, ours = Hands(bench.api, namespace), Ours(bench.plane)
    ended = {f"run-{number}" for number in range(0, count, 50)}
    for name in ended:
        job = await hands.job(ours.job(name))
        pods = await hands.create_pods(job)
        await hands.finish(job, pods, PREPARED)
    told: set[str] = set()

    def seen(run: Manifest) -> None:
        if ours.ended(run):
            told.add(run["metadata"]["name"])

    watch = asyncio.create_task(bench.follow(RUNS.format(namespace), seen))
    offset, started = bench.audit_size(), time.monotonic()
    async with ours.running() as (program,):
        await _when(lambda: told >= ended)
        found = {
            "count": count,
            "seconds": time.monotonic() - started,
            "cpuSeconds": program.cpu_seconds(),
            "peakMB": program.peak_mb(),
        }
    watch.cancel()
    made = _made(bench, offset, namespace)
    await bench.clear(namespace, (RUNS,))
    return found | {"reads": audit.count(made, audit.READS), "requests": audit.by_verb(made)}


async def _make_live(bench: Bench, prefix: str, writes: Sequence[Write], count: int) -> str:
    """Runs as the operator leaves them once their Jobs exist; the namespace that they are in."""
    namespace = await bench.namespace(prefix)
    await bench.floor(figures.FLOOR_B, writes, count, None, keep=namespace)
    return namespace


async def _make_finished(bench: Bench, namespace: str, ended: Manifest, count: int) -> None:
    """Runs that have come to the same end; their Jobs and pods are gone."""
    runs = RUNS.format(namespace)

    async def make(number: int) -> None:
        name = f"run-{number}"
        body = {key: ended[key] for key in ("apiVersion", "kind", "spec")} | {"metadata": {"name": name}}
        await bench.api.create(runs, body)
        await bench.api.patch(f"{runs}/{name}/status", {"status": ended["status"]})

    await _at_once(make(number) for number in range(count))


async def _at_once(work: Iterable[Coroutine[Any, Any, None]]) -> None:
    free = asyncio.Semaphore(_AT_ONCE)

    async def limited(one: Coroutine[Any, Any, None]) -> None:
        async with free:
            await one

    await asyncio.gather(*(limited(one) for one in work))


async def _until(bench: Bench, path: str, holds: Callable[[Manifest], bool]) -> Manifest:
    async with asyncio.timeout(_PATIENCE):
        while True:
            manifest = await bench.api.get(path)
            if holds(manifest):
                return manifest
            await asyncio.sleep(0.1)


async def _when(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(_PATIENCE):
        while True:
            if holds():
                return
            await asyncio.sleep(0.05)


def _succeeded(run: Manifest) -> bool:
    return bool((run.get("status") or {}).get("phase") == "Succeeded")


def _made(bench: Bench, offset: int, namespace: str) -> list[audit.Request]:
    return _of(bench.made(offset, ("operator",)), namespace)


def _of(made: Iterable[audit.Request], namespace: str) -> list[audit.Request]:
    return [request for request in made if request.namespace == namespace]
