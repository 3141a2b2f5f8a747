"""Repositories on Hugging Face and ModelScope: what they hold, and its download, resumable and checked file by file.

The hubs' own clients speak the protocols: `hugging_face` and `model_scope`, between which `download` chooses. Where a
model is kept, and that ten jobs fetch it once, is the part of `model.cache`.
"""

from __future__ import annotations

import abc
import dataclasses
import hashlib
import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from qwensft_trainer.base import files, node_addresses
from qwensft_trainer.base.addresses import without_queries
from qwensft_trainer.base.log import log
from qwensft_trainer.base.redaction import clean
from qwensft_trainer.contract.config import HubName
from qwensft_trainer.contract.errors import PermanentError, StageError

Kind = Literal["model", "dataset"]

# What is still being written, beside its target: both hubs' clients are told, or known, to use such names.
PARTIAL_SUFFIXES = (".part", ".incomplete")

_COMMIT = re.compile(r"[0-9a-f]{40}")
# What a hub may call a commit: directories are named after it.
_COMMIT_NAME = re.compile(r"\w[\w.-]*")
# The variable that the hub's own clients read, and where they go without it.
_ENDPOINTS = {
    "huggingFace": ("HF_ENDPOINT", "https://huggingface.co"),
    "modelScope": ("MODELSCOPE_ENDPOINT", "https://www.modelscope.cn"),
}
_REPORT_SECONDS = 30.0
_GIB = 1 << 30


class Stopped(BaseException):  # no Exception: the clients would try again
    """Raised in the threads of a download that is to end: another one failed, or its guard says so."""


@dataclass(frozen=True)
class HubFile:
    """A file of a repository: its size in bytes and the checksum the hub gives (SHA-256, or git's SHA-1 of a blob)."""

    path: str
    size: int | None
    sha256: str | None = None
    git_sha1: str | None = None

    def matches(self, path: Path) -> bool:
        """Whether the file at `path` has the size and the checksum; True when the hub tells neither."""
        if self.size is not None and path.stat().st_size != self.size:
            return False
        if self.sha256 is not None:
            return files.sha256_of_file(path) == self.sha256
        return self.git_sha1 is None or _git_sha1(path) == self.git_sha1


@dataclass(frozen=True)
class Snapshot:
    """The files of a repository at one commit. ModelScope names no commit: there it is a digest of the listing.

    `revision` is what the files have to be asked for by.
    """

    hub: HubName
    repo: str
    commit: str
    files: tuple[HubFile, ...]
    revision: str | None = None


class Progress:
    """Counts the bytes of all threads, tells them in the log now and then, and ends the threads when told to stop."""

    def __init__(self, what: str, total: int, guard: Callable[[], None] | None = None) -> None:
        self.done = 0
        self._what, self._total, self._guard = what, total, guard
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._reported = time.monotonic()

    def add(self, count: int) -> None:
        """Called for every piece of a file. Raises Stopped, or what the guard raises."""
        if self._stopped.is_set():
            raise Stopped
        if self._guard is not None:
            self._guard()
        with self._lock:
            self.done += count
            due = time.monotonic() - self._reported >= _REPORT_SECONDS
            if due:
                self._reported = time.monotonic()
        if due:
            log(f"{self._what}: {self.done / _GIB:.1f} of {self._total / _GIB:.1f} GiB")

    def stop(self) -> None:
        """Make every later add() raise Stopped."""
        self._stopped.set()


