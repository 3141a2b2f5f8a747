"""The prepare stage: model and data onto the volume, every row checked, all tokenised, and no accelerator held."""

from __future__ import annotations

import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qwensft_trainer.base import files
from qwensft_trainer.base.environment import WITHOUT_HUBS, forbid_hub_access
from qwensft_trainer.base.log import log
from qwensft_trainer.contract import workspace
from qwensft_trainer.contract.ahead import Ahead
from qwensft_trainer.contract.config import Run, load_arguments, load_run
from qwensft_trainer.contract.digest import Experiment
from qwensft_trainer.contract.errors import PermanentError, StageError
from qwensft_trainer.contract.stage import Result, StageContext
from qwensft_trainer.data import normalise as datasets
from qwensft_trainer.data import source as dataset_source
from qwensft_trainer.data import tokenization
from qwensft_trainer.data.thinking import Thinking
from qwensft_trainer.model import families, fingerprint
from qwensft_trainer.model import source as model_source
from qwensft_trainer.model.checks import chain as model_checks
from qwensft_trainer.model.checks import deepspeed as deepspeed_config
from qwensft_trainer.model.checks import learning_rate
from qwensft_trainer.trackers import secrets as tracker_secrets
from qwensft_trainer.training import checkpoints, continued, earlier

SHOWN_WARNINGS = 5
WARNING_CHARACTERS = 300
# What encoding rows imports, for seconds: in a process of its own, while model and data are downloaded and checked.
_LIBRARIES = ("datasets", "llamafactory.data", "llamafactory.hparams", "llamafactory.model")
_LIBRARIES_OF_TEXTS = ("qwensft_trainer.data.text_libraries",)


def main(context: StageContext) -> Result:
    """Returns counts, lengths, warnings, template and the model's shape as metrics (see docs/data.md).

    A preparation that is complete for these inputs returns at once with what was recorded.
    """
    run = load_run(context.config)
    workspace.require_within(run, context.workspace)
    train_arguments = load_arguments(context.config / "train.yaml")
    if run.trackers is not None:
        tracker_secrets.variables(run.trackers)  # accelerators must not wait for what is wrong with them
    clock = _Clock()
    states = dataset_source.states(run)
    contents = _contents(run)
    clock.lap("what was mounted is read for its digest")
    experiment = Experiment.of(run, train_arguments, contents)
    resumed = experiment
    if run.on_existing == "Resume":
        resumed = earlier.with_records(experiment, run, train_arguments, dataset_source.mounted_files(run))
        _refuse_other_results(run, resumed)
    workspace.claim(run)
    if resumed.unrecorded:
        earlier.adopt(run, resumed)
    inputs = files.sha256_of_json({"configuration": experiment.configuration, "contents": contents})
    recorded = files.read_json_object(run.prepare_result)
    if recorded and recorded.get("inputs") == inputs and run.tokenized_directory.is_dir():
        model_source.provide(run)
        continued.provide(run)
        log(f"already prepared: {recorded['metrics']['samples']} samples, {recorded['metrics']['tokens']} tokens")
        return Result(metrics=recorded["metrics"])
    # From here on the tokenised data may be of other inputs than those recorded.
    run.prepare_result.unlink(missing_ok=True)
    files.remove_links(run.data_directory)
    known = {"inputs": inputs, "configDigest": experiment.configuration, "contents": contents}
    with Ahead(_libraries(run, train_arguments), WITHOUT_HUBS, killed=_killed) as libraries:
        return _prepared(context, run, train_arguments, known, libraries, states=states, clock=clock)


def _libraries(run: Run, train_arguments: Mapping[str, Any]) -> tuple[str, ...]:
    """Modules to import ahead: fewer where it is known before there are any files that only texts are encoded."""
    texts = run.model.template is not None and run.model.template not in families.VISION
    known = texts and not train_arguments.get("trust_remote_code")  # what a model brings may import anything
    return ("qwensft_trainer.data.tokenization", *(_LIBRARIES_OF_TEXTS if known else _LIBRARIES))


