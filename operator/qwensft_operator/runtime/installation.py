"""Whether another installation of the operator serves the same namespace: child Jobs tell who made them.

ADR 0105 says why.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta

from qwensft.api.v1alpha1 import ANNOTATION_INSTALLATION, Reason
from qwensft_operator.plan.types import ChildJob, Event
from qwensft_operator.runtime.kube import Manifest

_MARGIN = timedelta(minutes=1)  # for clocks that differ


def signed(manifest: Manifest, installation: str) -> Manifest:
    """Return a Job's manifest that says which installation has made it."""
    if not installation:
        return manifest
    meta = manifest["metadata"]
    annotations = {**(meta.get("annotations") or {}), ANNOTATION_INSTALLATION: installation}
    return manifest | {"metadata": meta | {"annotations": annotations}}


class Overlap:
    """Finds Jobs that another installation has made since this process began."""

    def __init__(self, installation: str, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._installation, self._monotonic, self._began = installation, monotonic, monotonic()
        self._told: dict[str, None] = {}  # UIDs of Jobs, the oldest first

    def events(self, children: Iterable[ChildJob], now: datetime) -> tuple[Event, ...]:
        """Return an event for each such Job that was not told before; `now` by the clock that dates Jobs."""
        # The API server's clock is not known when the process begins; how long ago that was is.
        since = now - timedelta(seconds=self._monotonic() - self._began)
        strange = [child for child in children if self._is_strange(child, since)]
        self._told |= dict.fromkeys(child.uid for child in strange)
        while len(self._told) > 1000:
            del self._told[next(iter(self._told))]
        return tuple(Event("Warning", Reason.OPERATORS_OVERLAP, self._message(child)) for child in strange)

    def _is_strange(self, child: ChildJob, since: datetime) -> bool:
        # A Job from before may have been made by an installation that this one has replaced.
        other = child.installation not in ("", self._installation)
        return other and child.created_at > since + _MARGIN and child.uid not in self._told

    def _message(self, child: ChildJob) -> str:
        return (
            f"Job {child.name} was made by the installation {child.installation} of the operator, and this one is "
            f"{self._installation}: both serve this namespace. Uninstall one, or give each its own watchNamespaces"
        )
