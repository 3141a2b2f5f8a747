"""`check`: what of a job can be judged before a cluster sees it: schema and rules, rows that are here, memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from qwensft.api.v1alpha1 import InvalidJobError, QwenSFTJob, differences, parse_job
from qwensft.api.v1alpha1.base import problem_text
from qwensft.cli import halves, local_rows
from qwensft.cli.documents import Document, Manifests, metadata_of
from qwensft.cli.estimating import estimated, verdict
from qwensft.cli.output import Paint, safe
from qwensft.client import words

_LABEL = 8  # characters
_NO_TRAINER = "rows are judged by the trainer's code: pip install 'qwensft[offline]'"


@dataclass
class Checked:
    """What was found of one job. `problems` must be mended before it can run; `warnings` should be read."""

    name: str
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    rows: dict[str, int] = field(default_factory=dict)
    unseen: dict[str, str] = field(default_factory=dict)
    """Datasets that were not looked at, and why."""
    memory: Document = field(default_factory=dict)

    @property
    def is_good(self) -> bool:
        """Whether there is nothing to mend."""
        return not self.problems

    def document(self) -> Document:
        """Return all of it, for -o."""
        return {
            "name": self.name,
            "ok": self.is_good,
            "problems": self.problems,
            "warnings": self.warnings,
            "rows": self.rows,
            "notLookedAt": self.unseen,
            "estimate": self.memory,
        }


def check(
    raw: Document, manifests: Manifests, files: Mapping[str, Path], model: Path | None, gpu: float | None
) -> Checked:
    """Judge one job of a file.

    Args:
        raw: The job.
        manifests: The file that it stands in.
        files: Files with rows, by datasets.
        model: A folder with the model's config.json and tokenizer, where there is one.
        gpu: Bytes of one accelerator, where the job does not say it.
    """
    found = Checked(str(metadata_of(raw).get("name") or "(no name)"))
    try:
        job = parse_job(raw)
    except InvalidJobError as error:
        found.problems = problems_of(error)
        return found
    estimate = estimated(job.spec, gpu)
    found.memory = estimate.document()
    if estimate.fits is False:
        found.warnings.append(f"memory: {verdict(estimate, Paint(False))}")
    found.problems += _of_the_adapter(job, manifests)
    _check_rows(job, manifests, files, model, found)
    return found


def problems_of(error: InvalidJobError) -> list[str]:
    """Return each problem of a document as a sentence that begins with its field."""
    cause = error.__cause__
    if not isinstance(cause, ValidationError):
        return [str(error)]
    return [problem_text(details, QwenSFTJob) for details in cause.errors(include_url=False)]


def _of_the_adapter(job: QwenSFTJob, manifests: Manifests) -> list[str]:
    """What to change for an adapter that a job of the same file trains first; of others only the cluster knows."""
    adapter = job.spec.model.adapter
    if adapter is None:
        return []
    for raw in manifests.jobs:
        try:
            other = parse_job(raw)
        except InvalidJobError:  # told of that one
            continue
        if other.metadata.name == adapter.run.name and other.spec.tuning.uses_adapter:
            return [
                f"the adapter of {other.metadata.name} can be trained on only as it is: {change}"
                for change in differences(other.spec, job.spec)
            ]
    return []


def _check_rows(
    job: QwenSFTJob, manifests: Manifests, given: Mapping[str, Path], model: Path | None, found: Checked
) -> None:
    with local_rows.of_job(job, manifests, given) as files:
        for dataset in job.spec.all_datasets:
            if dataset.name not in files:
                found.unseen[dataset.name] = local_rows.whereabouts(dataset)
        if not files:
            return
        if not (halves.has_operator() and halves.has_trainer()):
            found.unseen |= dict.fromkeys(files, _NO_TRAINER)
            return
        answer = halves.ask_trainer("judge", request(job, files, model))
    if "message" in answer:
        found.problems.append(answer["message"])
        return
    found.rows = answer["rows"]
    found.warnings += answer["warnings"]


def request(job: QwenSFTJob, files: Mapping[str, Path], model: Path | None) -> dict[str, Any]:
    """Return what the trainer is asked about a job's rows."""
    run, arguments = halves.run_files(job)
    return {
        "run": run,
        "arguments": arguments,
        "files": {name: str(path) for name, path in files.items()},
        "model": str(model.resolve()) if model else None,
    }


def text(found: Checked, paint: Paint) -> str:
    """Return what was found of one job. Pure."""
    verdict_word = paint("green", "ok") if found.is_good else paint("red", "not ok")
    lines = [f"{paint('bold', found.name)}: {verdict_word}"]
    lines += [_line("problem", problem, paint, "red") for problem in found.problems]
    lines += [_line("rows", f"{name}: {words.count(rows, 'row')}", paint) for name, rows in found.rows.items()]
    lines += [_line("rows", f"{name}: not looked at: {why}", paint, "yellow") for name, why in found.unseen.items()]
    if memory := found.memory.get("message"):
        lines.append(_line("memory", memory.partition(". Create the job anew")[0], paint))
    lines += [_line("warning", warning, paint, "yellow") for warning in found.warnings]
    return "\n".join(lines)


def _line(label: str, said: str, paint: Paint, style: str = "dim") -> str:
    return f"  {paint(style, label.ljust(_LABEL))} {safe(said)}"
