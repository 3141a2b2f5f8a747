"""The line to the API server: requests in, plain JSON out, errors with words.

Of the package kubernetes it uses what reads credentials and pools connections, and sends its requests by itself: the
generated methods differ between the versions that have to do (ADR 0171).
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlencode

from qwensft.api.v1alpha1 import GROUP, KIND, PLURAL, VERSION
from qwensft.client import websockets
from qwensft.client.answers import Lines, SilentError
from qwensft.client.errors import ExpiredError, NotLoggedInError, UnreachableError, from_answer
from qwensft.client.kubeconfig import Access, access, kubernetes

Document = dict[str, Any]

_TIMEOUT: Final = 30.0  # seconds for one request
_SILENCE: Final = 90.0  # seconds for which a stream may say nothing: more than a watch is asked to last
_BUSY_TRIES: Final = 5  # where the server says that it is too busy
_BUSY_PAUSE: Final = 10.0  # seconds at most, whatever it asks for
_CLOCK: Final = timedelta(seconds=2)  # by which clocks may differ without being told: the server's tells seconds
_RUNS: Final = f"apis/{GROUP}/{VERSION}"
_ROOMS: Final = {PLURAL: _RUNS, "pods": "api/v1", "events": "api/v1", "configmaps": "api/v1"} | {
    "persistentvolumeclaims": "api/v1",
    "deployments": "apis/apps/v1",
}
_KINDS: Final = {PLURAL: KIND, "pods": "Pod", "events": "Events", "configmaps": "ConfigMap"} | {
    "persistentvolumeclaims": "PersistentVolumeClaim",
    "deployments": "Deployment",
}


class Connection:
    """One API server, one user, one namespace. Safe to use from several threads."""

    def __init__(
        self, *, namespace: str | None = None, context: str | None = None, kubeconfig: str | Path | None = None
    ) -> None:
        """Read the kubeconfig, or the pod's service account where there is none.

        Raises:
            MissingPackageError: the package kubernetes is not installed.
            ConfigurationError: there is no usable configuration.
            NotLoggedInError: a login plugin gives no credentials.
        """
        self._login = _Login(access(context, kubeconfig))
        self._kubeconfig = kubeconfig
        self._renewing = threading.Lock()
        self._ahead = timedelta()
        self.namespace = namespace or self._login.access.namespace

    def now(self) -> datetime:
        """Return the time by the API server's clock, as its last answer told it: ages are reckoned by one clock."""
        return datetime.now(UTC) + self._ahead

    def get(self, kind: str, name: str) -> Document:
        """Return an object by the plural of its kind, as "pods"."""
        return self._json("GET", kind, name)

    def list(self, kind: str, *, everywhere: bool = False, **query: Any) -> Document:
        """Return a list of objects, whole; `query` as the API server knows it (labelSelector, fieldSelector)."""
        answer = self._json("GET", kind, everywhere=everywhere, query={"limit": 500, **query})
        while token := answer["metadata"].get("continue"):
            try:
                page = self._json("GET", kind, everywhere=everywhere, query={"limit": 500, **query, "continue": token})
            except ExpiredError:  # the server has forgotten how things stood at the first page
                return self._json("GET", kind, everywhere=everywhere, query=query)
            answer = {**page, "items": answer["items"] + page["items"]}
        return answer

    def create(self, kind: str, document: Document, *, dry_run: bool = False) -> Document:
        """Create an object; with `dry_run` ask the server alone whether it would."""
        query = {"fieldValidation": "Strict"} | ({"dryRun": "All"} if dry_run else {})
        return self._json("POST", kind, body=document, query=query, named=document["metadata"]["name"])

    def merge(self, kind: str, name: str, patch: Document) -> Document:
        """Change fields of an object: a JSON merge patch."""
        return self._json("PATCH", kind, name, body=patch, content_type="application/merge-patch+json")

    def apply(
        self, kind: str, document: Document, *, manager: str, force: bool = False, dry_run: bool = False
    ) -> Document:
        """Create an object, or make its fields those of the document: server-side apply."""
        query = {"fieldManager": manager, "force": str(force).lower(), "fieldValidation": "Strict"}
        query |= {"dryRun": "All"} if dry_run else {}
        name, content_type = document["metadata"]["name"], "application/apply-patch+yaml"
        return self._json("PATCH", kind, name, body=document, query=query, content_type=content_type)

    def delete(self, kind: str, name: str, **options: Any) -> None:
        """Ask for the deletion of an object; `options` as DeleteOptions.

        Raises:
            ConflictError: it is no longer the one that `preconditions` name.
        """
        self._json("DELETE", kind, name, body={"propagationPolicy": "Background", **options})

    def watch(self, kind: str, *, seconds: float, **query: Any) -> Iterator[tuple[str, Document]]:
        """Yield type and object of each event for so many seconds, or until the server ends the watch."""
        query = {"watch": "true", "allowWatchBookmarks": "true", "timeoutSeconds": max(1, int(seconds)), **query}
        doing = f"watch {_KINDS[kind]}s in namespace {self.namespace}"
        with closing(self._lines(self._path(kind), query, doing)) as lines, suppress(SilentError):
            for line in lines:
                event = _parsed(line, doing)
                if event["type"] == "ERROR":
                    raise from_answer(event["object"].get("code", 500), json.dumps(event["object"]), doing)
                yield event["type"], event["object"]

    def log(self, pod: str, **query: Any) -> Lines:
        """Return the lines of a container's log; `query` as the API server knows it (container, follow, tailLines).

        Whoever reads them hears a SilentError where nothing is logged for a while: the connection may be dead.
        """
        doing = f"read the log of Pod {pod} in namespace {self.namespace}"
        return self._lines(f"{self._path('pods', pod)}/log", query, doing)

    def exec(self, pod: str, container: str, command: Sequence[str], *, stdin: bool) -> Any:
        """Start a command in a container; return the open websocket."""
        query = [("container", container), ("stdin", str(stdin).lower()), ("stdout", "true"), ("stderr", "true")]
        query += [("command", part) for part in command]
        path = f"{self._path('pods', pod)}/exec?{urlencode(query)}"
        doing = f"run a command in Pod {pod} in namespace {self.namespace}"
        login = self._login
        try:
            return login.websocket(path, doing)
        except NotLoggedInError:
            return self._log_in_anew(login).websocket(path, doing)

    def _path(self, kind: str, name: str = "", *, everywhere: bool = False) -> str:
        namespace = "" if everywhere else f"/namespaces/{quote(self.namespace, safe='')}"
        return f"/{_ROOMS[kind]}{namespace}/{kind}" + (f"/{quote(name, safe='')}" if name else "")

    def _json(
        self,
        method: str,
        kind: str,
        name: str = "",
        *,
        everywhere: bool = False,
        named: str = "",
        query: Document | None = None,
        body: Document | None = None,
        content_type: str = "application/json",
    ) -> Document:
        doing = _doing(method, kind, name or named, "all namespaces" if everywhere else f"namespace {self.namespace}")
        answer = self._request(
            method, self._path(kind, name, everywhere=everywhere), query or {}, body, content_type, doing=doing
        )
        return _parsed(answer.data, doing)

    def _lines(self, path: str, query: Document, doing: str) -> Lines:
        """Ask for an answer that goes on, line by line."""
        return Lines(self._request("GET", path, query, doing=doing, whole=False), doing)

    def _request(
        self,
        method: str,
        path: str,
        query: Document,
        body: Document | None = None,
        content_type: str = "application/json",
        *,
        doing: str,
        whole: bool = True,
    ) -> Any:
        path += f"?{urlencode(query)}" if query else ""
        content = None if body is None else json.dumps(body).encode()

        def sent(login: _Login) -> Any:
            return login.send(method, path, content, content_type, doing=doing, whole=whole)

        login = self._login
        answer = sent(login)
        if answer.status == 401:
            answer = sent(self._log_in_anew(login))
        for _ in range(_BUSY_TRIES):
            if answer.status != 429:
                break
            time.sleep(_pause(answer.headers.get("Retry-After")))  # it has done nothing: any request may come again
            answer = sent(self._login)
        self._note_time(answer.headers.get("Date"))
        if answer.status >= 300:
            raise from_answer(answer.status, answer.data.decode(errors="replace"), doing)
        return answer

    def _log_in_anew(self, refused: _Login) -> _Login:
        """Read the kubeconfig again once credentials are refused: a file has another token by now, a plugin gives one.

        kubernetes renews only what says when it expires; a wait of hours outlives the rest.
        """
        with self._renewing:
            if self._login is not refused:
                return self._login  # another thread has done it
            # By the name that was chosen at first: the current context may be another one by now.
            self._login = _Login(access(refused.access.context, self._kubeconfig))
            return self._login

    def _note_time(self, date: str | None) -> None:
        with suppress(ValueError, TypeError):
            ahead = parsedate_to_datetime(date or "") - datetime.now(UTC)
            self._ahead = ahead if abs(ahead) > _CLOCK else timedelta()


