"""The line to the API server: requests in, plain JSON out, errors with words.

Of the package `kubernetes` it uses what reads a kubeconfig and what speaks websockets, and sends its requests by
itself: the generated methods differ between the versions that have to do (ADR 0171).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from importlib import import_module
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlencode

from qwensft.api.v1alpha1 import GROUP, KIND, PLURAL, VERSION
from qwensft.client.errors import (
    ClientError,
    ConfigurationError,
    MissingPackageError,
    ServerError,
    UnreachableError,
    from_answer,
)

Document = dict[str, Any]

_TIMEOUT: Final = 30.0  # seconds for one request
_SILENCE: Final = 90.0  # seconds for which a stream may say nothing: more than a watch is asked to last
_OWN_NAMESPACE: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_RUNS: Final = f"apis/{GROUP}/{VERSION}"
_ROOMS: Final = {PLURAL: _RUNS, "pods": "api/v1", "events": "api/v1", "configmaps": "api/v1"} | {
    "persistentvolumeclaims": "api/v1",
    "deployments": "apis/apps/v1",
}
_KINDS: Final = {PLURAL: KIND, "pods": "Pod", "events": "Events", "configmaps": "ConfigMap"} | {
    "persistentvolumeclaims": "PersistentVolumeClaim",
    "deployments": "Deployment",
}


class Lines:
    """The lines of an answer that goes on, without their ends. `close` may be called from another thread."""

    def __init__(self, answer: Any, doing: str) -> None:
        self._answer, self._doing = answer, doing
        self._closed = False

    def __iter__(self) -> Iterator[bytes]:
        from urllib3.exceptions import HTTPError, ReadTimeoutError  # noqa: PLC0415 - kubernetes' own

        rest = b""
        try:
            for chunk in self._answer.stream(2**16):
                *lines, rest = (rest + chunk).split(b"\n")
                yield from lines
            if rest:
                yield rest
        except ReadTimeoutError:
            return  # silence for longer than a watch lasts: whoever watches asks anew
        except (HTTPError, OSError, ValueError) as error:
            if not self._closed:
                raise UnreachableError(f"cannot {self._doing}: the connection broke: {error}") from error

    def close(self) -> None:
        """Hang up; an iteration that waits for a line ends."""
        self._closed = True
        shutdown = getattr(self._answer, "shutdown", None)  # urllib3 2.3
        if shutdown is not None:
            with suppress(ValueError, RuntimeError, OSError):
                shutdown()


class Connection:
    """One API server, one user, one namespace. Safe to use from several threads."""

    def __init__(
        self, *, namespace: str | None = None, context: str | None = None, kubeconfig: str | Path | None = None
    ) -> None:
        """Read the kubeconfig, or the pod's service account where there is none.

        Raises:
            MissingPackageError: the package kubernetes is not installed.
            ConfigurationError: there is no usable configuration.
        """
        configuration, own_namespace = _configuration(context, kubeconfig)
        self.configuration: Any = configuration
        self.namespace = namespace or own_namespace
        self._api: Any = _kubernetes("client").ApiClient(configuration)

    def get(self, kind: str, name: str) -> Document:
        """Return an object by the plural of its kind, as "pods"."""
        return self._json("GET", kind, name)

    def list(self, kind: str, *, everywhere: bool = False, **query: Any) -> Document:
        """Return a list of objects, whole; `query` as the API server knows it (labelSelector, fieldSelector)."""
        answer = self._json("GET", kind, everywhere=everywhere, query={"limit": 500, **query})
        while token := answer["metadata"].get("continue"):
            page = self._json("GET", kind, everywhere=everywhere, query={"limit": 500, **query, "continue": token})
            answer = {**page, "items": answer["items"] + page["items"]}
        return answer

    def create(self, kind: str, document: Document, *, dry_run: bool = False) -> Document:
        """Create an object; with `dry_run` ask the server alone whether it would."""
        query = {"fieldValidation": "Strict"} | ({"dryRun": "All"} if dry_run else {})
        return self._json("POST", kind, body=document, query=query, named=document["metadata"]["name"])

    def merge(self, kind: str, name: str, patch: Document) -> Document:
        """Change fields of an object: a JSON merge patch."""
        return self._json("PATCH", kind, name, body=patch, content_type="application/merge-patch+json")

    def apply(self, kind: str, document: Document, *, manager: str, force: bool = False) -> Document:
        """Create an object, or make its fields those of the document: server-side apply."""
        query = {"fieldManager": manager, "force": str(force).lower(), "fieldValidation": "Strict"}
        name, content_type = document["metadata"]["name"], "application/apply-patch+yaml"
        return self._json("PATCH", kind, name, body=document, query=query, content_type=content_type)

    def delete(self, kind: str, name: str, **options: Any) -> None:
        """Ask for the deletion of an object; `options` as DeleteOptions."""
        self._json("DELETE", kind, name, body={"propagationPolicy": "Background", **options})

    def watch(self, kind: str, *, seconds: float, **query: Any) -> Iterator[tuple[str, Document]]:
        """Yield type and object of each event for so many seconds, or until the server ends the watch."""
        query = {"watch": "true", "allowWatchBookmarks": "true", "timeoutSeconds": max(1, int(seconds)), **query}
        doing = f"watch {_KINDS[kind]}s in namespace {self.namespace}"
        with closing(self._lines(self._path(kind), query, doing)) as lines:
            for line in lines:
                event = json.loads(line)
                if event["type"] == "ERROR":
                    raise from_answer(event["object"].get("code", 500), json.dumps(event["object"]), doing)
                yield event["type"], event["object"]

    def log(self, pod: str, **query: Any) -> Lines:
        """Return the lines of a container's log; `query` as the API server knows it (container, follow, tailLines)."""
        doing = f"read the log of Pod {pod} in namespace {self.namespace}"
        return self._lines(f"{self._path('pods', pod)}/log", query, doing, silence=None)

    def exec(self, pod: str, container: str, command: Sequence[str]) -> Any:
        """Start a command in a container; return the open websocket, kubernetes' WSClient in bytes."""
        client, stream = _kubernetes("client"), _kubernetes("stream")
        # `stream` changes the ApiClient that it is given while it connects: one for each, for the sake of threads.
        core = client.CoreV1Api(client.ApiClient(self.configuration))
        try:
            return stream.stream(
                core.connect_get_namespaced_pod_exec,
                pod,
                self.namespace,
                container=container,
                command=command,
                stdin=True,
                stdout=True,
                stderr=True,
                tty=False,
                binary=True,
                _preload_content=False,
            )
        except client.ApiException as error:
            raise _handshake(error, f"run a command in Pod {pod} in namespace {self.namespace}") from error

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
        return dict(json.loads(answer.data))

    def _lines(self, path: str, query: Document, doing: str, *, silence: float | None = _SILENCE) -> Lines:
        """Ask for an answer that goes on, line by line."""
        return Lines(self._request("GET", path, query, doing=doing, whole=False, silence=silence), doing)

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
        silence: float | None = None,
    ) -> Any:
        from urllib3 import Timeout  # noqa: PLC0415
        from urllib3.exceptions import HTTPError  # noqa: PLC0415

        headers = {"Accept": "application/json, */*", "User-Agent": "qwensft"}
        if body is not None:
            headers["Content-Type"] = content_type
        for setting in self.configuration.auth_settings().values():  # asks plugins for new tokens, too
            headers[setting["key"]] = setting["value"]
        timeout = Timeout(connect=_TIMEOUT, read=_TIMEOUT if whole else silence)
        url = self.configuration.host.rstrip("/") + path + (f"?{urlencode(query)}" if query else "")
        try:
            answer = self._api.rest_client.pool_manager.request(
                method,
                url,
                body=None if body is None else json.dumps(body).encode(),
                headers=headers,
                preload_content=False,
                timeout=timeout,
                # Other than GET may have been done although no answer came.
                retries=None if method == "GET" else False,
            )
            if whole or answer.status >= 300:
                answer.read(cache_content=True)
        except HTTPError as error:
            raise UnreachableError(
                f"cannot {doing}: the API server at {self.configuration.host} does not answer ({error}); is it up, and "
                "is this the right context?"
            ) from error
        if answer.status >= 300:
            raise from_answer(answer.status, answer.data.decode(errors="replace"), doing)
        return answer


