"""The Kubernetes port: the few API calls that the operator makes, with raw JSON dicts and errors classified once.

Built on `kubernetes.aio`, which brings configuration, TLS and credentials; its generated models are not used.
What the API server answers to a write is handed to `Kube.on_write`, so that later decisions see it at once; each
request is told to `Kube.on_request`.
ADR 0095 says why.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self
from urllib.parse import quote, urlencode, urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
from kubernetes.aio import config as kubernetes_config
from kubernetes.aio.client.configuration import Configuration
from kubernetes.aio.client.rest import RESTClientObject

from qwensft.api.v1alpha1 import GROUP, PLURAL, VERSION
from qwensft_operator.runtime.clock import ServerClock

Manifest = dict[str, Any]
Page = list[Manifest]
Patch = list[Manifest]
"""Operations of a JSON patch (RFC 6902)."""
OnRequest = Callable[[str, str, int, float | None], None]
"""Told of a request: verb, resource, HTTP status (0: no answer), seconds (None: a watch)."""

FIELD_MANAGER = "qwen-sft-operator"
JSON = "application/json"
METADATA_LIST = f"{JSON};as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
METADATA = f"{JSON};as=PartialObjectMetadata;g=meta.k8s.io;v=v1"


@dataclass(frozen=True, slots=True)
class Resource:
    """A resource type; namespace "" stands for all namespaces, or for none where it has none."""

    group: str
    version: str
    plural: str

    def path(self, namespace: str, name: str = "", subresource: str = "") -> str:
        """Return the URL path of the collection, an object or its subresource; namespace "" means all."""
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        scope = f"/namespaces/{quote(namespace, safe='')}" if namespace else ""
        parts = [quote(part, safe="") for part in (name, subresource) if part]
        return "/".join([f"{root}{scope}/{self.plural}", *parts])


QWENSFTJOBS = Resource(GROUP, VERSION, PLURAL)
JOBS = Resource("batch", "v1", "jobs")
PODS = Resource("", "v1", "pods")
SERVICES = Resource("", "v1", "services")
CONFIG_MAPS = Resource("", "v1", "configmaps")
CLAIMS = Resource("", "v1", "persistentvolumeclaims")
NETWORK_POLICIES = Resource("networking.k8s.io", "v1", "networkpolicies")
EVENTS = Resource("", "v1", "events")
NODES = Resource("", "v1", "nodes")
WORKLOADS = Resource("kueue.x-k8s.io", "v1beta2", "workloads")
LOCAL_QUEUES = Resource("visibility.kueue.x-k8s.io", "v1beta2", "localqueues")
LEASES = Resource("coordination.k8s.io", "v1", "leases")


class KubeError(Exception):
    """The API server refused a request, or could not be reached.

    Attributes:
        status: HTTP status, 0 when there was no answer.
        reason: Kubernetes' CamelCase reason, or the name of the network error.
        message: The server's words.
        fields: Paths of the fields that it objects to, such as status.progress.step, as far as it names them.
    """

    def __init__(self, status: int, reason: str, message: str, fields: tuple[str, ...] = ()) -> None:
        super().__init__(f"{message} ({status or 'no answer'} {reason})")
        self.status, self.reason, self.message, self.fields = status, reason, message, fields


class NotFoundError(KubeError):
    """404: the object, its namespace or its kind does not exist."""


class ConflictError(KubeError):
    """409: the object changed since it was read, or a precondition does not hold."""


class AlreadyExistsError(KubeError):
    """409: an object of that name exists."""


class ForbiddenError(KubeError):
    """403: RBAC, admission or a quota says no."""

    @property
    def quota(self) -> bool:
        """Whether a ResourceQuota said no."""
        return "exceeded quota" in self.message


class InvalidError(KubeError):
    """400, 422 and other 4xx: the request itself is wrong; trying again changes nothing."""


class TransientError(KubeError):
    """No answer, 401, 410 (a list went on for too long), 429 or 5xx: try again later."""


class NamespaceTerminatingError(TransientError):
    """403: the namespace is going away, and the run with it; nothing can be created in it any more."""


def classify(status: int, body: Mapping[str, Any]) -> KubeError:
    """Turn an error answer (HTTP status and `Status` object) into a typed error."""
    reason = str(body.get("reason") or "")
    message = str(body.get("message") or "no message")
    details = body.get("details")  # of any type, where a proxy answers in JSON of its own
    causes = details.get("causes") or () if isinstance(details, dict) else ()
    terminating = any(cause.get("reason") == "NamespaceTerminating" for cause in causes)
    kind: type[KubeError]
    if terminating:
        kind = NamespaceTerminatingError
    elif status in (401, 408, 410, 429) or status >= 500:
        kind = TransientError
    elif status == 409:
        kind = AlreadyExistsError if reason == "AlreadyExists" else ConflictError
    else:
        kind = {403: ForbiddenError, 404: NotFoundError}.get(status, InvalidError)
    return kind(status, reason, message, tuple(cause["field"] for cause in causes if cause.get("field")))


class Kube:
    """An async client with a connection pool; use `connect` to make one and `close` to end it."""

    def __init__(self, configuration: Configuration, request_timeout: float) -> None:
        self.configuration = configuration
        configuration.proxy = configuration.proxy or _proxy_to(configuration.host)
        # What the environment says is read here, once: aiohttp would read it, and ~/.netrc, for each request.
        configuration.client_session_kwargs = {"trust_env": False}
        self.on_write: Callable[[Resource, Manifest], None] = _ignore
        self.on_request: OnRequest = _uncounted
        self.clock = ServerClock()
        self._rest = RESTClientObject(configuration)
        self._timeout = aiohttp.ClientTimeout(total=request_timeout)

    @classmethod
    async def connect(cls, request_timeout: float) -> Self:
        """Configure from the service account in a pod, else from $KUBECONFIG or ~/.kube/config.

        Args:
            request_timeout: Limit for one request in seconds, its connection included.
        """
        configuration = Configuration()
        if "KUBERNETES_SERVICE_HOST" in os.environ and "KUBECONFIG" not in os.environ:
            kubernetes_config.load_incluster_config(configuration)  # type: ignore[no-untyped-call]
        else:
            await kubernetes_config.load_kube_config(  # type: ignore[no-untyped-call]
                client_configuration=configuration, persist_config=False
            )
        return cls(configuration, request_timeout)

    async def close(self) -> None:
        """Close the connections."""
        await self._rest.close()

    async def get(self, resource: Resource, namespace: str, name: str, *, subresource: str = "") -> Manifest:
        """Read an object, or a subresource of it."""
        return await self._request("GET", resource.path(namespace, name, subresource))

    async def get_metadata(self, resource: Resource, namespace: str, name: str) -> Manifest:
        """Read an object without its spec and status."""
        return await self._request("GET", resource.path(namespace, name), accept=METADATA)

    async def published(self) -> Manifest:
        """Read the OpenAPI document in which the API server tells clients of QwenSFTJobs. Every account may."""
        return await self._request("GET", f"/openapi/v3/apis/{GROUP}/{VERSION}")

    async def list(
        self,
        resource: Resource,
        namespace: str,
        *,
        label_selector: str = "",
        field_selector: str = "",
        metadata_only: bool = False,
    ) -> list[Manifest]:
        """Read all objects that match; see `pages`."""
        pages = self.pages(
            resource,
            namespace,
            label_selector=label_selector,
            field_selector=field_selector,
            metadata_only=metadata_only,
            size=500,
        )
        return [item async for page in pages for item in page]

    async def pages(
        self,
        resource: Resource,
        namespace: str,
        *,
        label_selector: str = "",
        field_selector: str = "",
        metadata_only: bool = False,
        size: int = 100,
    ) -> AsyncIterator[Page]:
        """Read all objects that match, one part in memory at a time. They lack `kind` and `apiVersion`.

        Args:
            resource: What to list.
            namespace: Where; "" means everywhere.
            label_selector: Which ones, by their labels.
            field_selector: Which ones, by fields that the API server can select by.
            metadata_only: Leave spec and status out; a node's are some 20 KB.
            size: How many objects a part holds at most.
        """
        parts = self.list_parts(
            resource,
            namespace,
            label_selector=label_selector,
            field_selector=field_selector,
            metadata_only=metadata_only,
            size=size,
        )
        async for _, page in parts:
            yield page

    async def list_parts(
        self,
        resource: Resource,
        namespace: str,
        *,
        label_selector: str = "",
        field_selector: str = "",
        metadata_only: bool = False,
        size: int = 100,
    ) -> AsyncIterator[tuple[str, Page]]:
        """Read as `pages` does; each part comes with the resourceVersion of the whole list, from which to watch."""
        query = {"limit": str(size), "labelSelector": label_selector, "fieldSelector": field_selector}
        accept = METADATA_LIST if metadata_only else JSON
        while True:
            page = await self._request("GET", resource.path(namespace), query=query, accept=accept)
            meta = page.get("metadata") or {}
            # The API server writes an empty list of metadata as null.
            yield meta.get("resourceVersion", ""), page.get("items") or []
            query["continue"] = meta.get("continue", "")
            if not query["continue"]:
                return

    async def create(self, resource: Resource, namespace: str, body: Manifest) -> Manifest:
        """Create an object; return it as stored."""
        query = {"fieldManager": FIELD_MANAGER}
        return self._written(resource, await self._request("POST", resource.path(namespace), query=query, body=body))

    async def replace(self, resource: Resource, namespace: str, body: Manifest) -> Manifest:
        """Replace an object whose resourceVersion is still the one in `body`; return it as stored."""
        path = resource.path(namespace, body["metadata"]["name"])
        query = {"fieldManager": FIELD_MANAGER}
        return self._written(resource, await self._request("PUT", path, query=query, body=body))

    async def merge(
        self, resource: Resource, namespace: str, name: str, patch: Manifest, *, subresource: str = ""
    ) -> Manifest:
        """Apply a JSON merge patch; return the object as stored."""
        path = resource.path(namespace, name, subresource)
        query = {"fieldManager": FIELD_MANAGER}
        merge_patch = "application/merge-patch+json"
        answer = await self._request("PATCH", path, query=query, body=patch, content_type=merge_patch)
        return self._written(resource, answer)

    async def patch(self, resource: Resource, namespace: str, name: str, operations: Patch) -> Manifest:
        """Apply a JSON patch, all of it or nothing; return the object as stored.

        Raises:
            InvalidError: A `test` among the operations does not hold.
        """
        path, query = resource.path(namespace, name), {"fieldManager": FIELD_MANAGER}
        answer = await self._request("PATCH", path, query=query, body=operations, content_type=f"{JSON}-patch+json")
        return self._written(resource, answer)

    async def delete(
        self, resource: Resource, namespace: str, name: str, *, uid: str, propagation: Literal["Foreground"]
    ) -> None:
        """Delete an object if it still has that UID; raises ConflictError when it has another."""
        options = {"propagationPolicy": propagation, "preconditions": {"uid": uid}}
        answer = await self._request("DELETE", resource.path(namespace, name), body=options)
        if answer.get("kind") != "Status":  # the object, which goes once its pods are gone
            self._written(resource, answer)

    def session(self) -> aiohttp.ClientSession:
        """Return a new HTTP session for long-lived streams, with this client's TLS and credentials."""

        async def authorize(request: aiohttp.ClientRequest, send: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
            request.headers.update(await self._credentials())
            return await send(request)

        connector = aiohttp.TCPConnector(limit=0, ssl=self._rest.ssl_context)
        return aiohttp.ClientSession(connector=connector, middlewares=[authorize], proxy=self.configuration.proxy)

    def _written(self, resource: Resource, answer: Manifest) -> Manifest:
        self.on_write(resource, answer)
        return answer

    async def _credentials(self) -> dict[str, str]:
        # Asked for with every request: a pod's token changes every hour.
        token = await self.configuration.get_api_key_with_prefix("BearerToken", alias="authorization")
        return {"Authorization": token} if token else {}

    async def _request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Manifest | Patch | None = None,
        content_type: str = JSON,
        accept: str = JSON,
    ) -> Manifest:
        parameters = {key: value for key, value in (query or {}).items() if value}
        url = f"{self.configuration.host}{path}{'?' + urlencode(parameters) if parameters else ''}"
        headers = {
            "Accept": accept,
            "Content-Type": content_type,
            "User-Agent": FIELD_MANAGER,
            **await self._credentials(),
        }
        verb, resource = kind_of_request(method, path)
        started, status = time.monotonic(), 0
        try:
            response = await self._rest.request(  # type: ignore[no-untyped-call]
                method, url, headers=headers, body=body, _request_timeout=self._timeout
            )
            self.clock.heard(response.headers.get("Date", ""))
            data = await response.read()
            status = response.status
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise TransientError(0, type(error).__name__, f"{method} {path}: {str(error) or 'timed out'}") from error
        finally:
            self.on_request(verb, resource, status, time.monotonic() - started)
        return parse_answer(status, data)


