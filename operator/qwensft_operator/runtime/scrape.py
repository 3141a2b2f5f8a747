"""Reads live figures from a run's pod, node rank 0 of a training or the one of a merge, over HTTP, with narrow limits.

A pod is not trusted: size, time and redirects are bounded, and whatever fails is None. Figures are only shown; what a
run achieved comes from its termination message.
"""

from __future__ import annotations

import ipaddress
import logging
import math
import re
from collections.abc import Mapping

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from qwensft.api.v1alpha1 import METRICS_PORT
from qwensft_operator.plan.types import LARGEST_NUMBER, Scrape, Told
from qwensft_operator.plan.views import MOST_TRACKERS
from qwensft_operator.runtime.silence import Silences

_LIMIT_BYTES = 64 * 1024
_LIMIT_SECONDS = 2.0
_MOST_AT_A_TIME = 8  # a quarter of the workers: pods that do not answer must not occupy all of them
_PREFIX = re.compile(r"qwensft_(train|merge)_")
_ATTEMPT = "attempt_"
_TRACKER = "qwensft_train_tracker_undelivered_lines"
_INTEGERS = ("step", "total_steps", "best_step", "estimated_remaining_seconds", "bytes_done", "bytes_total")
_NUMBERS = (
    *("epoch", "loss", "initial_loss", "eval_loss", "best_eval_loss"),
    *("learning_rate", "tokens_per_second"),
)

logger = logging.getLogger(__name__)


class Scraper:
    """Fetches and parses metrics. Holds a connection pool; `close` ends it."""

    def __init__(self, port: int = METRICS_PORT) -> None:
        self._port = port
        self._silences, self._under_way = Silences(), 0
        self._session: aiohttp.ClientSession | None = None

    async def scrape(self, address: str) -> Scrape | None:
        """Return the figures that the pod at that IP address tells, or None when it tells none within 2 s.

        A pod that has been silent for minutes is asked seldom, and answered for as unreachable.
        """
        if self._silences.may_ask(address) and self._under_way < _MOST_AT_A_TIME:
            self._under_way += 1
            try:
                figures = await self._ask(address)
            finally:
                self._under_way -= 1
            if figures is not None:
                self._silences.answered(address)
                return figures
            self._silences.failed(address)
        return Scrape(unreachable=True) if self._silences.is_lasting(address) else None

    async def _ask(self, address: str) -> Scrape | None:
        host = f"[{address}]" if ipaddress.ip_address(address).version == 6 else address
        try:
            return parse(await self._fetch(f"http://{host}:{self._port}/metrics"))
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            logger.debug("no figures from %s: %s", address, str(error) or type(error).__name__)
            return None

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()

    async def _fetch(self, url: str) -> str:
        if self._session is None:
            # auto_decompress off: 64 KiB on the wire must stay 64 KiB. Proxies of the environment are not for pods.
            self._session = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=_LIMIT_SECONDS), auto_decompress=False, trust_env=False
            )
        headers = {"Accept": "text/plain", "Accept-Encoding": "identity"}
        async with self._session.get(url, headers=headers, allow_redirects=False) as response:
            if response.status != 200:
                raise ValueError(f"status {response.status}")
            data = bytearray()
            async for chunk in response.content.iter_chunked(_LIMIT_BYTES):
                data += chunk
                if len(data) > _LIMIT_BYTES:
                    raise ValueError(f"more than {_LIMIT_BYTES} bytes")
            return data.decode()


def parse(text: str) -> Scrape:
    """Parse Prometheus text. Numbers that no status can hold are left out; a loss that is not finite is flagged.

    Raises:
        ValueError: It is not Prometheus text.
    """
    found: dict[str, float] = {}
    trackers: list[Told] = []
    try:
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.name == _TRACKER:
                    trackers += _told(sample.labels, sample.value)
                elif prefix := _PREFIX.match(sample.name):
                    found[sample.name[prefix.end() :]] = sample.value
    except LookupError as error:  # the parser's answer to some broken lines
        raise ValueError("not Prometheus text") from error
    usable = {name: value for name, value in found.items() if abs(value) <= LARGEST_NUMBER}  # NaN is not
    lost = any(name.endswith("loss") and not math.isfinite(value) for name, value in found.items())
    numbers: dict[str, float | None] = {name: usable.get(name) for name in _NUMBERS}
    integers: dict[str, int | None] = {name: int(usable[name]) if name in usable else None for name in _INTEGERS}
    return Scrape(
        step=integers["step"],
        total_steps=integers["total_steps"],
        estimated_remaining_seconds=integers["estimated_remaining_seconds"],
        bytes_done=integers["bytes_done"],
        bytes_total=integers["bytes_total"],
        epoch=numbers["epoch"],
        loss=numbers["loss"],
        initial_loss=numbers["initial_loss"],
        eval_loss=numbers["eval_loss"],
        best_eval_loss=numbers["best_eval_loss"],
        best_step=integers["best_step"],
        learning_rate=numbers["learning_rate"],
        tokens_per_second=numbers["tokens_per_second"],
        attempt={name[len(_ATTEMPT) :]: value for name, value in usable.items() if name.startswith(_ATTEMPT)},
        trackers=tuple(trackers[:MOST_TRACKERS]),
        non_finite_loss=lost or found.get("non_finite_loss", 0.0) != 0,
    )


def _told(labels: Mapping[str, str], undelivered: float) -> list[Told]:
    """A tracker, as the labels of its figure tell; none for a number that no status can hold."""
    if not 0 <= undelivered <= LARGEST_NUMBER:
        return []
    return [Told(labels.get("tracker", ""), labels.get("url", ""), labels.get("run_id", ""), int(undelivered))]