def _prepared(
    context: StageContext,
    run: Run,
    train_arguments: Mapping[str, Any],
    known: Mapping[str, Any],
    libraries: Ahead,
    *,
    states: Mapping[Path, tuple[int, ...]],
    clock: _Clock,
) -> Result:
    """Prepare, and record it with what is known of the inputs, whose files were in these states before."""
    # Data first: it is small beside a model and more often what is wrong.
    sources = dataset_source.provide(run)
    continued.provide(run)
    clock.lap("the data files are there")
    model_source.provide(run)
    clock.lap(f"model {run.model.name} is complete in {run.model.path}")
    template = families.resolve_template(run)
    of_the_model = model_checks.check(run, train_arguments)
    thinking = Thinking(
        template, families.chat_template(run.model.path), on=train_arguments.get("enable_thinking", True)
    )
    with dataset_source.unchanged(states):
        normalised = datasets.write_normalised(run, sources, thinking)
    deepspeed_config.install(run)
    clock.lap("checked " + ", ".join(f"{count} rows of {name}" for name, count in normalised.rows.items()))
    forbid_hub_access()
    counts, limits, trained = tokenise(context, run, train_arguments, template, libraries)
    clock.lap(f"tokenised {counts['samples']} samples, {counts['tokens']} tokens")
    # Rows first: they are more often what is wrong, and only the first warnings are shown.
    warnings = normalised.warnings + of_the_model + limits
    warnings += learning_rate.warnings(run, train_arguments, counts["samples"])
    for warning in warnings:
        log(f"warning: {warning}")
    metrics = (
        counts
        | normalised.metrics
        | {
            "warnings": _shown(warnings),
            "template": template,
            "model": model_checks.describe(run.model.path),
        }
    )
    workspace.require_ownership(run)  # another job may have been told to take the directory over meanwhile
    files.write_json(
        run.prepare_result,
        {
            **known,
            "template": template,
            **_begins_with(run),
            **trained,
            "rows": normalised.rows,
            "warnings": warnings,
            "seconds": clock.total(),
            "metrics": metrics,
        },
    )
    return Result(metrics=metrics)


def _begins_with(run: Run) -> dict[str, Any]:
    """What is trained: whoever trains on the adapter compares the base, and the adapter may be another run's."""
    adapter = run.model.adapter
    return {
        "base": fingerprint.of(run.model.path),
        **({} if adapter is None else {"adapter": adapter.model_dump(mode="json", exclude={"path"})}),
    }


def tokenise(
    context: StageContext, run: Run, train_arguments: Mapping[str, Any], template: str, libraries: Ahead
) -> tuple[dict[str, Any], list[str], dict[str, Any]]:
    """Counts and lengths of the tokenised data, warnings, and what is recorded of it for the merge and the report."""
    lengths, warnings, system, found = libraries.call(
        tokenization.tokenise, run, train_arguments, template, scratch=context.scratch
    )
    train = lengths.pop(tokenization.TRAIN)
    counts = train.metrics()
    if lengths:
        counts["evalSamples"] = sum(split.samples for split in lengths.values())
    if train.truncated:
        warnings.append(
            f"{train.truncated} of {train.samples} samples are longer than spec.training.cutoffLen "
            f"({train_arguments.get('cutoff_len')} tokens) and are cut; the longest has {train.longest}"
        )
    return counts, warnings, {"system": system, "templateParity": found.document(), "lengths": train.histogram()}


def _killed(exit_code: int) -> StageError:
    if exit_code == -signal.SIGKILL:
        return StageError(
            "OutOfMemory",
            "The process that encodes rows was killed, mostly for want of memory: raise memory in "
            "spec.prepare.resources.limits.",
        )
    return StageError("PreparationFailed", f"The process that encodes rows ended with exit code {exit_code}.")


def _refuse_other_results(run: Run, experiment: Experiment) -> None:
    """With onExisting Resume the directory may hold another experiment: its result or checkpoints are not ours.

    Its checkpoints would lie among this run's own, and be gone on from as such by a later attempt.
    """
    finished = files.read_json_object(run.train_result)
    others = checkpoints.holds_others(run.run_directory / "train", experiment)
    if others or (finished and not experiment.owns(finished)):
        raise PermanentError(
            "OutputExists",
            f"{run.run_directory} holds a run with other inputs (the spec, or the content of its data files), so there "
            "is nothing to resume. Set spec.storage.path to a new directory. To train on what that run has learnt, "
            "name its QwenSFTJob in spec.model.adapter.run or spec.model.source.run, too. spec.storage.onExisting: "
            "Overwrite deletes its files, the trained model among them.",
        )


def _contents(run: Run) -> str | None:
    """A digest of what can change behind the configuration's back: mounted files. None without any."""
    mounted = {f"rows of {name}": path for name, path in dataset_source.mounted_files(run).items()}
    own = run.deepspeed.config if run.deepspeed and run.deepspeed.stage is None else None
    if own and own.is_file():
        mounted["deepspeed"] = own
    digests = {what: files.sha256_of_file(path) for what, path in mounted.items()}
    return files.sha256_of_json(digests) if digests else None


def _shown(warnings: list[str]) -> list[str]:
    """What fits into the report: the first ones, and how many more there are."""
    if len(warnings) <= SHOWN_WARNINGS:
        return [_shortened(warning) for warning in warnings]
    shown = [_shortened(warning) for warning in warnings[: SHOWN_WARNINGS - 1]]
    return [*shown, f"{len(warnings) - len(shown)} more warnings stand in the log and in prepare.json"]


def _shortened(warning: str) -> str:
    return warning if len(warning) <= WARNING_CHARACTERS else warning[: WARNING_CHARACTERS - 3] + "..."


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
