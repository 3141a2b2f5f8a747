"""A plain client for the API server: aiohttp, JSON, a bearer token. No retries, no models.

The floors write with it, too, so that they are as fast as Python is.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlencode

import aiohttp

Manifest = dict[str, Any]

_CONNECTIONS = 64
_SECONDS = 120.0
_METADATA = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
MERGE_PATCH = "application/merge-patch+json"


class ApiError(Exception):
    """The API server refused a request, or did not answer (status 0)."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status


class Api:
    """A client. Use it in an `async with`."""

    def __init__(self, url: str, authority: Path, token: str) -> None:
        self._url, self._authority, self._token = url, authority, token

    async def __aenter__(self) -> Self:
        context = ssl.create_default_context(cafile=str(self._authority))
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=_CONNECTIONS, ssl=context),
            headers={"Authorization": f"Bearer {self._token}"},
            timeout=aiohttp.ClientTimeout(total=_SECONDS),
        )
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: BaseException | TracebackType | None) -> None:
        await self._session.close()

    async def text(self, path: str) -> str:
        """GET; the body as it is."""
        return (await self._send("GET", path)).decode()

    async def get(self, path: str) -> Manifest:
        """GET an object or a list."""
        return dict(json.loads(await self._send("GET", path)))

    async def create(self, path: str, body: Manifest) -> Manifest:
        """POST to a collection; the object as stored."""
        return dict(json.loads(await self._send("POST", path, json.dumps(body))))

    async def patch(self, path: str, body: Manifest) -> Manifest:
        """Apply a JSON merge patch; the object as stored."""
        return dict(json.loads(await self._send("PATCH", path, json.dumps(body), MERGE_PATCH)))

    async def write(self, method: str, path: str, body: str) -> Manifest:
        """POST or PATCH a body that is JSON already."""
        kind = MERGE_PATCH if method == "PATCH" else "application/json"
        return dict(json.loads(await self._send(method, path, body, kind)))

    async def delete(self, path: str) -> None:
        """DELETE an object, with the grace and the propagation that its kind has by default."""
        await self._send("DELETE", path)

    async def delete_all(self, collection: str) -> None:
        """Delete all objects of a collection, pods without grace; a request that ends too soon is made again."""
        options = json.dumps({"gracePeriodSeconds": 0, "propagationPolicy": "Background"})
        while True:
            try:
                await self._send("DELETE", collection, options)
                return
            except ApiError as error:
                # The API server gives a request a minute; thousands of objects take longer.
                if error.status not in (0, 504) or not (await self.get(f"{collection}?limit=1"))["items"]:
                    raise

    async def watch(self, collection: str, *, metadata_only: bool = False) -> AsyncIterator[Manifest]:
        """Yield events of a collection, beginning with what is there, until cancelled."""
        query = urlencode({"watch": "1", "timeoutSeconds": "7200"})
        headers = {"Accept": _METADATA} if metadata_only else {}
        timeout = aiohttp.ClientTimeout(total=None)
        async with self._session.get(f"{self._url}{collection}?{query}", headers=headers, timeout=timeout) as answer:
            if answer.status != 200:
                raise ApiError(answer.status, await answer.text())
            rest = b""
            async for chunk in answer.content.iter_any():
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    yield json.loads(line)

    async def _send(self, method: str, path: str, body: str | None = None, kind: str = "application/json") -> bytes:
        headers = {"Content-Type": kind} if body is not None else {}
        try:
            async with self._session.request(method, self._url + path, data=body, headers=headers) as answer:
                data = await answer.read()
        except (TimeoutError, aiohttp.ClientError) as error:
            raise ApiError(0, f"{method} {path}: {error or type(error).__name__}") from error
        if answer.status >= 300:
            raise ApiError(answer.status, f"{method} {path}: {data[:500].decode(errors='replace')}")
        return data