def _kubernetes(part: str) -> Any:
    """Import a part of kubernetes: an extra, slow to import, and typed in some versions alone."""
    try:
        return import_module(f"kubernetes.{part}")
    except ImportError as error:
        raise MissingPackageError("the client needs the package kubernetes: pip install 'qwensft[client]'") from error


def _doing(method: str, kind: str, name: str, where: str) -> str:
    verb = {"GET": "read", "POST": "create", "PATCH": "change", "DELETE": "delete"}[method]
    return f"{verb} {_KINDS[kind]}{f' {name}' if name else 's' if kind != 'events' else ''} in {where}"


def _handshake(error: Any, doing: str) -> ClientError:
    """The exception for a websocket that was not opened: the answer's text is within that of the error."""
    text = str(error.reason or error)
    start = text.find('{"kind":"Status"')
    status = text[start:] if start >= 0 else ""
    try:
        document, _ = json.JSONDecoder().raw_decode(status)
    except ValueError:
        return ServerError(f"cannot {doing}: {text}")
    return from_answer(int(document.get("code") or 500), json.dumps(document), doing)


def _configuration(context: str | None, kubeconfig: str | Path | None) -> tuple[Any, str]:
    """Configuration of kubernetes, and the namespace that it names."""
    client, config = _kubernetes("client"), _kubernetes("config")
    configuration = client.Configuration()
    file = str(kubeconfig) if kubeconfig else None
    in_pod = _OWN_NAMESPACE.exists() and not (file or context or os.environ.get("KUBECONFIG"))
    if in_pod and not Path(config.KUBE_CONFIG_DEFAULT_LOCATION).expanduser().exists():
        config.load_incluster_config(client_configuration=configuration)
        return configuration, _OWN_NAMESPACE.read_text().strip()
    if file and not Path(file).expanduser().exists():
        raise ConfigurationError(f"there is no kubeconfig {file}: correct the path, or leave it out for the usual one")
    try:
        config.load_kube_config(config_file=file, context=context, client_configuration=configuration)
        contexts, current = config.list_kube_config_contexts(config_file=file)
    except config.ConfigException as error:
        raise ConfigurationError(
            f"no usable kubeconfig: {error}; set KUBECONFIG, or give Client(kubeconfig=...) and Client(context=...)"
        ) from error
    chosen = next((one for one in contexts if one["name"] == context), current) if context else current
    return configuration, chosen["context"].get("namespace") or "default"
