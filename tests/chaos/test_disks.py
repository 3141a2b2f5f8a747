"""The disk of a run's volume gets full, read-only or broken in the middle of each stage: the run goes on afterwards.

The volume is a disk of its own (tests/faults/disks.py), put in the place of the folder that the local cluster's
provisioner has made for the claim.
"""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

import pytest
from quickstart import follow
from tests.e2e.runs import Job, Runs
from tests.faults import disks
from tests.faults.disks import Disk, Trouble

from .acts import (
    SAVED_EVERY,
    TIMEOUT,
    TRAINING,
    attempts,
    in_the_middle,
    resumed_from,
    seconds_taken,
    step_of,
    succeeded,
)
from .figures import Figures
from .witness import Witness, wait_until

pytestmark = [
    pytest.mark.skipif(disks.missing() is not None, reason=str(disks.missing())),
    pytest.mark.skipif(os.environ.get("CLUSTER", "local") != "local", reason="volumes of the local cluster alone"),
]
MIB = 256
A_MINUTE = 60.0
# What the stages' records say of each trouble; in every one of them an attempt is tried again.
TOLD = {"full": ("DiskFull", "spec.storage.volume"), "read-only": (None, ""), "error": (None, "")}


@pytest.fixture(scope="module")
def trained() -> set[str]:
    """The weights' digests of all runs here: of one training, wherever it was disturbed."""
    return set()


@pytest.mark.parametrize("trouble", get_args(Trouble))
def test_a_run_outlives_trouble_with_its_disk_in_each_stage(
    *,
    trouble: Trouble,
    runs: Runs,
    witness: Witness,
    figures: Figures,
    chance: random.Random,
    trained: set[str],
    tmp_path: Path,
) -> None:
    name = f"disk-{trouble}"
    with _own_disk(runs, name, tmp_path) as disk:
        storage = {"volume": {"claimName": f"{name}-workspace", "claimTemplate": None}}
        runs.create(name, {"training": TRAINING, "storage": storage, "merge": {"enabled": True}})
        in_the_middle(runs, name, "prepare", chance)
        _trouble_until_told(runs, name, "prepare", disk, trouble)
        in_the_middle(runs, name, "train", chance)
        if trouble == "read-only":
            saved = _newest(disk)
            with disk.in_trouble(trouble):
                time.sleep(A_MINUTE)
        else:
            wait_until("half a checkpoint", lambda: _half(disk), TIMEOUT, pause=0.002)
            saved = _trouble_until_told(runs, name, "train", disk, trouble)
        reached = step_of(runs.get(name))
        in_the_middle(runs, name, "merge", chance)
        last = int(runs.get(name)["status"]["stages"]["train"]["attempt"])
        start = resumed_from(runs, name, last)
        _trouble_until_told(runs, name, "merge", disk, trouble)

        job = succeeded(runs, name)
        trained.add(_weights(runs, job))
        damaged = [folder.name for folder in _sealed(disk) if _differs(folder)]
    figures.add(
        "disks",
        fault=f"disk {trouble}",
        stage="run",
        steps_lost=max(0, reached - start),
        restarts=job["status"].get("restarts", 0),
        run_s=seconds_taken(job),
        attempts=attempts(job),
    )
    assert start >= saved, f"checkpoint {saved} was complete, and the last attempt began at {start}"
    assert reached - start <= SAVED_EVERY
    assert damaged == []
    assert len(trained) == 1, "where it was disturbed makes a difference"
    assert attempts(job)["prepare"] == attempts(job)["merge"] == 2
    witness.check()


def _trouble_until_told(runs: Runs, name: str, stage: str, disk: Disk, trouble: Trouble) -> int:
    """Let the disk be in trouble until the status tells what it has done; the newest complete checkpoint before."""
    saved = _newest(disk)
    seen: list[dict[str, Any]] = []  # the record is gone as soon as the next attempt starts

    def told() -> bool:
        record = runs.get(name)["status"]["stages"].get(stage, {})
        seen.extend([record] if record.get("failedAttempt") else [])
        return bool(seen)

    with disk.in_trouble(trouble):
        wait_until(f"the trouble of {stage} is told", told, TIMEOUT)
    reason, words = TOLD[trouble]
    assert reason in (None, seen[0]["reason"]), seen[0]
    assert words in seen[0]["message"], seen[0]
    return saved


@contextmanager
def _own_disk(runs: Runs, name: str, folder: Path) -> Iterator[Disk]:
    claim = f"{name}-workspace"
    runs.kubectl.apply(
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": claim, "namespace": runs.namespace},
            "spec": {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": f"{MIB}Mi"}}},
        }
    )

    def volume() -> str | None:
        found = runs.kubectl.get("pvc", claim, "-n", runs.namespace)
        return found["spec"].get("volumeName") if found["status"]["phase"] == "Bound" else None

    wait_until("the claim has a volume", volume)
    place = runs.kubectl.get("pv", str(volume()))["spec"]["local"]["path"]
    with Disk(folder / "disk", Path(place), MIB) as disk:
        try:
            yield disk
        finally:
            runs.kubectl.delete(follow.RESOURCE, name, "-n", runs.namespace)
            selector = f"qwensft.io/job={name}"
            wait_until(
                "its pods are gone", lambda: not runs.kubectl.items("pods", "-n", runs.namespace, "-l", selector)
            )
    # Pods that have read it keep the claim's finalizer; it goes with the namespace at the latest.
    runs.kubectl("delete", "pvc", claim, "-n", runs.namespace, "--wait=false")


def _checkpoints(disk: Disk) -> list[Path]:
    """Folders of checkpoints, read below the trouble."""
    return list(disk.below.glob("*/train/*/checkpoint-*"))


def _sealed(disk: Disk) -> list[Path]:
    return [folder for folder in _checkpoints(disk) if (folder / "qwensft-checkpoint.json").exists()]


def _half(disk: Disk) -> bool:
    """Whether one is being written that is not the first."""
    sealed = _sealed(disk)
    return bool(sealed) and len(_checkpoints(disk)) > len(sealed)


def _newest(disk: Disk) -> int:
    return max((int(folder.name.rpartition("-")[2]) for folder in _sealed(disk)), default=0)


def _differs(folder: Path) -> bool:
    listed = json.loads((folder / "qwensft-checkpoint.json").read_text())["files"]
    return any(not (folder / name).exists() or (folder / name).stat().st_size != size for name, size in listed.items())


def _weights(runs: Runs, job: Job) -> str:
    return runs.script(
        "weights_digest.py", job, f"/workspace/{job['status']['outputs']['adapter']['path']}"
    ).splitlines()[-1]
