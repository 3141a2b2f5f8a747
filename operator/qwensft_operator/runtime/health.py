"""Probes and metrics over HTTP. They answer from memory: a slow API server must not get the operator restarted.

ADR 0097 says why.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

logger = logging.getLogger(__name__)

Check = Callable[[], str]
"""Returns what is wrong, or ""."""


MOST_CLIENTS = 64  # kubelet, Prometheus and people; each is one request, and closed then
_CONNECTION_SECONDS = 10.0


class HealthServer:
    """Serves /livez, /readyz and /metrics. Of too many connections the oldest are closed, and each after 10 s.

    A probe is answered at once, also while others hold as many connections as there may be.

    `live` speaks of progress, not of a listening port; `ready` of having seen the cluster, so that replicas that do
    not lead are ready too.
    """

    def __init__(self, live: Check, ready: Check, registry: CollectorRegistry) -> None:
        self._checks, self._registry = {"/livez": live, "/readyz": ready}, registry
        self._runner = web.ServerRunner(
            _Server(self._answer, access_log=None), handle_signals=False, shutdown_timeout=1
        )

    async def start(self, port: int) -> int:
        """Listen on all addresses; return the port (0 as argument: a free one)."""
        await self._runner.setup()
        site = web.TCPSite(self._runner, None, port)
        await site.start()
        # With port 0, IPv4 and IPv6 get different ones; IPv4's addresses are the shorter tuples.
        actual: int = min(self._runner.addresses, key=len)[1]
        logger.info("serving /livez, /readyz and /metrics on port %d", actual)
        return actual

    async def stop(self) -> None:
        """Close the port and all connections."""
        await self._runner.cleanup()

    async def _answer(self, request: web.BaseRequest) -> web.Response:
        if (check := self._checks.get(request.path)) is not None:
            problem = check()
            response = web.Response(text=problem or "ok", status=503 if problem else 200)
        elif request.path == "/metrics":
            response = web.Response(body=generate_latest(self._registry), headers={"Content-Type": CONTENT_TYPE_LATEST})
        else:
            response = web.Response(text="see /livez, /readyz and /metrics", status=404)
        response.force_close()
        return response


class _Server(web.Server):
    """An HTTP server that holds a bounded number of connections for a bounded time."""

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        """Take a connection, for which the oldest may have to go: a request takes milliseconds, so that one is idle."""
        super().connection_made(handler, transport)
        for oldest in self.connections[:-MOST_CLIENTS]:
            if oldest.transport is not None:
                oldest.transport.abort()
        asyncio.get_running_loop().call_later(_CONNECTION_SECONDS, transport.abort)
