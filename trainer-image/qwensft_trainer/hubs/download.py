"""Downloads a repository's files: several at a time, on from where an earlier download stopped, if they fit."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from qwensft_trainer.base.causes import is_about_the_path
from qwensft_trainer.base.log import log
from qwensft_trainer.contract import space
from qwensft_trainer.contract.config import HubName
from qwensft_trainer.hubs.repository import PARTIAL_SUFFIXES, HubFile, Kind, Progress, Repository, Snapshot

_GIB = 1 << 30


def open_repository(
    *, hub: HubName, kind: Kind, repo: str, endpoint: str | None, token: str | None, field: str
) -> Repository:
    """The repository, without asking the hub yet. The clients are imported here: they take a second."""
    if hub == "huggingFace":
        from qwensft_trainer.hubs.hugging_face import HuggingFaceRepository

        return HuggingFaceRepository(hub, kind, repo, endpoint, token, field)
    from qwensft_trainer.hubs.model_scope import ModelScopeRepository

    return ModelScopeRepository(hub, kind, repo, endpoint, token, field)


def download_files(
    repository: Repository,
    snapshot: Snapshot,
    wanted: Iterable[HubFile],
    directory: Path,
    *,
    guard: Callable[[], None] | None = None,
) -> None:
    """Fetch files of a snapshot into `directory`, several at a time; what is there with the right size stays.

    `guard` is called often, in any thread; what it raises ends the download and is raised from here. Raises StageError:
    DiskFull before the first byte when they cannot fit, DownloadFailed, InvalidModel or InvalidDataset.
    """
    missing = [file for file in wanted if not is_there(directory / file.path, file.size)]
    if not missing:
        return
    directory.mkdir(parents=True, exist_ok=True)
    total = sum(file.size or 0 for file in missing)
    begun = sum(_bytes_begun(directory / file.path) for file in missing)
    space.require(directory, total - begun, "what is still to be downloaded needs")
    log(
        f"downloading {len(missing)} files of {snapshot.repo} ({total / _GIB:.2f} GiB, commit {snapshot.commit[:12]}) "
        f"from {repository.address}" + (f", {begun / _GIB:.2f} GiB of them are there already" if begun else "")
    )
    progress = Progress(snapshot.repo, total - begun, guard)
    try:
        repository.fetch(snapshot, missing, directory, progress)
    finally:
        progress.stop()


def is_there(path: Path, size: int | None) -> bool:
    """Whether a file was downloaded completely: files get their final name only after they were checked.

    Raises OSError for a volume in trouble.
    """
    try:
        return path.is_file() and (size is None or path.stat().st_size == size)
    except OSError as error:
        if not is_about_the_path(error):
            raise
        return False


def _bytes_begun(path: Path) -> int:
    partial = (path.with_name(path.name + suffix) for suffix in PARTIAL_SUFFIXES)
    return sum(begun.stat().st_size for begun in partial if begun.is_file())
