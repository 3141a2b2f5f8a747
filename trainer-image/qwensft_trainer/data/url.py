"""One file behind an http, https, s3 or gs address: fetched with fsspec, resumed where it stopped, checked.

Credentials are files of a mounted Secret, named after its keys. Without one, what the pod's own service account or
environment gives counts, but not what any pod of a node can ask for (ADR 0125). Which errors are worth another try is
decided here.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

import aiohttp
import fsspec

from qwensft_trainer.base import files, node_addresses
from qwensft_trainer.base.addresses import without_queries
from qwensft_trainer.base.causes import chain
from qwensft_trainer.base.log import log
from qwensft_trainer.base.redaction import clean, secrets
from qwensft_trainer.contract import credentials, space
from qwensft_trainer.contract.config import DatasetDownload
from qwensft_trainer.contract.errors import PermanentError, StageError, invalid_dataset

_PIECE = 16 << 20
_ATTEMPTS_WITHOUT_A_BYTE = 4
_TEMPORARY_STATUSES = (408, 425, 429)
_S3_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
_GS_KEY = "GOOGLE_APPLICATION_CREDENTIALS"
_HTTP_KEY = "AUTHORIZATION"
# What tells two states of a file apart, in the answers of the three clients.
_VERSIONS = ("ETag", "etag", "generation")
_KEYS_OF = {"http": (_HTTP_KEY,), "https": (_HTTP_KEY,), "s3": _S3_KEYS, "gs": (_GS_KEY,)}


class NoSuchFileError(PermanentError):
    """The server has nothing at the address."""


class Address:
    """The server of a dataset's URL. `field` is the part of the spec that names it; errors tell the fix by it."""

    def __init__(self, download: DatasetDownload, field: str) -> None:
        self.url = download.url or ""
        self._credentials = download.credentials
        self._endpoint = download.endpoint
        self._field = field
        self._secret_field = f"{field}.credentialsSecretRef"
        self._scheme = urlsplit(self.url).scheme
        secrets.add(urlsplit(self.url).query)  # of a signed address: that is what opens it
        self._fs: Any = None

    def beside(self, name: str) -> str:
        """The address of a file whose name is relative to this one's."""
        parts = urlsplit(self.url)
        written = quote(name) if self._scheme in ("http", "https") else name
        return urlunsplit(parts._replace(path="", query="")) + parts.path.rpartition("/")[0] + "/" + written

    def fetch(self, url: str, target: Path, *, sha256: str | None = None) -> None:
        """Put the file at `url` to `target`. A half-done one of an earlier call is continued if it is still the same.

        Raises StageError: InvalidDataset when it does not exist, access is denied or the checksum differs, else
        DownloadFailed.
        """
        target.parent.mkdir(parents=True, exist_ok=True)
        part, identity = (target.with_name(target.name + ending) for ending in (".part", ".part.json"))
        with node_addresses.kept_away(but=_own_login(self._scheme)) as refused:
            try:
                self._get(url, part, identity)
            except StageError:
                raise
            except Exception as error:  # three clients raise many kinds; _explained sorts them
                # Only what the volume says has the name of a file.
                if isinstance(error, OSError) and (error.errno in space.FULL or error.filename is not None):
                    raise
                raise (self._of_the_node(url, refused[0]) if refused else self._explained(error, url)) from error
        if sha256 is not None and (found := files.sha256_of_file(part)) != sha256.lower():
            part.unlink()
            raise invalid_dataset(
                f"{without_queries(url)} has the SHA-256 {found}, not {sha256}: the file was changed. Correct "
                f"{self._field}.sha256."
            )
        part.replace(target)
        identity.unlink()

    def _get(self, url: str, part: Path, identity: Path) -> None:
        """Bring `part` to the whole of what the server has; `identity` keeps which state of it that is."""
        self._fs = self._fs or self._file_system()
        state = self._state(url)
        if files.read_json_object(identity) != state or not state.keys() & set(_VERSIONS):
            part.unlink(missing_ok=True)
        files.write_json(identity, state)
        self._receive(url, part, state.get("size"))
        # It comes in several requests, between which it may be replaced.
        if state.get("size", 0) > _PIECE and self._state(url) != state:
            part.unlink()
            raise StageError(
                "DownloadFailed",
                f"{without_queries(url)} changed while it was downloaded. It is tried again from its beginning.",
            )

    def _state(self, url: str) -> dict[str, Any]:
        """The file's address, size and version, as far as the server tells them."""
        info = self._fs.info(url)
        return {"url": url} | {key: info[key] for key in ("size", *_VERSIONS) if info.get(key)}

    def _receive(self, url: str, part: Path, size: int | None) -> None:
        """Append to `part` what is missing of it; without a known `size`, all of it anew."""
        shown = without_queries(url)
        failures = 0
        with part.open("ab") as stream:
            if begun := stream.tell():
                log(f"{shown}: going on from byte {begun}")
            while size is None or stream.tell() < size:
                if size is None:
                    stream.truncate(0)
                    stream.seek(0)
                before = stream.tell()
                try:
                    for piece in self._pieces(url, before, size):
                        stream.write(piece)
                    if size is None:
                        break
                    if stream.tell() == before:
                        raise EOFError(f"the server sent {before} of {size} bytes")
                except _NoRanges:
                    log(f"{shown}: the server sends whole files only; starting from the beginning")
                    size = None
                except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, TimeoutError, EOFError) as error:
                    moved = size is not None and stream.tell() > before
                    failures = 1 if moved else failures + 1
                    if failures >= _ATTEMPTS_WITHOUT_A_BYTE:
                        raise
                    log(f"{shown}: {type(error).__name__} at byte {stream.tell()}; trying again")
                    time.sleep(2**failures)
            stream.flush()
            os.fsync(stream.fileno())

    def _pieces(self, url: str, start: int, size: int | None) -> Iterator[bytes]:
        """The bytes from `start` on. Without a known size, or from a server without ranges, in one stream from 0."""
        # One request for each piece: what is lost with a connection is at most that much.
        block = {"block_size": _PIECE, "cache_type": "none"} if size is not None else {"block_size": 0}
        with closing(self._fs.open(url, "rb", **block)) as source:
            try:
                source.seek(start)
                while piece := source.read(_PIECE):
                    yield piece
            except ValueError as error:  # from fsspec's files, when they have to begin where the server does not
                raise _NoRanges from error

    def _file_system(self) -> Any:
        self._require_all_keys()
        if self._scheme == "s3":
            return self._s3()
        if self._scheme == "gs":
            token = credentials.service_account(self._credentials, _GS_KEY, field=self._secret_field)
            login = str(token) if token else _own_login_of_google()
            return fsspec.filesystem("gs", token=login, endpoint_url=self._endpoint, skip_instance_cache=True)
        if self._endpoint:
            raise invalid_dataset(f"{self._field}.endpoint is for s3:// and gs:// addresses: remove it.")
        authorization = credentials.authorization(self._credentials, _HTTP_KEY, field=self._secret_field)
        # Packed on the way, a file would have another length. aiohttp takes the authorization off when it is redirected
        # to another host.
        client = {
            "headers": {"Accept-Encoding": "identity"} | ({"Authorization": authorization} if authorization else {}),
            "timeout": aiohttp.ClientTimeout(total=None, sock_connect=30, sock_read=60),
            "trust_env": True,
        }
        return fsspec.filesystem(self._scheme, client_kwargs=client, skip_instance_cache=True)

    def _s3(self) -> Any:
        options: dict[str, Any] = {"endpoint_url": self._endpoint, "skip_instance_cache": True}
        if region := self._secret("AWS_REGION"):
            options["client_kwargs"] = {"region_name": region}
        if key := self._secret(_S3_KEYS[0]):
            options |= {"key": key, "secret": self._secret(_S3_KEYS[1]), "token": self._secret("AWS_SESSION_TOKEN")}
        else:
            from botocore.session import Session  # type: ignore[import-untyped, unused-ignore]

            os.environ.setdefault("AWS_EC2_METADATA_DISABLED", "true")  # the role of the node is not the pod's
            # Without a Secret: the role of the pod's service account where the cluster gives one, else a public bucket.
            options["anon"] = Session().get_credentials() is None
        return fsspec.filesystem("s3", **options)

    def _secret(self, key: str) -> str | None:
        return credentials.from_secret(self._credentials, key, field=self._secret_field)

    def _require_all_keys(self) -> None:
        if self._credentials is None:
            return
        missing = [key for key in _KEYS_OF[self._scheme] if not credentials.is_given(self._credentials, key)]
        if missing:
            raise invalid_dataset(
                f"The Secret named in {self._secret_field} has no key {' and no key '.join(missing)}, "
                f"which {self._scheme}:// addresses need. Add it, or remove credentialsSecretRef for a public file."
            )

    def _explained(self, error: Exception, url: str) -> StageError:
        causes, shown = list(chain(error)), without_queries(url)
        status = next((found for cause in causes if (found := _status(cause))), None)
        if status in (401, 403) or any(isinstance(cause, PermissionError) for cause in causes) or _unauthorized(causes):
            return self._denied(shown)
        # fsspec says FileNotFoundError for whatever went wrong with the first request; its cause is what happened.
        if status in (404, 410) or (isinstance(error, FileNotFoundError) and error.__cause__ is None):
            return NoSuchFileError("InvalidDataset", f"There is no file at {shown}: correct {self._field}.url.")
        cause = causes[-1]
        why = clean(without_queries(str(cause)))
        if status is not None and 400 <= status < 500 and status not in _TEMPORARY_STATUSES:
            return invalid_dataset(f"The server answers {shown} with HTTP {status}: correct {self._field}.url.")
        return StageError(
            "DownloadFailed",
            f"Downloading {shown} failed ({type(cause).__name__}: {why:.300}). It is tried "
            "again and goes on where it stopped.",
        )

    def _of_the_node(self, url: str, address: str) -> PermanentError:
        named = f"{self._field}.endpoint" if self._endpoint else f"{self._field}.url"
        return invalid_dataset(
            f"{without_queries(url)} leads to {address}, by its name or by a redirect: an address that belongs to the "
            f"node, where clouds give its credentials to any pod. Nothing is fetched from there: correct {named}."
        )

    def _denied(self, url: str) -> PermanentError:
        keys = " and ".join(_KEYS_OF[self._scheme])
        if self._credentials is None:
            fix = f"name a Secret with {keys} in {self._secret_field}"
        else:
            fix = f"check that {keys} in the Secret of {self._secret_field} give read access to it"
        return invalid_dataset(f"Access to {url} is denied: {fix}.")


