"""Waits that come before torchrun: for the pods' names to resolve, and for node rank 0 to tell where to start.

torchrun itself would wait for minutes on an unresolvable name and say little. Whoever waits looks all the while whether
there still is something to wait for: `is_over` and `look` may raise what ends this pod.
ADR 0139 says why.
"""

from __future__ import annotations

import http.client
import json
import math
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from qwensft_trainer import __version__
from qwensft_trainer.base.log import log
from qwensft_trainer.contract.errors import StageError
from qwensft_trainer.training.start import ROUTE, VERSION_KEY, Answer, Question, Start, other_image

LIMIT_SECONDS = 600.0
_LOG_EVERY_SECONDS = 30.0
_PAUSE_SECONDS = 1.0
_FIRST_PAUSE_SECONDS = 0.05  # most of a gang comes within seconds
_ANSWER_SECONDS = 5.0
_LARGEST_ANSWER = 64 * 1024
_T = TypeVar("_T")


def wait_for_name(
    name: str, port: int, *, limit: float = LIMIT_SECONDS, is_over: Callable[[], bool] = lambda: False
) -> None:
    """Return once the pod name resolves, or all is done. Raises StageError RendezvousTimeout after `limit` seconds."""
    _poll(
        lambda: bool(_addresses(name, port)) or is_over() or None,
        limit,
        waiting=lambda: f"the name {name} to resolve",
        failed=f"The name of the pod {name} did not resolve within {limit:.0f} s. Its pod may not be scheduled, "
        "or the headless Service or the cluster's DNS is missing.",
    )


def wait_for_gang(names: Sequence[str], node_rank: int, port: int, is_over: Callable[[], bool]) -> None:
    """Return once every pod of the gang has its name; `names` by node rank, empty outside of a gang.

    A node may be long in coming: a quota, an autoscaler, a large image. That is no failure of this attempt and the
    operator tells of it, so there is no limit. Only a DNS that does not know this very pod is a reason to give up.
    Where all is done already the others may have left, with their names: then `is_over` says so.
    """
    if not names:
        return
    wait_for_name(names[node_rank], port, is_over=is_over)
    for name in names:
        wait_for_name(name, port, limit=math.inf, is_over=is_over)


def wait_for_nodes(answer: Answer, names: Sequence[str], port: int, look: Callable[[], None]) -> None:
    """Return once all other nodes have asked node rank 0 where to start; `names` by node rank.

    Without a limit: their pods may be long in coming, and one that comes and cannot ask fails itself. Raises StageError
    StartMismatch when one has another image.
    """

    def is_of(address: str, node: int) -> bool:
        return bool(names) and _plain(address) in map(_plain, _addresses(names[node], port))

    def all_asked() -> bool | None:
        look()
        answer.require_one_image(is_of)
        return not answer.missing() or None

    _poll(
        all_asked,
        math.inf,
        waiting=lambda: f"the pods of node ranks {', '.join(map(str, answer.missing()))} to ask where to start",
        failed="",
    )


@dataclass(frozen=True)
class _Silence:
    """No start yet: a pod that is starting or stopping answers as soon as it can, otherwise something is in between.

    `is_deaf`: nothing listens at that address.
    """

    why: str
    is_starting: bool
    is_deaf: bool = False


def wait_for_start(
    name: str,
    port: int,
    *,
    node_rank: int,
    owner: str,
    attempt: int,
    is_over: Callable[[], bool],
    limit: float = LIMIT_SECONDS,
) -> Start | None:
    """Where the attempt starts, as told by the one live pod of node rank 0; None when `is_over` says that all is done.

    While that pod is starting, or one of an earlier life of it is still stopping under its name, there is no limit.
    Raises StageError RendezvousTimeout when for `limit` seconds its port could not be reached, or somebody else was
    there, and StartMismatch when it has another image.
    """
    unheard = logged = time.monotonic()
    pauses = _pauses(limit)
    question = Question(node_rank, owner, attempt)
    while not is_over():
        found = _ask_all(name, port, question)
        if isinstance(found, Start):
            return found
        now = time.monotonic()
        if found.is_starting:
            unheard = now
        elif now - unheard >= limit:
            raise StageError(
                "RendezvousTimeout",
                f"Node rank 0 ({name}) has not told on port {port} within {limit:.0f} s where to start: {found.why}. "
                "Look for a NetworkPolicy between the job's pods or, with spec.worker.hostNetwork, for another program "
                "on that port.",
            )
        if now - logged >= _LOG_EVERY_SECONDS:
            log(f"still waiting for node rank 0 to tell where to start: {found.why}")
            logged = now
        time.sleep(next(pauses))
    return None


