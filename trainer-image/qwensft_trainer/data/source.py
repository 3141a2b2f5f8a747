"""Where the rows of a dataset come from: a mounted file, or a hub's repository or a URL, fetched to the volume.

Gives the files with rows, and the path of a file that a row names. The rows themselves are read in file_types.py.
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from heapq import nsmallest
from itertools import dropwhile, islice, takewhile
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from qwensft_trainer.base import files
from qwensft_trainer.base.addresses import without_queries
from qwensft_trainer.base.log import log
from qwensft_trainer.contract import credentials
from qwensft_trainer.contract.config import Dataset, DatasetDownload, Run
from qwensft_trainer.contract.errors import PermanentError, StageError, invalid_dataset
from qwensft_trainer.data import hub_splits
from qwensft_trainer.data.file_types import ENDINGS, is_data_file
from qwensft_trainer.data.row_fields import RowProblem, file_name
from qwensft_trainer.data.url import Address, NoSuchFileError
from qwensft_trainer.hubs.download import download_files, open_repository
from qwensft_trainer.hubs.repository import HubFile

_FILES_AT_A_TIME = 200
_LARGEST_DESCRIPTION = 16 << 20


@dataclass(frozen=True)
class Source:
    """The files of one dataset: `names` are relative to `root` and as the user knows them, in the order to be read.

    `fetch` gets another file of the source to `root` by its name; False when there is none, RowProblem when something
    is in between.
    """

    root: Path
    names: tuple[str, ...]
    fetch: Callable[[str], bool] | None = None

    def locate(self, name: str, *, beside: str) -> Path:
        """The path of a file that a row of the data file `beside` names. Raises RowProblem."""
        if not files.is_name(name):
            # What people write in its place is an image in base64.
            raise RowProblem(
                f"a text of {len(name)} characters is no name of a file; an image itself is written as "
                "data:image/png;base64,..."
            )
        if PurePosixPath(name).is_absolute():
            raise RowProblem(f"{file_name(name)} is an absolute path; write it relative to the data file")
        # Relative to the data file, as people expect, or to the source's root, as LLaMA-Factory's media_dir is.
        tried = [posixpath.normpath(posixpath.join(folder, name)) for folder in (posixpath.dirname(beside), "")]
        inside = [relative for relative in dict.fromkeys(tried) if relative.partition("/")[0] != ".."]
        outside = RowProblem(f"{file_name(name)} lies outside of the dataset's source")
        if not inside:
            raise outside
        missing = RowProblem(f"there is no file {file_name(name)} beside {beside}")
        for relative in inside:
            path = self.root / relative
            try:
                is_there = path.is_file() or (self.fetch is not None and self.fetch(relative))
            except RowProblem as problem:  # the other place may have it: stores deny what they do not have
                missing = problem
                continue
            if is_there:
                if files.leads_out(path, self.root):
                    raise outside
                return path
        raise missing


def provide(run: Run) -> dict[str, Source]:
    """The sources of all training and evaluation datasets, downloaded where they have to be.

    Raises StageError: InvalidDataset that names the field to correct, or DownloadFailed.
    """
    return {dataset.name: _provide(run, dataset) for dataset in all_datasets(run)}


def all_datasets(run: Run) -> list[Dataset]:
    """Training datasets, then evaluation datasets."""
    return run.datasets + (run.evaluation.datasets if run.evaluation else [])


def _provide(run: Run, dataset: Dataset) -> Source:
    if dataset.download is None:
        return _mounted(dataset)
    directory = run.data_directory / "download" / dataset.name
    part = "datasets" if dataset in run.datasets else "evaluation.datasets"
    field = f"spec.{part}[{dataset.name}].source.{dataset.download.hub}"
    if dataset.download.hub == "url":
        return _from_url(dataset, dataset.download, directory, field)
    return _from_hub(dataset, dataset.download, directory, field)


def mounted_files(run: Run) -> dict[str, Path]:
    """The files of mounted datasets that are there, by dataset. Raises InvalidDataset for one outside of its volume."""
    places = {dataset.name: _within(dataset) for dataset in all_datasets(run) if dataset.path is not None}
    return {of: path for of, (root, name) in places.items() if (path := root / name).is_file()}


def states(run: Run) -> dict[Path, tuple[int, ...]]:
    """What tells whether a mounted file is still the same one, by its path."""
    return {path: _state(path) for path in mounted_files(run).values()}


@contextmanager
def unchanged(before: Mapping[Path, tuple[int, ...]]) -> Iterator[None]:
    """Check that nobody has written to the mounted files since they were in the states `before`.

    Raises StageError PreparationFailed otherwise, in place of a refusal too: half a file has broken rows, and none of
    it is what its digest says.
    """
    try:
        yield
    except PermanentError as error:
        _require_unchanged(before, error)
        raise
    _require_unchanged(before)


def _require_unchanged(before: Mapping[Path, tuple[int, ...]], cause: PermanentError | None = None) -> None:
    if changed := next((path for path, state in before.items() if not path.exists() or _state(path) != state), None):
        raise StageError(
            "PreparationFailed",
            f"{changed} was changed while it was read. It is read again from its beginning: write a data file under "
            "another name, and rename it when it is whole.",
        ) from cause


def _state(path: Path) -> tuple[int, ...]:
    status = path.stat()  # inode numbers of network and FUSE mounts change by themselves
    return status.st_size, status.st_mtime_ns


def _mounted(dataset: Dataset) -> Source:
    root, name = _within(dataset)
    if not (root / name).is_file():
        raise _missing(dataset, root / name, name)
    return Source(root, (name,))


def _within(dataset: Dataset) -> tuple[Path, str]:
    """The volume of a mounted dataset, and its file's name there. Raises InvalidDataset when a link leads out of it."""
    if dataset.path is None:
        raise invalid_dataset(f"dataset {dataset.name}: it has neither a path nor a download.")
    mount = Path("/datasets") / dataset.name
    root = mount if dataset.path.is_relative_to(mount) else dataset.path.parent
    name = str(dataset.path.relative_to(root))
    if files.leads_out(dataset.path, root):
        raise invalid_dataset(
            f"dataset {dataset.name}: {name} is a symbolic link that leads out of its volume: put the file itself "
            "there."
        )
    return root, name


