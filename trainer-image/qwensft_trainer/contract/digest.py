"""The configuration digest: by it an attempt knows the checkpoints that it may go on from.

Checkpoints outlive upgrades of operator and image, so a digest must not change with the version that computes it. The
fields with which the digest began count with their defaults, as in every digest so far; of later ones counts what
run.yaml says, known to this image or not (docs/adr/0075). A field that is new in config.py needs no entry here.
"""

from __future__ import annotations

from typing import Any

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