def _ask_all(name: str, port: int, question: Question) -> Start | _Silence:
    """Ask at every address of the name: of two lives of a pod, one refuses until its name is gone, and vetoes."""
    addresses = _addresses(name, port)
    if not addresses:
        return _Silence(f"the name {name} does not resolve yet", is_starting=True)
    answers = [_ask(address, port, question) for address in addresses]
    starts = {answer for answer in answers if isinstance(answer, Start)}
    silent = [one for one in answers if isinstance(one, _Silence) and not (one.is_deaf and starts)]
    if silent:
        return min(silent, key=lambda silence: silence.is_starting)
    if len(starts) > 1:
        return _Silence(f"{len(starts)} pods answer under the name {name}", is_starting=True)
    return starts.pop()


def _ask(address: str, port: int, question: Question) -> Start | _Silence:
    connection = http.client.HTTPConnection(address, port, timeout=_ANSWER_SECONDS)  # no proxy comes between
    try:
        connection.request("GET", f"{ROUTE}?{question.query()}")
        response = connection.getresponse()
        document = json.loads(response.read(_LARGEST_ANSWER))
    except ConnectionRefusedError:
        return _Silence(f"{address} does not listen yet", is_starting=True, is_deaf=True)
    except (OSError, http.client.HTTPException, ValueError) as error:
        return _Silence(f"{address} does not answer ({type(error).__name__}: {error})", is_starting=False)
    finally:
        connection.close()
    if not isinstance(document, dict):
        return _Silence(f"{address} answers as no pod of this job", is_starting=False)
    version = document.pop(VERSION_KEY, "")
    if response.status == 503 and "state" in document:
        if document["state"] == "starting" and version != __version__:
            raise other_image(0, version)
        return _Silence(f"{address} is {document['state']}", is_starting=True)
    whose = document.get("owner"), document.get("attempt")
    if response.status != 200 or whose != (question.owner, question.attempt):
        return _Silence(f"{address} answers as no pod of this attempt", is_starting=False)
    if version != __version__:  # what else it says may mean something else
        raise other_image(0, version)
    return Start.read(document) or _Silence(f"{address} answers as no pod of this attempt", is_starting=False)


def _plain(address: str) -> str:
    """Without the form in which sockets of IPv6 write addresses of IPv4."""
    return address.removeprefix("::ffff:")


def _addresses(name: str, port: int) -> list[str]:
    try:
        found = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)
    except socket.gaierror:
        return []
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def _poll(attempt: Callable[[], _T | None], limit: float, *, waiting: Callable[[], str], failed: str) -> _T:
    started = logged = time.monotonic()
    pauses = _pauses(limit)
    while (result := attempt()) is None:
        now = time.monotonic()
        if now - started >= limit:
            raise StageError("RendezvousTimeout", failed)
        if now - logged >= _LOG_EVERY_SECONDS:
            log(
                f"still waiting for {waiting()} ({now - started:.0f} s"
                + (f" of {limit:.0f} s)" if limit < math.inf else ")")
            )
            logged = now
        time.sleep(next(pauses))
    return result


def _pauses(limit: float) -> Iterator[float]:
    """Seconds between one question and the next: short ones at first, since a gang waits for the slowest of them."""
    pause = _FIRST_PAUSE_SECONDS
    while True:
        yield min(pause, _PAUSE_SECONDS, limit)
        pause = min(2 * pause, _PAUSE_SECONDS)
