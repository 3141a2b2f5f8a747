"""What runs of earlier versions have left in a directory that a job with onExisting: Resume goes on in.

Their records do not say what was in the mounted files. But prepare.json has a digest of size and time of change of
each: where these are the same today, the rows are, too. Where they are not, a person may say that they are.
ADR 0141 says why.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from qwensft_trainer.base import files
from qwensft_trainer.base.log import log
from qwensft_trainer.contract.config import Run
from qwensft_trainer.contract.digest import Experiment, configuration_digest
from qwensft_trainer.contract.errors import PermanentError
from qwensft_trainer.training import checkpoints

SAME_ROWS = ".qwensft-same-rows"  # a person's word for it
# What operators have rendered of the same spec, in versions whose runs recorded no contents.
_RENDERED_THEN: tuple[dict[str, Any], ...] = ({}, {"include_num_input_tokens_seen": True})


def with_records(
    experiment: Experiment, run: Run, train_arguments: Mapping[str, Any], mounted: Mapping[str, Path]
) -> Experiment:
    """The experiment, to which records without contents belong as far as they are known to be of it.

    `mounted` are the mounted files of rows, by dataset. Raises OutputExists when that cannot be known.
    """
    digests = frozenset(configuration_digest(run, then | dict(train_arguments)) for then in _RENDERED_THEN)
    every = replace(experiment, unrecorded=digests)
    if experiment.contents is None or (run.run_directory / SAME_ROWS).exists():
        return every
    prepared = files.read_json_object(run.prepare_result) or {}
    looks = {name: [(found := path.stat()).st_size, found.st_mtime_ns] for name, path in mounted.items()}
    seen = {digest: {"configuration": digest, "files": looks | {"deepspeed": None}} for digest in digests}
    same = frozenset(digest for digest in digests if files.sha256_of_json(seen[digest]) == prepared.get("inputs"))
    known = replace(experiment, unrecorded=same)
    if any(not known.owns(record) for _, record in _records(run, every)):
        raise PermanentError(
            "OutputExists",
            f"{run.run_directory} holds a run of this spec by an earlier version, which has not recorded what was in "
            "its data files, and their size or time of change is not what it was (in a ConfigMap it never is). If they "
            f"hold the same rows as then, create an empty file {SAME_ROWS} in that directory and raise "
            "spec.runPolicy.retry: the training goes on from its checkpoints. If not, set spec.storage.path to a new "
            "directory, or spec.storage.onExisting to Overwrite (delete its files, a trained model among them).",
        )
    return known


def adopt(run: Run, experiment: Experiment) -> None:
    """Write configuration and contents into the records of earlier versions that belong to the experiment.

    Then every stage and attempt knows them. May be repeated; the directory must be the run's.
    """
    said = {key: value for key, value in experiment.document().items() if key != "ownerUid"}
    for path, record in _records(run, experiment):
        files.write_json(path, record | said)
        log(f"{path.relative_to(run.run_directory)} is of an earlier version, and of the same rows: it is gone on from")
    (run.run_directory / SAME_ROWS).unlink(missing_ok=True)


def _records(run: Run, experiment: Experiment) -> Iterator[tuple[Path, dict[str, Any]]]:
    """The records without contents, of attempts and of a result, that belong to an experiment."""
    train = run.run_directory / "train"
    directories = [path for path in train.iterdir() if not path.is_symlink()] if train.is_dir() else []
    for path in (*(directory / checkpoints.ATTEMPT_FILE for directory in directories), run.train_result):
        record = files.read_json_object(path)
        if record is not None and "contents" not in record and experiment.owns(record):
            yield path, record
