"""`python -m benchmarks.control_plane`: the operator beside two floors and Kubeflow Trainer, on one API server.

README.md says what is measured.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.control_plane import figures, scenes
from benchmarks.control_plane.api import Manifest
from benchmarks.control_plane.contestants import Controller, KubeflowTrainer, Ours, documents, install_kind
from benchmarks.control_plane.loads import Bench
from benchmarks.control_plane.plane import REPOSITORY, control_plane
from benchmarks.control_plane.writes import Write, objects_only

_WARM_UP = 20  # runs of each contestant that do not count: the API server compiles rules, Go loads pages


def main() -> None:
    """Measure, print tables, write JSON."""
    options = _options()
    # asyncio then unwinds what runs, and nothing that was started is left behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
    directory = Path(tempfile.mkdtemp(prefix="qwensft-control-plane-"))
    before = os.getloadavg()[0]
    found: dict[str, Any] = {"loads": [], "ends": []}
    try:
        asyncio.run(_measure(options, directory, found))
    except BaseException:
        print(f"logs and everything else are in {directory}")
        raise
    else:
        shutil.rmtree(directory)
    finally:  # an hour's figures are worth having without the last one
        found["machine"] = _machine(before)
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(json.dumps(found, indent=1) + "\n")
        print(f"{figures.report(found)}\n\nwritten to {options.output}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.control_plane")
    parser.add_argument("--bursts", nargs="*", type=int, default=[100, 500, 2000], help="runs at once")
    parser.add_argument("--rates", nargs="*", type=float, default=[10, 30, 50], help="runs a second")
    parser.add_argument("--seconds", type=float, default=20, help="for each rate")
    parser.add_argument("--rounds", type=int, default=1, help="of all loads; the best of each counts")
    parser.add_argument("--minutes", type=float, default=10, help="of training, played for an hour of it; 0: none")
    parser.add_argument("--finished", type=int, default=10_000, help="runs that have ended; needs --minutes")
    parser.add_argument("--live", type=int, default=1000, help="runs whose pods run; 0: none")
    parser.add_argument("--restart", type=int, default=5000, help="runs that a restart finds; 0: none")
    parser.add_argument("--gang", type=int, default=256, help="pods of a gang; 0: none")
    parser.add_argument("--ends", type=int, default=100, help="runs whose pods succeed; 0: none")
    parser.add_argument("--without-trainer", action="store_true", help="leave Kubeflow Trainer out")
    parser.add_argument("--output", type=Path, default=REPOSITORY / "build" / "control-plane.json")
    return parser.parse_args()


async def _measure(options: argparse.Namespace, directory: Path, found: dict[str, Any]) -> None:
    """Put what is measured into `found`."""
    async with control_plane(directory) as plane, plane.api() as api:
        await install_kind(api, *itertools.chain.from_iterable(map(documents, (REPOSITORY / "crds").glob("*.yaml"))))
        bench = Bench(plane, api)
        controllers: list[Controller] = [Ours(plane)]
        if not options.without_trainer:
            _say("building and installing Kubeflow Trainer")
            trainer = KubeflowTrainer(plane)
            await trainer.install(api)
            controllers.append(trainer)
        _say("one run, with all that is written for it")
        writes, ended = await scenes.record(bench)
        found["recipe"] = [f"{write.method} {write.path.partition('?')[0]}" for write in writes]
        found["one"] = await scenes.one(bench)
        async for load in _loads(options, bench, controllers, writes):
            found["loads"].append(load)
        async for scene, measured in _scenes(options, bench, controllers, writes, ended):
            found[scene] = measured  # noqa: PERF403 - as each is done


async def _loads(
    options: argparse.Namespace, bench: Bench, controllers: Sequence[Controller], writes: Sequence[Write]
) -> AsyncIterator[dict[str, Any]]:
    """All contestants in turns under each load."""
    _say("warming up")
    await bench.floor(figures.FLOOR_B, writes, _WARM_UP, None)
    for controller in controllers:
        await bench.controller(controller, _WARM_UP, None)
    loads: list[tuple[int, float | None]] = [(count, None) for count in options.bursts]
    loads += [(round(rate * options.seconds), rate) for rate in options.rates]
    for count, rate in loads * options.rounds:
        title = f"{count} runs, {f'{rate:g}/s' if rate else 'at once'}"
        for name, made in ((figures.FLOOR_A, objects_only(writes)), (figures.FLOOR_B, writes)):
            _say(f"{title}: {name}")
            yield await bench.floor(name, made, count, rate)
        for controller in controllers:
            _say(f"{title}: {controller.name}")
            yield await bench.controller(controller, count, rate)


async def _scenes(
    options: argparse.Namespace,
    bench: Bench,
    controllers: Sequence[Controller],
    writes: Sequence[Write],
    ended: Manifest,
) -> AsyncIterator[tuple[str, Any]]:
    if options.ends:
        _say(f"{options.ends} runs whose pods succeed")
        yield "ends", [await scenes.ends(bench, controller, options.ends) for controller in controllers]
    if options.gang:
        _say(f"a gang of {options.gang} pods")
        yield "gang", await scenes.gang(bench, options.gang)
    if options.live:
        _say(f"{options.live} live runs")
        yield "live", await scenes.live(bench, writes, options.live)
    if options.restart:
        _say(f"restart with {options.restart} runs")
        yield "restart", await scenes.restart(bench, writes, options.restart)
    if options.minutes:
        _say(f"{options.minutes:g} min of training beside {options.finished} finished runs")
        hour, finished = await scenes.hour_beside_finished(bench, ended, options.finished, options.minutes)
        yield "hour", hour
        yield "finished", finished


def _machine(before: float) -> dict[str, Any]:
    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    return {
        "commit": commit.stdout.strip() or "unknown",
        "cpus": os.cpu_count(),
        "model": models[0].partition(":")[2].strip() if models else "unknown",
        "loadBefore": before,
        "loadAfter": os.getloadavg()[0],
    }


def _say(what: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {what}", flush=True)


if __name__ == "__main__":
    main()
