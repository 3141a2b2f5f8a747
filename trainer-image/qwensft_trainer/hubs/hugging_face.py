"""The Hugging Face hub, its mirrors and private hubs: listing by huggingface_hub, files by plain HTTP with Range.

Why not snapshot_download: it throws a half-done file away and checks no checksum (ADR 0018).
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any, Self

import httpx
from huggingface_hub import HfApi, hf_hub_url
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.file_download import http_get
from huggingface_hub.hf_api import RepoFile

from qwensft_trainer.base.log import log
from qwensft_trainer.contract.errors import StageError
from qwensft_trainer.hubs.repository import HubFile, Progress, Repository, Snapshot, is_commit

_PARALLEL_FILES = 4
_ATTEMPTS_WITHOUT_A_BYTE = 4
_UNAUTHORIZED = (401, 403)


class HuggingFaceRepository(Repository):
    """A repository on a hub that speaks Hugging Face's protocol."""

    def _snapshot(self, revision: str | None) -> Snapshot:
        """See Repository.snapshot. A full commit hash is taken as it is, without asking for it."""
        api = HfApi(endpoint=self.address, token=self.token or False)
        try:
            commit = revision
            if not is_commit(self.hub, revision):
                commit = api.repo_info(self.repo, repo_type=self.kind, revision=revision).sha
            tree = api.list_repo_tree(self.repo, repo_type=self.kind, revision=commit, recursive=True)
            listed = tuple(
                HubFile(
                    entry.path,
                    entry.lfs.size if entry.lfs else entry.size,
                    sha256=entry.lfs.sha256 if entry.lfs else None,
                    git_sha1=None if entry.lfs else entry.blob_id,
                )
                for entry in tree
                if isinstance(entry, RepoFile)
            )
        except Exception as error:
            raise self._explained(error, revision) from error
        if commit is None or not listed:
            raise self.no_revision(revision)
        return self.listing(commit, listed, commit)

    def _fetch(self, snapshot: Snapshot, wanted: Sequence[HubFile], directory: Path, progress: Progress) -> None:
        """See Repository.fetch. The largest files first, so that no thread is left alone with one at the end."""
        largest_first = sorted(wanted, key=lambda file: -(file.size or 0))
        pool = ThreadPoolExecutor(_PARALLEL_FILES, thread_name_prefix="download")
        try:
            begun = [pool.submit(self._fetch_one, snapshot, file, directory, progress) for file in largest_first]
            for ended in as_completed(begun):
                ended.result()
        finally:
            progress.stop()
            pool.shutdown(wait=True, cancel_futures=True)

    def _fetch_one(self, snapshot: Snapshot, file: HubFile, directory: Path, progress: Progress) -> None:
        target = directory / file.path
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(target.name + ".part")
        # A second try from the first byte: what an earlier attempt left behind may be damaged.
        for _ in range(2):
            try:
                self._receive(snapshot, file, part, progress)
            except OSError as error:  # hub and HTTP errors are OSErrors, too, but carry no errno
                if error.errno is not None:
                    raise
                raise self._explained(error, snapshot.commit) from error
            except httpx.HTTPError as error:
                raise self._explained(error, snapshot.commit) from error
            if file.matches(part):
                part.replace(target)
                return
            log(f"{file.path} does not match the hub's checksum: it is fetched anew")
            part.unlink()
        raise StageError(
            "DownloadFailed",
            f"{file.path} of {self.repo}, as {self.address} sends it, does not match the size or checksum that the "
            "same hub states, twice in a row. If the hub is a mirror, its copy is damaged.",
        )

    def _receive(self, snapshot: Snapshot, file: HubFile, part: Path, progress: Progress) -> None:
        """Append to `part` what is missing of it. Broken connections are taken up again while bytes keep coming."""
        url = hf_hub_url(self.repo, file.path, repo_type=self.kind, revision=snapshot.commit, endpoint=self.address)
        # A redirect to another host (the hub's storage) loses the authorization: httpx sees to that.
        headers = {"User-Agent": "qwensft-trainer", "Accept-Encoding": "identity"}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        failures = 0
        part.touch()
        while True:
            with part.open("r+b") as stream:
                begun = os.fstat(stream.fileno()).st_size
                if file.size is not None and begun > file.size:
                    stream.truncate(0)
                    begun = 0
                stream.seek(begun)
                try:
                    http_get(
                        url,
                        stream,
                        resume_size=begun,
                        headers=headers,
                        expected_size=file.size,
                        tqdm_class=_bar(progress),
                    )
                    stream.flush()
                    os.fsync(stream.fileno())
                    return
                except httpx.TransportError as error:
                    stream.flush()
                    failures = failures + 1 if os.fstat(stream.fileno()).st_size <= begun else 1
                    if failures >= _ATTEMPTS_WITHOUT_A_BYTE:
                        raise
                    log(f"{file.path}: {type(error).__name__} at byte {stream.tell()}; going on from there")
            time.sleep(2**failures)

    def _explained(self, error: Exception, revision: str | None) -> StageError:
        match error:
            case GatedRepoError():
                return self.gated()
            case RepositoryNotFoundError():
                return self.not_found()
            case RevisionNotFoundError():
                return self.no_revision(revision)
            case HFValidationError():
                return self.refused(f"{self.repo!r} names no repository (owner/name): correct {self.field}.repo.")
            case HfHubHTTPError() if error.response.status_code in _UNAUTHORIZED:
                return self.token_refused(error.response.status_code)
        return self.unavailable(error)


def _bar(progress: Progress) -> Any:
    """What http_get takes for a progress bar: the count goes to the log instead of to a terminal."""

    class Bar:
        def __init__(self, *_: Any, **__: Any) -> None: ...

        def __enter__(self) -> Self:
            return self

        def __exit__(self, *_: object) -> None: ...

        def update(self, count: float | None = 1) -> None:
            progress.add(int(count or 0))

        def close(self) -> None: ...

    return Bar