def _missing(dataset: Dataset, path: Path, name: str) -> PermanentError:
    if path.is_dir():
        return invalid_dataset(
            f"dataset {dataset.name}: {name} is a directory; name a file inside it ({', '.join(ENDINGS)}) in the "
            "dataset's source path."
        )
    if path.exists():  # a pipe, say, of which reading never ends
        return invalid_dataset(
            f"dataset {dataset.name}: {name} is neither a file nor a directory: put a file with the rows in its place."
        )
    beside = nsmallest(5, os.listdir(path.parent)) if path.parent.is_dir() else []
    found = f"; beside it are {', '.join(beside)}" if beside else ""
    return invalid_dataset(
        f"dataset {dataset.name}: there is no file {name} in its source{found}. Correct the path (or key) in the "
        "dataset's source."
    )


def _from_url(dataset: Dataset, download: DatasetDownload, directory: Path, field: str) -> Source:
    address = Address(download, field)
    name = posixpath.basename(unquote(urlsplit(address.url).path)).strip(".") or "data"
    # One directory for each address: what lay beside another one is never taken for what lies beside this.
    inputs = download.model_dump(mode="json", exclude={"credentials"})
    directory = directory / files.sha256_of_json(inputs).removeprefix("sha256:")[:16]

    def fetch(relative: str) -> bool:
        try:
            address.fetch(address.beside(relative), directory / relative)
        except NoSuchFileError:
            return False
        except PermanentError as error:
            raise RowProblem(f"{file_name(relative)} is not to be had: {error.message}") from error
        return True

    if not (directory / name).is_file():
        log(f"dataset {dataset.name}: fetching {without_queries(address.url)}")
        address.fetch(address.url, directory / name, sha256=download.sha256)
    return Source(directory, (name,), fetch)


def _from_hub(dataset: Dataset, download: DatasetDownload, directory: Path, field: str) -> Source:
    repository = open_repository(
        hub="huggingFace" if download.hub == "huggingFace" else "modelScope",
        kind="dataset",
        repo=download.repo or "",
        endpoint=download.endpoint,
        token=credentials.from_secret(download.credentials, "token", field=f"{field}.tokenSecretRef"),
        field=field,
    )
    snapshot = repository.snapshot(download.revision)
    # One directory for each commit: files of two revisions are never mixed, however often the branch moves.
    directory = directory / snapshot.commit[:16]
    listed = {file.path: file for file in sorted(snapshot.files, key=lambda file: file.path)}

    def fetch(relative: str) -> bool:
        if relative not in listed:
            return False
        # With it come those that follow it in the listing: images are asked for one by one, mostly in this order.
        group = (posixpath.dirname(relative), posixpath.splitext(relative)[1])
        after = dropwhile(lambda name: name != relative, listed)
        batch = takewhile(lambda name: (posixpath.dirname(name), posixpath.splitext(name)[1]) == group, after)
        download_files(repository, snapshot, [listed[name] for name in islice(batch, _FILES_AT_A_TIME)], directory)
        return True

    if download.path is not None:
        if download.path not in listed:
            raise invalid_dataset(
                f"{download.repo} has no file {download.path}{_some(listed)}: correct {field}.path, or remove it to "
                "take a split."
            )
        names: tuple[str, ...] = (download.path,)
    else:
        for name in hub_splits.DESCRIPTIONS:
            if name in listed and (size := listed[name].size or 0) > _LARGEST_DESCRIPTION:
                raise invalid_dataset(
                    f"{download.repo}: its {name} has {size >> 20} MiB, too many to look into: set {field}.path to the "
                    "file with the rows."
                )
        described = [name for name in hub_splits.DESCRIPTIONS if fetch(name)]
        texts = {name: (directory / name).read_bytes() for name in described}
        names = hub_splits.files_of(
            download.repo or "", list(listed), texts, subset=download.subset, split=download.split, field=field
        )
    if unreadable := next((name for name in names if not is_data_file(name)), None):
        raise invalid_dataset(
            f"{download.repo}: {unreadable} is none of the file types that are read ({', '.join(ENDINGS)}): set "
            f"{field}.path to a file of these types."
        )
    shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
    log(f"dataset {dataset.name}: {len(names)} files of {download.repo} ({shown})")
    download_files(repository, snapshot, [listed[name] for name in names], directory)
    return Source(directory, names, fetch)


def _some(listed: dict[str, HubFile]) -> str:
    shown = [name for name in listed if is_data_file(name)][:5]
    return f" (it has {', '.join(shown)})" if shown else ""
