"""Whether the cluster's definition of QwenSFTJob has what this operator writes and reads: else it is told in the log.

The chart installs both, but need not: one release of several has the definition, or another tool brings it. The API
server drops fields that a definition lacks, without a word to anybody.
ADR 0186 says why.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from typing import Any

from qwensft.api.crd import structural_schema
from qwensft.api.v1alpha1 import KIND
from qwensft_operator import __version__
from qwensft_operator.runtime.best_effort import BestEffort
from qwensft_operator.runtime.kube import Kube, Manifest

_MOST_NAMED = 8

logger = logging.getLogger(__name__)


class Definition:
    """The one in the cluster."""

    def __init__(self, kube: Kube) -> None:
        self._kube, self._best_effort = kube, BestEffort()

    async def check(self) -> None:
        """Log what it lacks, if it can be read and understood."""
        what = "the definition of QwenSFTJobs, so nobody looks whether it is of this version or a later one"
        await self._best_effort.attempt(what, self._check(), None)

    async def _check(self) -> None:
        document = await self._kube.published()
        known = await asyncio.to_thread(structural_schema)
        if lacks := sorted(lacking(document, known)):
            more = len(lacks) - _MOST_NAMED
            logger.error(
                "the CustomResourceDefinition in the cluster is older than this operator: it lacks %s%s. What is said "
                "there is lost or refused. Install the one of version %s first (the chart does with crds.enabled, or "
                "kubectl apply --server-side -f crds/)",
                ", ".join(lacks[:_MOST_NAMED]),
                f" and {more} more" if more > 0 else "",
                __version__,
            )


def lacking(document: Manifest, known: dict[str, Any]) -> Iterator[str]:
    """Paths of fields of spec and status in a schema that the published one lacks; of nested ones the topmost alone.

    A document without the kind lacks nothing: the API server has not published it yet.
    """
    schemas = (document.get("components") or {}).get("schemas") or {}
    served: dict[str, Any] = next((one for one in schemas.values() if _is_ours(one)), {})
    for part in ("spec", "status"):
        if part in served.get("properties", {}):
            yield from _lacking(served["properties"][part], known["properties"][part], part)


def _is_ours(schema: dict[str, Any]) -> bool:
    return any(kind.get("kind") == KIND for kind in schema.get("x-kubernetes-group-version-kind") or ())


def _lacking(served: dict[str, Any], known: dict[str, Any], path: str) -> Iterator[str]:
    if served.get("x-kubernetes-preserve-unknown-fields"):
        return
    for name, part in known.get("properties", {}).items():
        if (found := served.get("properties", {}).get(name)) is None:
            yield f"{path}.{name}"
        else:
            yield from _lacking(found, part, f"{path}.{name}")
    for name, mark in (("items", "[]"), ("additionalProperties", ".*")):
        if isinstance(known.get(name), dict) and isinstance(served.get(name), dict):
            yield from _lacking(served[name], known[name], f"{path}{mark}")
