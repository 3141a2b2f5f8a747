"""Which training this is, by digests: an attempt goes on from checkpoints of its own experiment alone.

Checkpoints outlive upgrades of operator and image, so a digest must not change with the version that computes it. The
fields with which the digest began count with their defaults, as in every digest so far; of later ones counts what
run.yaml says, known to this image or not (docs/adr/0075). A field that is new in config.py needs no entry here.
ADR 0122 says why contents count, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from qwensft_trainer.base import files
from qwensft_trainer.contract.config import Run, unread

_DOWNLOAD = dict.fromkeys(("hub", "repo", "revision", "endpoint"), True)
_DATASET_DOWNLOAD = _DOWNLOAD | dict.fromkeys(("subset", "split", "path", "url", "sha256", "credentials"), True)
_DATASET: dict[str, Any] = dict.fromkeys(("name", "format", "path", "columns", "tags", "sample_count", "weight"), True)
_DATASETS = {"__all__": _DATASET | {"download": _DATASET_DOWNLOAD}}
# The sections that say what is trained on what, with their first fields. No other section counts.
_FIRST: dict[str, Any] = {
    "model": {"name": True, "path": True, "template": True, "download": _DOWNLOAD, "cache": True},
    "datasets": _DATASETS,
    "evaluation": {"fraction": True, "datasets": _DATASETS},
    "mixing": {"strategy": True},
    "tuning": {"method": True, "quantization": {"bits": True, "method": True}, "dora": True, "pissa": True},
    "deepspeed": {"stage": True, "config": True},
}
_UNCOUNTED = {"model": {"cache"}}  # where a model is downloaded to


def configuration_digest(run: Run, train_arguments: dict[str, Any]) -> str:
    """Identifies what is trained on what: two jobs with the same digest may go on from each other's checkpoints."""
    first = run.model_dump(mode="json", include=_FIRST, exclude=_UNCOUNTED)
    document = {section: value for section, value in run.document.items() if section in _FIRST}
    later = dict(unread(document, run.model_dump(mode="json", include=_FIRST, by_alias=True)))
    return files.sha256_of_json({"run": first, "train": train_arguments} | ({"later": later} if later else {}))


@dataclass(frozen=True)
class Experiment:
    """What is trained on what, and for whom. `contents` is a digest of the mounted files, None where there are none.

    The configuration names files by their paths, behind which others may lie one day: a run has prepared its rows
    once, and so knows its own attempts by configuration alone; another run must have prepared the same contents. What
    was downloaded needs no digest: it stays on the volume as it was, and its address is part of the configuration.

    Earlier versions have recorded no contents: `unrecorded` are the configurations with which these are known to be the
    same all the same.
    """

    owner_uid: str
    configuration: str
    contents: str | None
    unrecorded: frozenset[str] = frozenset()

    @classmethod
    def of(cls, run: Run, train_arguments: dict[str, Any], contents: str | None) -> Self:
        """Of a run, with what its preparation says of the contents."""
        return cls(run.owner.uid, configuration_digest(run, train_arguments), contents)

    @classmethod
    def of_attempt(cls, record: Mapping[str, Any]) -> Self:
        """Of what attempt.json holds."""
        return cls(str(record.get("ownerUid")), str(record.get("configDigest")), record.get("contents"))

    def document(self) -> dict[str, Any]:
        """As attempt.json and train.json hold it."""
        return {"ownerUid": self.owner_uid, "configDigest": self.configuration, "contents": self.contents}

    def owns(self, record: Mapping[str, Any]) -> bool:
        """Whether an attempt, or a result, is of this experiment, by attempt.json or train.json."""
        if "contents" not in record and record.get("configDigest") in self.unrecorded:
            return True
        if record.get("configDigest") != self.configuration:
            return False
        return record.get("ownerUid") == self.owner_uid or record.get("contents") == self.contents