class _NoRanges(Exception):  # noqa: N818  # handled where it is raised
    """The server cannot begin in the middle of a file."""


def _own_login(scheme: str) -> set[str]:
    """The node's addresses at which the store's client may ask for a role, as the pod's environment says."""
    if scheme == "s3":
        metadata = {"169.254.169.254", "fd00:ec2::254"} if _is_false("AWS_EC2_METADATA_DISABLED") else set()
        of_the_pod = urlsplit(os.environ.get("AWS_CONTAINER_CREDENTIALS_FULL_URI", "")).hostname  # EKS sets it
        return metadata | ({of_the_pod} if of_the_pod else set())
    return {"169.254.169.254", "fd20:ce::254"} if scheme == "gs" and _is_false("NO_GCE_CHECK") else set()


def _is_false(variable: str) -> bool:
    return os.environ.get(variable, "").lower() == "false"


def _own_login_of_google() -> str:
    """What gcsfs is to log in with: nothing, unless the pod's environment names credentials or asks for the metadata.

    There the node answers with its role, or, with GKE's workload identity, with that of the pod's service account: the
    pod cannot tell which.
    """
    os.environ.setdefault("NO_GCE_CHECK", "true")
    return "google_default" if _is_false("NO_GCE_CHECK") or os.environ.get(_GS_KEY) else "anon"


def _status(error: BaseException) -> int | None:
    """The HTTP status in an error of aiohttp, botocore or gcsfs."""
    response = getattr(error, "response", None)
    if isinstance(response, dict):
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    else:
        status = getattr(error, "status", None) or getattr(error, "code", None)
    return status if isinstance(status, int) else None


def _unauthorized(causes: list[BaseException]) -> bool:
    """Errors without a status that mean the same: no credentials where some are needed, or none that are valid."""
    names = {type(cause).__name__ for cause in causes}
    if names & {"NoCredentialsError", "PartialCredentialsError", "DefaultCredentialsError", "RefreshError"}:
        return True
    return any(isinstance(cause, OSError) and str(cause).startswith("Forbidden") for cause in causes)