def _proxy_to(url: str) -> str | None:
    """Return the proxy that the environment (HTTPS_PROXY, NO_PROXY) names for an address, None without one."""
    address = urlsplit(url)
    return None if proxy_bypass(address.hostname or "") else getproxies().get(address.scheme)


def parse_answer(status: int, data: bytes) -> Manifest:
    """Return the document of an answer, or raise its error as a KubeError."""
    try:
        body = json.loads(data)
    except ValueError:
        body = None
    if 200 <= status < 300 and isinstance(body, dict):
        return body
    if not isinstance(body, dict):
        # A proxy between us and the API server answers in HTML.
        body = {"reason": "NotJSON", "message": data[:200].decode(errors="replace")}
        status = status if status >= 400 else 502
    raise classify(status, body)


def kind_of_request(method: str, path: str) -> tuple[str, str]:
    """Return a request's verb, as Kubernetes calls it, and its resource: ("list", "pods")."""
    parts = path.strip("/").split("/")
    parts = parts[3:] if parts[0] == "apis" else parts[2:]
    if parts[0] == "namespaces" and len(parts) > 2:
        parts = parts[2:]
    verb = _VERBS[method] if method != "GET" else "list" if len(parts) == 1 else "get"
    return verb, parts[0]


_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}


def _ignore(_: Resource, __: Manifest) -> None:
    """Take note of nothing."""


def _uncounted(_: str, __: str, ___: int, ____: float | None) -> None:
    """Take note of nothing."""
