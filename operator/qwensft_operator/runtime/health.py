"""Probes and metrics over HTTP. They answer from memory: a slow API server must not get the operator restarted.

ADR 0097 says why.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

logger = logging.getLogger(__name__)

Check = Callable[[], str]
"""Returns what is wrong, or ""."""


class HealthServer:
    """Serves /livez, /readyz and /metrics.

    `live` speaks of progress, not of a listening port; `ready` of having seen the cluster, so that replicas that do
    not lead are ready too.
    """

    def __init__(self, live: Check, ready: Check, registry: CollectorRegistry) -> None:
        self._registry = registry
        application = web.Application()
        application.router.add_get("/livez", _probe(live))
        application.router.add_get("/readyz", _probe(ready))
        application.router.add_get("/metrics", self._metrics)
        self._runner = web.AppRunner(application, access_log=None, handle_signals=False, shutdown_timeout=1)

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

    async def _metrics(self, _: web.Request) -> web.Response:
        return web.Response(body=generate_latest(self._registry), headers={"Content-Type": CONTENT_TYPE_LATEST})


def _probe(check: Check) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def answer(_: web.Request) -> web.Response:
        problem = check()
        return web.Response(text=problem or "ok", status=503 if problem else 200)

    return answer
