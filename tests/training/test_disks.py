"""The volume gets full, read-only or broken in the middle of a training, which goes on from its last checkpoint.

LoRA on two nodes, as in test_resume.py; both share the volume.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.faults import disks
from tests.faults.disks import Disk, Trouble

from .gang import LAST_SAVED, SECONDS, Training

pytestmark = pytest.mark.skipif(disks.missing() is not None, reason=str(disks.missing()))
# What the attempt says that begins while the trouble lasts, before it has trained anything.
TOLD: dict[Trouble, tuple[str, str]] = {
    "full": ("DiskFull", "the next checkpoint needs"),
    "read-only": ("VolumeAccessDenied", "It is tried again"),
    "error": ("TrainingFailed", "look at the storage"),
}


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    mountpoint = tmp_path / "workspace"
    mountpoint.mkdir()
    with Disk(tmp_path / "disk", mountpoint, 64) as disk:
        yield disk


@pytest.fixture(scope="module")
def undisturbed(model: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    training = Training(tmp_path_factory.mktemp("undisturbed")).prepared(model)
    training.train(1)
    return training.weights()


@pytest.mark.parametrize("trouble", TOLD)
def test_trouble_with_the_disk_costs_the_steps_since_the_last_checkpoint_and_no_bit(
    trouble: Trouble, disk: Disk, model: Path, undisturbed: bytes, tmp_path: Path
) -> None:
    training = Training(tmp_path).prepared(model)
    with training.attempt(1) as gang:
        gang.until(lambda: max(training.steps(1), default=0) > LAST_SAVED)
        with disk.in_trouble(trouble):
            assert gang.wait() == [1, 1], gang.log(0) + gang.log(1)
            with training.attempt(2) as another:
                # Node rank 1 asks on; its Job would end with the other's pod.
                assert another.nodes[0].wait(SECONDS) == 1, another.log(0)
                told = another.report(0)
    reason, words = TOLD[trouble]
    assert (told["reason"], told["exitCode"]) == (reason, 1)
    assert words in told["message"]
    training.train(3)
    begun = json.loads((training.directory / "train" / "3" / "attempt.json").read_text())
    assert begun["resumeStep"] == LAST_SAVED
    assert training.weights() == undisturbed
