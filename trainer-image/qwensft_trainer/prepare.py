"""The prepare stage: model and data onto the volume, every row checked, all tokenised, and no accelerator held."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from qwensft_trainer import arguments, datasets, files, model_source, workspace
from qwensft_trainer.config import Run, load_arguments, load_run
from qwensft_trainer.environment import forbid_hub_access
from qwensft_trainer.errors import PermanentError
from qwensft_trainer.log import log
from qwensft_trainer.stage import Result, Stage


def run(stage: Stage) -> Result:
    """Returns the metrics samples and tokens. A preparation that is complete for these inputs returns at once."""
    description = load_run(stage.config)
    train_arguments = load_arguments(stage.config / "train.yaml")
    arguments.check_attention(train_arguments)
    workspace.claim(description)
    digest = configuration_digest(description, train_arguments)
    _refuse_other_results(description, digest)
    inputs = files.sha256_of_json({"configuration": digest, "datasetSizes": _sizes(description)})
    recorded = files.read_json_object(description.prepare_result)
    if recorded and recorded.get("inputs") == inputs and description.tokenized_directory.is_dir():
        log(f"already prepared: {recorded['samples']} samples, {recorded['tokens']} tokens")
        return Result(metrics={"samples": recorded["samples"], "tokens": recorded["tokens"]})
    clock = _Clock()
    model_source.provide(description)
    clock.lap(f"model {description.model.name} is complete in {description.model.path}")
    rows = datasets.write_normalised(description)
    clock.lap("checked " + ", ".join(f"{count} rows of {name}" for name, count in rows.items()))
    forbid_hub_access()
    samples, tokens = tokenise(stage, description, train_arguments, rows)
    clock.lap(f"tokenised {samples} samples, {tokens} tokens")
    counts = {"samples": samples, "tokens": tokens}
    files.write_json(
        description.prepare_result,
        {"inputs": inputs, "configDigest": digest, "rows": rows, "seconds": clock.total(), **counts},
    )
    return Result(metrics=counts)


def tokenise(stage: Stage, description: Run, train_arguments: dict[str, Any], rows: dict[str, int]) -> tuple[int, int]:
    """Samples and tokens of the tokenised data. Apart, because from here on torch and LLaMA-Factory are imported."""
    from qwensft_trainer import tokenization

    expected = sum(dataset.sample_count or rows[dataset.name] for dataset in description.datasets)
    tokenized = tokenization.tokenise(description, train_arguments, expected, scratch=stage.scratch)
    return tokenized.samples, tokenized.tokens


def configuration_digest(run_description: Run, train_arguments: dict[str, Any]) -> str:
    """Identifies what is trained on what: two jobs with the same digest may go on from each other's checkpoints."""
    inputs = run_description.model_dump(mode="json", include={"model", "datasets", "tuning"})
    return files.sha256_of_json({"run": inputs, "train": train_arguments})


def _refuse_other_results(description: Run, digest: str) -> None:
    """With onExisting Resume the directory may hold a finished run of another configuration: its result is not ours."""
    finished = files.read_json_object(description.train_result)
    if finished and finished.get("configDigest") != digest:
        raise PermanentError(
            "OutputExists",
            f"{description.run_directory} holds a finished run with other inputs, so there is nothing to resume. Set "
            "spec.storage.path to a new directory, or spec.storage.onExisting to Overwrite.",
        )


def _sizes(description: Run) -> dict[str, int]:
    return {
        dataset.name: dataset.path.stat().st_size if dataset.path.is_file() else -1 for dataset in description.datasets
    }


@dataclass
class _Clock:
    """Says in the log how long each part took, in seconds."""

    started: float = 0.0
    last: float = 0.0

    def __post_init__(self) -> None:
        self.started = self.last = time.monotonic()

    def lap(self, what: str) -> None:
        now = time.monotonic()
        log(f"{what} ({now - self.last:.1f} s)")
        self.last = now

    def total(self) -> float:
        return round(time.monotonic() - self.started, 1)
