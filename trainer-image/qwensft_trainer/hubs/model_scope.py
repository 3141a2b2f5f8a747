"""The ModelScope hub and its mirrors, through modelscope-hub, which resumes downloads and checks SHA-256 sums."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from modelscope_hub import HubApi, ProgressCallback
from modelscope_hub.errors import (
    AuthenticationError,
    FileDownloadError,
    InvalidParameter,
    NotExistError,
    PermissionDeniedError,
)

from qwensft_trainer.contract.errors import StageError
from qwensft_trainer.hubs.repository import HubFile, Progress, Repository, Snapshot

_PARALLEL_FILES = 4


class ModelScopeRepository(Repository):
    """A repository on a hub that speaks ModelScope's protocol."""

    def _snapshot(self, revision: str | None) -> Snapshot:
        """See Repository.snapshot. The hub answers an unknown revision with an empty list."""
        try:
            entries = self._api().list_repo_files(self.repo, self.kind, revision=revision)
        except Exception as error:
            raise self._explained(error, revision) from error
        listed = tuple(
            HubFile(entry.path, entry.size, sha256=entry.sha256)
            for entry in sorted(entries, key=lambda entry: entry.path)
            if entry.type != "tree"
        )
        if not listed:
            raise self.no_revision(revision)
        lines = "".join(f"{file.sha256 or '-'}  {file.size}  {file.path}\n" for file in listed)
        return self.listing(hashlib.sha256(lines.encode("utf-8", "surrogatepass")).hexdigest()[:40], listed, revision)

    def _fetch(self, snapshot: Snapshot, wanted: Sequence[HubFile], directory: Path, progress: Progress) -> None:
        """See Repository.fetch. A branch that has moved on since it was listed shows by the checksums."""

        class Counter(ProgressCallback):  # type: ignore[misc, unused-ignore]
            def update(self, size: int) -> None:
                progress.add(size)

        try:
            self._api().download_repo(
                self.repo,
                self.kind,
                revision=snapshot.revision,
                local_dir=directory,
                max_workers=_PARALLEL_FILES,
                file_list=[{"Path": file.path, "Size": file.size, "Sha256": file.sha256} for file in wanted],
                progress_callbacks=[Counter],
            )
        except FileDownloadError as error:
            path, cause = next(iter(error.failed_files.items()))
            for failed in error.failed_files.values():
                if isinstance(failed, OSError) and failed.errno is not None:
                    raise failed from error  # a full disk, say
            raise self._explained(cause, snapshot.revision, path) from error
        except Exception as error:
            raise self._explained(error, snapshot.revision) from error

    def _api(self) -> Any:
        # An empty token, unlike None, keeps the client from looking for one in the environment.
        return HubApi(token=self.token or "", endpoint=self.address)

    def _explained(self, error: BaseException, revision: str | None, path: str | None = None) -> StageError:
        match error:
            case NotExistError() if path is None:
                return self.not_found()
            case AuthenticationError() | PermissionDeniedError():
                return self.token_refused(error.status_code or 403)
            case InvalidParameter() if path is None:
                return self.no_revision(revision)
        return self.unavailable(error)
