"""Which rows of a job are on this machine: files that the user names, and ConfigMaps in the job's own file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from qwensft.api.v1alpha1 import Dataset, QwenSFTJob
from qwensft.cli.documents import Manifests
from qwensft.cli.failures import CommandError


def named(given: Sequence[str]) -> dict[str, Path]:
    """Read NAME=FILE, as of --rows.

    Raises:
        CommandError: it is written otherwise, or there is no such file.
    """
    files = {}
    for one in given:
        name, equals, path = one.partition("=")
        if not equals or not name or not path:
            raise CommandError(f"--rows {one}: write DATASET=FILE, such as --rows support=rows.jsonl")
        if Path(path).is_dir():
            raise CommandError(f"--rows {one}: {path} is a directory; name a file in it")
        if not Path(path).is_file():
            raise CommandError(f"--rows {one}: there is no file {path}")
        files[name] = Path(path).resolve()
    return files


@contextmanager
def of_job(job: QwenSFTJob, manifests: Manifests, given: Mapping[str, Path]) -> Iterator[dict[str, Path]]:
    """Give the files of the datasets that can be looked at here, by their names.

    Raises:
        CommandError: a name of `given` is none of the job's datasets.
    """
    names = {dataset.name for dataset in job.spec.all_datasets}
    for name in given.keys() - names:
        raise CommandError(
            f"--rows {name}=…: {job.metadata.name} has no dataset {name}; it has {', '.join(sorted(names))}"
        )
    with TemporaryDirectory(prefix="qwensft-") as folder:
        yield dict(_found(job, manifests, given, Path(folder)))


def _found(
    job: QwenSFTJob, manifests: Manifests, given: Mapping[str, Path], folder: Path
) -> Iterator[tuple[str, Path]]:
    for dataset in job.spec.all_datasets:
        key = dataset.source.config_map
        if dataset.name in given:
            yield dataset.name, given[dataset.name]
        elif key is not None and (text := manifests.config_map(key.name, key.key)) is not None:
            path = folder / dataset.name / key.key
            path.parent.mkdir()
            path.write_text(text, encoding="utf-8")
            yield dataset.name, path


def whereabouts(dataset: Dataset) -> str:
    """Say where rows are that cannot be looked at here."""
    source = dataset.source
    if source.config_map is not None:
        return f"ConfigMap {source.config_map.name}, which is not in this file"
    if source.volume is not None:
        return f"{source.volume.path} on claim {source.volume.claim_name}"
    if source.url is not None:
        return source.url.url
    hub = source.hugging_face or source.model_scope
    return f"{hub.repo} on {'Hugging Face' if source.hugging_face else 'ModelScope'}" if hub else "elsewhere"
