"""Notices, while a gang is asked to stop, that a peer's pod is gone: then no common checkpoint can come any more.

A pod that vanishes with its network leaves no closed connection behind. Its peers would wait in a collective until the
grace period ends, accelerators held. What the cluster does tell is that the pod's name stops resolving.
"""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Callable

GONE_SECONDS = 20.0  # a peer that has saved and left in good order precedes us by less


class Peers:
    """The pods of this gang. `names`: as the headless Service knows them, by node rank; empty outside of a gang."""

    def __init__(
        self,
        master_address: str,
        nodes: int,
        *,
        resolves: Callable[[str], bool] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`master_address` is `<job>-train-<n>-0.<service>`; the other nodes differ in the number before the dot."""
        head, dot, service = master_address.partition(".")
        names = [re.sub(r"-0$", f"-{node_rank}", head) + dot + service for node_rank in range(nodes)]
        self.names = names if nodes > 1 and len(set(names)) == nodes else []
        self._resolves = resolves or _resolves
        self._clock = clock
        self._missed: dict[str, float] = {}

    def gone(self) -> str | None:
        """Return the name of a peer that has not resolved for `GONE_SECONDS`, over several calls; None if all do."""
        now = self._clock()
        for name in self.names:
            if self._resolves(name):
                self._missed.pop(name, None)
            elif now - self._missed.setdefault(name, now) >= GONE_SECONDS:
                return name
        return None


def _resolves(name: str) -> bool:
    try:
        socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        # Only a definite answer counts: a name server that is down tells nothing about the peer.
        return error.errno not in (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME))
    return True