class _Login:
    """Credentials, and the connections that are made with them."""

    def __init__(self, found: Access) -> None:
        self.access = found
        self._pool: Any = kubernetes("client").ApiClient(found.configuration).rest_client.pool_manager

    def headers(self) -> list[tuple[str, str]]:
        """Who asks; a plugin may be run for a new token."""
        settings = self.access.configuration.auth_settings().values()
        return [*((setting["key"], setting["value"]) for setting in settings), *self.access.impersonation]

    def send(self, method: str, path: str, content: bytes | None, content_type: str, *, doing: str, whole: bool) -> Any:
        """Return urllib3's answer: read, or one that goes on."""
        from urllib3 import Retry, Timeout  # noqa: PLC0415
        from urllib3._collections import HTTPHeaderDict  # noqa: PLC0415 - 1.26 does not export it
        from urllib3.exceptions import HTTPError  # noqa: PLC0415

        headers = HTTPHeaderDict({"Accept": "application/json, */*", "User-Agent": "qwensft"})
        if content is not None:
            headers["Content-Type"] = content_type
        for name, value in self.headers():
            headers.add(name, value)
        # Other than GET may have been done although no answer came.
        retries = Retry(3, connect=0, respect_retry_after_header=False) if method == "GET" else False
        timeout = Timeout(connect=_TIMEOUT, read=_TIMEOUT if whole else _SILENCE)
        try:
            answer = self._pool.request(
                method,
                self._url(path),
                body=content,
                headers=headers,
                preload_content=False,
                timeout=timeout,
                retries=retries,
            )
            if whole or answer.status >= 300:
                answer.read(cache_content=True)
        except HTTPError as error:
            raise UnreachableError(
                f"cannot {doing}: the API server at {self.access.configuration.host} does not answer ({error}); is it "
                "up, and is this the right context?"
            ) from error
        return answer

    def websocket(self, path: str, doing: str) -> Any:
        """Return an open websocket."""
        return websockets.opened(self._pool, self._url(path), self.headers(), doing, timeout=_TIMEOUT)

    def _url(self, path: str) -> str:
        return str(self.access.configuration.host).rstrip("/") + path


def _pause(retry_after: str | None) -> float:
    try:
        return min(_BUSY_PAUSE, float(retry_after or 1))
    except ValueError:
        return 1.0


def _parsed(text: bytes, doing: str) -> Document:
    try:
        document = json.loads(text)
    except ValueError as error:
        raise UnreachableError(
            f"cannot {doing}: what answered is not the API server, or its answer was cut off; is a proxy or a login "
            "page between?"
        ) from error
    if not isinstance(document, dict):
        raise UnreachableError(f"cannot {doing}: what answered is not the API server")
    return document


def _doing(method: str, kind: str, name: str, where: str) -> str:
    verb = {"GET": "read", "POST": "create", "PATCH": "change", "DELETE": "delete"}[method]
    return f"{verb} {_KINDS[kind]}{f' {name}' if name else 's' if kind != 'events' else ''} in {where}"
