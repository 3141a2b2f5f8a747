"""run.yaml of a release is read by today's trainer, and that release's own reading of today's files."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from tests.unit.operator.render.jobs import SPECS, job

from qwensft.api.v1alpha1 import Stage
from qwensft_operator.render import config_map
from qwensft_trainer.contract.config import RUN_VERSION, load_run

from .records import MOMENTS, RELEASES, Release

# By the trainer of the release; what goes wrong is told as the pod would tell it.
_READ = """
import sys
from pathlib import Path
from qwensft_trainer import __version__
from qwensft_trainer.contract.config import load_run
from qwensft_trainer.contract.errors import PermanentError
print(">", __version__)
for directory in sys.argv[1:]:
    try:
        print("> read", load_run(Path(directory)).model.name)
    except PermanentError as error:
        print(">", error.reason, error.message)
"""
pytestmark = pytest.mark.parametrize("release", RELEASES, ids=lambda release: release.name)


def read_by(release: Release, *directories: Path) -> list[str]:
    """What the release's trainer prints: its version, then of each directory what becomes of its run.yaml."""
    done = subprocess.run(
        [sys.executable, "-c", _READ, *map(str, directories)],
        env={"PYTHONPATH": str(release.folder / "trainer.zip")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [line.removeprefix("> ") for line in done.stdout.splitlines() if line.startswith("> ")]


@pytest.mark.parametrize("moment", MOMENTS)
def test_todays_trainer_reads_all_that_a_release_wrote(
    release: Release, moment: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config_maps = [one for one in release.objects(moment) if one["kind"] == "ConfigMap"]
    assert config_maps
    for one in config_maps:
        (tmp_path / "run.yaml").write_text(one["data"]["run.yaml"], encoding="utf-8")
        run = load_run(tmp_path)
        assert (run.owner.name, run.model.name) == (moment, "Qwen/Qwen3-0.6B")
        assert capsys.readouterr().out == "", "all keys are known, and none is lost"


def test_the_trainer_of_a_release_reads_the_job_that_it_knew(release: Release, tmp_path: Path) -> None:
    """A plain job needs nothing new, so its run.yaml keeps a version that the release reads."""
    plain = job()
    (tmp_path / "run.yaml").write_text(config_map(plain, Stage.PREPARE, 1)["data"]["run.yaml"])
    version, *told = read_by(release, tmp_path)
    assert version == release.name.removeprefix("v")
    assert [line for line in told if not line.startswith("run.yaml says")] == [
        f"read {job('lora-1-gpu-hub').spec.model.name}"
    ]


def test_the_trainer_of_a_release_reads_or_refuses_in_words_whatever_todays_operator_writes(
    release: Release, tmp_path: Path
) -> None:
    directories = []
    for name in SPECS:
        (directory := tmp_path / name).mkdir()
        (directory / "run.yaml").write_text(config_map(job(name), Stage.TRAIN, 1)["data"]["run.yaml"])
        directories.append(directory)
    newer = tmp_path / "newer"
    newer.mkdir()
    document = yaml.safe_load((directories[0] / "run.yaml").read_text())
    (newer / "run.yaml").write_text(yaml.safe_dump(document | {"version": RUN_VERSION + 1, "operatorVersion": "9.1.0"}))
    version, *answers = read_by(release, *directories, newer)
    assert len(answers) == len(directories) + 1
    assert all(answer.startswith(("read ", "InvalidConfig run.yaml has version ")) for answer in answers), answers
    assert answers[-1].startswith(
        f"InvalidConfig run.yaml has version {RUN_VERSION + 1}, written by version 9.1.0 of the operator; this image, "
        f"version {version} of the trainer, reads versions up to "
    )
