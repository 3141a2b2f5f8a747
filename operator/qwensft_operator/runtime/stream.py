"""One WATCH request: a long-lived stream of events, one JSON document a line."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable

import aiohttp

from qwensft_operator.runtime.kube import (
    FIELD_MANAGER,
    JSON,
    METADATA,
    Manifest,
    TransientError,
    classify,
    parse_answer,
)

_CONNECT_SECONDS = 30.0


class SilenceError(TransientError):
    """An open stream told nothing for too long, not even a bookmark: what has happened meanwhile is not known."""


async def watch(
    session: aiohttp.ClientSession,
    url: str,
    version: str,
    *,
    label_selector: str = "",
    metadata_only: bool = False,
    seconds: int,
    silence: float,
    answered: Callable[[int], None] = lambda _: None,
) -> AsyncGenerator[Manifest | None]:
    """Follow what changes in a collection: None when the stream opens, then its events, until the API server ends it.

    Args:
        session: An HTTP session with the credentials.
        url: Of the collection.
        version: The resourceVersion of the list or event that was seen last.
        label_selector: Which objects, by their labels.
        metadata_only: Leave spec and status out.
        seconds: After how many seconds the API server is to end the stream.
        answered: Told the HTTP status with which it was opened or refused; 0 without an answer.
        silence: After how many seconds without an event or bookmark (one comes every minute) it is taken for dead.

    Raises:
        SilenceError: It has opened, and was silent for too long.
        KubeError: It was refused, could not be opened, or broke; 410 when `version` is too old.
        ValueError: What came is no event.
    """
    query = {
        "watch": "true",
        "allowWatchBookmarks": "true",
        "resourceVersion": version,
        "labelSelector": label_selector,
        "timeoutSeconds": str(seconds),
    }
    headers = {"Accept": METADATA if metadata_only else JSON, "User-Agent": FIELD_MANAGER}
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS, sock_read=silence)
    parameters = {key: value for key, value in query.items() if value}
    opened = False
    try:
        async with session.get(url, params=parameters, headers=headers, timeout=timeout) as response:
            opened = True
            answered(response.status)
            if response.status != 200:
                parse_answer(response.status, await response.read())
            yield None
            async for line in _lines(response.content):
                yield _event(line)
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        if not opened:
            answered(0)
        kind = SilenceError if opened and isinstance(error, TimeoutError) else TransientError
        raise kind(0, type(error).__name__, str(error) or "timed out") from error


async def _lines(content: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """Split a stream at line ends; a line may be longer than aiohttp's own limit (a Job, a run with its status)."""
    rest = bytearray()
    async for chunk in content.iter_any():
        rest += chunk
        if b"\n" in chunk:
            *whole, rest = rest.split(b"\n")
            for line in filter(None, whole):
                yield bytes(line)


def _event(line: bytes) -> Manifest:
    event = json.loads(line)
    if not isinstance(event, dict) or not isinstance(event.get("object"), dict):
        raise ValueError(f"no event: {line[:200].decode(errors='replace')}")
    if event.get("type") == "ERROR":
        raise classify(int(event["object"].get("code") or 500), event["object"])
    return event
