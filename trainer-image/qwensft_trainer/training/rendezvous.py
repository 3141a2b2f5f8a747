"""Waits that come before torchrun: for the master's name to resolve and for node rank 0's decision about this attempt.

torchrun itself would wait for minutes on an unresolvable name and say little.
"""

from __future__ import annotations

import math
import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from qwensft_trainer.base import files
from qwensft_trainer.base.log import log
from qwensft_trainer.contract.errors import StageError

LIMIT_SECONDS = 600.0
_LOG_EVERY_SECONDS = 30.0
_PAUSE_SECONDS = 1.0
_T = TypeVar("_T")


def wait_for_name(name: str, port: int, *, limit: float = LIMIT_SECONDS) -> None:
    """Return once the pod name resolves. Raises StageError RendezvousTimeout after `limit` seconds."""

    def resolved() -> bool | None:
        try:
            return bool(socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)) or None
        except socket.gaierror:
            return None

    _poll(
        resolved,
        limit,
        waiting=f"the name {name} to resolve",
        failed=f"The name of the pod {name} did not resolve within {limit:.0f} s. Its pod may not be scheduled, "
        "or the headless Service or the cluster's DNS is missing.",
    )


def wait_for_gang(names: Sequence[str], node_rank: int, port: int) -> None:
    """Return once every pod of the gang has its name; `names` by node rank, empty outside of a gang.

    A node may be long in coming: a quota, an autoscaler, a large image. That is no failure of this attempt and the
    operator tells of it, so there is no limit. Only a DNS that does not know this very pod is a reason to give up.
    """
    if not names:
        return
    wait_for_name(names[node_rank], port)
    for name in names:
        wait_for_name(name, port, limit=math.inf)


def wait_for_decision(path: Path, owner_uid: str, *, limit: float = LIMIT_SECONDS) -> dict[str, Any]:
    """Return node rank 0's attempt.json, written for this owner. Raises StageError RendezvousTimeout after `limit` s.

    A run that took over another's directory (onExisting: Resume) finds that one's decisions under the same numbers.
    """

    def decided() -> dict[str, Any] | None:
        decision = files.read_json_object(path)
        return decision if decision is not None and decision.get("ownerUid") == owner_uid else None

    return _poll(
        decided,
        limit,
        waiting=f"node rank 0 to write {path}",
        failed=f"Node rank 0 did not write {path} within {limit:.0f} s. Its pod may not be scheduled, or the pods do "
        "not share the volume: with several nodes it must be ReadWriteMany.",
    )


def _poll(attempt: Callable[[], _T | None], limit: float, *, waiting: str, failed: str) -> _T:
    started = logged = time.monotonic()
    while (result := attempt()) is None:
        now = time.monotonic()
        if now - started >= limit:
            raise StageError("RendezvousTimeout", failed)
        if now - logged >= _LOG_EVERY_SECONDS:
            log(
                f"still waiting for {waiting} ({now - started:.0f} s"
                + (f" of {limit:.0f} s)" if limit < math.inf else ")")
            )
            logged = now
        time.sleep(min(_PAUSE_SECONDS, limit))
    return result
