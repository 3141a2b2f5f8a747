"""What releases left behind: a folder `vX.Y.Z` each, which `python -m tests.upgrades.record` has written.

    versions.json     its row in docs/versions.md
    crd.yaml          the CustomResourceDefinition
    chart.tgz         the packaged chart
    trainer.zip       what of the trainer reads run.yaml, as a Python path
    MOMENT.json       all objects of a run, as the API server held them at that moment, but for managedFields
    volume/RUN/       the run's directory, but for model and tokeniser

A shallow clone without tags has all of it.
"""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml

Manifest = dict[str, Any]

NAMESPACE = "team"
MOMENTS = ("preparing", "queued", "training", "merging", "succeeded", "failed")
"""Names of the recorded runs: each was left where its name says."""
_TIME = re.compile(r"\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z")


@dataclass(frozen=True)
class Release:
    """A record."""

    folder: Path

    @property
    def name(self) -> str:
        """Such as v0.2.0."""
        return self.folder.name

    def definition(self) -> Manifest:
        """The CustomResourceDefinition of then."""
        definition: Manifest = yaml.safe_load((self.folder / "crd.yaml").read_text(encoding="utf-8"))
        return definition

    def objects(self, moment: str, now: datetime | None = None) -> list[Manifest]:
        """The objects of a run. With `now` as if recorded then: a run does not grow old in a record."""
        text = (self.folder / f"{moment}.json").read_text(encoding="utf-8")
        recorded = json.loads(text)
        if now is not None:
            passed = now.replace(microsecond=0) - _parsed(recorded["recordedAt"])
            recorded = json.loads(_TIME.sub(lambda found: _later(found[0], passed), text))
        objects: list[Manifest] = recorded["objects"]
        return objects

    def run(self, moment: str) -> Manifest:
        """The QwenSFTJob."""
        return next(one for one in self.objects(moment) if one["kind"] == "QwenSFTJob")

    def put_volume(self, workspace: Path) -> None:
        """Copy the runs' directories onto a volume."""
        for directory in (self.folder / "volume").iterdir():
            shutil.copytree(directory, workspace / directory.name)


def _number(folder: Path) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", folder.name)]


RELEASES = [Release(folder) for folder in sorted(Path(__file__).parent.glob("v*.*.*"), key=_number)]
"""The oldest first."""


def _parsed(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def _later(text: str, passed: timedelta) -> str:
    moved = _parsed(text) + passed
    return moved.strftime("%Y-%m-%dT%H:%M:%S.%fZ" if "." in text else "%Y-%m-%dT%H:%M:%SZ")