@dataclass(frozen=True)
class Repository(abc.ABC):
    """A model or dataset repository. `field` is the part of the spec that names it; errors tell the fix by it."""

    hub: HubName
    kind: Kind
    repo: str
    endpoint: str | None = None
    token: str | None = dataclasses.field(default=None, repr=False)
    field: str = ""

    def snapshot(self, revision: str | None) -> Snapshot:
        """What the repository holds at a branch, tag or commit (None: the hub's default branch).

        Raises StageError: InvalidModel or InvalidDataset when trying again cannot help, else DownloadFailed.
        """
        with self._kept_away():
            return self._snapshot(revision)

    def fetch(self, snapshot: Snapshot, wanted: Sequence[HubFile], directory: Path, progress: Progress) -> None:
        """Put the wanted files below `directory`, checked. A repeated call goes on where an interrupted one stopped."""
        with self._kept_away():
            self._fetch(snapshot, wanted, directory, progress)

    @abc.abstractmethod
    def _snapshot(self, revision: str | None) -> Snapshot: ...

    @abc.abstractmethod
    def _fetch(self, snapshot: Snapshot, wanted: Sequence[HubFile], directory: Path, progress: Progress) -> None: ...

    @contextmanager
    def _kept_away(self) -> Iterator[None]:
        with node_addresses.kept_away() as refused:
            try:
                yield
            except StageError as error:
                if not refused:
                    raise
                raise self.refused(
                    f"{self.address} leads to {refused[0]}, by its name or by a redirect: an address that belongs to "
                    "the node, where clouds give its credentials to any pod. Nothing is fetched from there: correct "
                    f"{self.field}.endpoint."
                ) from error

    def listing(self, commit: str, listed: tuple[HubFile, ...], revision: str | None) -> Snapshot:
        """The snapshot that a hub has answered with. Raises PermanentError for names that no directory can hold."""
        if not _COMMIT_NAME.fullmatch(commit):
            raise self.refused(f"{self.address} says that {self.repo} is at a commit named {commit!r:.100}.")
        paths = {PurePosixPath(file.path): file.path for file in listed}
        for path, name in paths.items():
            if path.is_absolute() or ".." in path.parts or not path.parts:
                raise self.refused(f"{self.repo} lists a file named {name!r:.100}, which lies outside of it.")
            if not files.is_name(name):
                raise self.refused(f"{self.repo} lists a file named {name!r:.100}, which no file can be called.")
            if above := next((parent for parent in path.parents if parent in paths), None):
                raise self.refused(
                    f"{self.repo} lists {name!r:.100} and, as a file, {paths[above]!r:.100}, so that it cannot be "
                    "written to a volume: rename one of them there."
                )
        return Snapshot(self.hub, self.repo, commit, listed, revision)

    @property
    def address(self) -> str:
        """The hub's address: as the spec says, else as the environment does."""
        variable, usual = _ENDPOINTS[self.hub]
        return (self.endpoint or os.environ.get(variable) or usual).rstrip("/")

    def refused(self, why: str) -> PermanentError:
        """The error for what trying again cannot mend."""
        return PermanentError("InvalidModel" if self.kind == "model" else "InvalidDataset", why)

    def not_found(self) -> PermanentError:
        """No such repository, or a private one: hubs do not tell the two apart."""
        name = f" (or {self.field.removesuffix(f'.source.{self.hub}')}.name)" if self.kind == "model" else ""
        return self.refused(
            f"There is no {self.kind} {self.repo} at {self.address}, or it is private: correct {self.field}.repo{name} "
            f"or give a token in {self.field}.tokenSecretRef."
        )

    def gated(self) -> PermanentError:
        """The repository's terms have to be accepted first."""
        return self.refused(
            f"{self.repo} is gated: accept its terms at {self.address}/{self.repo} and give a token of that account in "
            f"{self.field}.tokenSecretRef."
        )

    def token_refused(self, status: int) -> PermanentError:
        """401 or 403 although the repository is there."""
        credential = "the token given" if self.token else "access without a token"
        return self.refused(
            f"{self.address} refuses {credential} for {self.repo} (HTTP {status}): check that the Secret named in "
            f"{self.field}.tokenSecretRef holds a valid token with read access to this repository."
        )

    def no_revision(self, revision: str | None) -> PermanentError:
        """The branch, tag or commit does not exist, or holds no file."""
        return self.refused(
            f"{self.repo} has no revision {revision or 'by default'!r} at {self.address}, or nothing in it: correct "
            f"{self.field}.revision."
        )

    def unavailable(self, error: BaseException) -> StageError:
        """Anything that may pass with time."""
        other = "spec.model.source.volume" if self.kind == "model" else "a volume as the dataset's source"
        return StageError(
            "DownloadFailed",
            f"Downloading {self.repo} from {self.address} failed ({type(error).__name__}: "
            f"{clean(without_queries(str(error))):.300}). It is tried again and goes on where it stopped. In a cluster "
            f"without access to the hub set {self.field}.endpoint to a mirror, or use {other}.",
        )


def is_commit(hub: HubName, revision: str | None) -> bool:
    """Whether a revision can never mean anything else, so that the hub need not be asked what it stands for."""
    return hub == "huggingFace" and revision is not None and _COMMIT.fullmatch(revision) is not None


def _git_sha1(path: Path) -> str:
    """The name git gives a file's content: the SHA-1 of a header and its bytes."""
    digest = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    with path.open("rb") as stream:
        while piece := stream.read(4 << 20):
            digest.update(piece)
    return digest.hexdigest()
