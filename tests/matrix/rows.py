"""Reads rows.yaml: which jobs the matrix consists of and what must be true of each afterwards. Runs nothing.

ADR 0033 says why.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel
from tests.e2e.runs import Job, merged_with

DIRECTORY = Path(__file__).parent
DATA = DIRECTORY / "data"
MODEL_IMAGE = "{model-image}"


class Entry(BaseModel):
    """A part of rows.yaml, checked: a misspelt expectation must not pass for one that is met."""

    model_config = ConfigDict(alias_generator=to_camel, extra="forbid", frozen=True, strict=True)


class Expected(Entry):
    """What must be true of a row's run; rows.yaml says what each entry means. None and empty: nothing in particular."""

    samples: int
    eval_samples: int | None = None
    truncated: int | None = None
    template: str | None = None
    adapter: dict[str, Any] | None = None
    changed: list[str] = []
    initial_loss: float | None = None
    warnings: list[str] = []
    log: list[str] = []
    files: list[str] = []
    tokens: list[str] = []
    stops_early: bool = False


class RowEntry(Entry):
    """A row as it stands in the file."""

    name: str
    core: bool = False
    shows: list[str]
    model: str
    both_engines: bool = False
    spec: dict[str, Any]
    expect: Expected


@dataclass(frozen=True)
class Row:
    """One job of the matrix. `job` is the whole document, but for its namespace and the name of the model's image."""

    name: str
    core: bool
    shows: tuple[str, ...]
    model: str
    job: Job
    expected: Expected
    both_engines: bool = False

    @property
    def method(self) -> str:
        """spec.tuning.method, or its default."""
        return str(self.job["spec"].get("tuning", {}).get("method", "lora"))

    @property
    def steps(self) -> int:
        """Steps the training must do."""
        return int(self.job["spec"]["training"]["maxSteps"])

    @property
    def evaluates(self) -> bool:
        """Whether there must be an evaluation loss."""
        return "evaluation" in self.job["spec"]

    @property
    def outputs(self) -> set[str]:
        """The outputs in the status: an adapter, or a model of its own, what the merge made of it, and the report."""
        return {"model" if self.method in {"full", "freeze"} else "adapter", "merged", "report"}

    def spec(self, *, model_image: str) -> Job:
        """The job's spec with the name of the OCI image that holds the model."""
        spec = copy.deepcopy(self.job["spec"])
        image = spec["model"]["source"].get("image")
        if image:
            image["reference"] = image["reference"].replace(MODEL_IMAGE, model_image)
        return dict(spec)


def read() -> list[Row]:
    """All rows, in the order of the file."""
    document = yaml.safe_load((DIRECTORY / "rows.yaml").read_text())
    entries = [RowEntry.model_validate(entry) for entry in document["rows"]]
    return [_row(entry, document["base"], document["models"][entry.model]) for entry in entries]


def _row(entry: RowEntry, base: Job, model: Job) -> Row:
    job = merged_with(base, {"metadata": {"name": entry.name}, "spec": {"model": model}})
    job = merged_with(job, {"spec": entry.spec})
    if not job["spec"]["model"]["source"]:
        job["spec"]["model"]["source"] = {"volume": {"claimName": "base-models", "path": entry.model}}
    return Row(
        name=entry.name,
        core=entry.core,
        shows=tuple(entry.shows),
        model=entry.model,
        job=job,
        expected=entry.expect,
        both_engines=entry.both_engines,
    )
