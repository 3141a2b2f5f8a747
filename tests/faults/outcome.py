"""What is left of a run when it has ended, without the traces of time: two runs that went alike compare as equal."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from qwensft_operator.runtime.kube import (
    CLAIMS,
    CONFIG_MAPS,
    EVENTS,
    JOBS,
    QWENSFTJOBS,
    SERVICES,
    Kube,
    Manifest,
)

_OF_A_RUN = {"jobs": JOBS, "configmaps": CONFIG_MAPS, "services": SERVICES, "persistentvolumeclaims": CLAIMS}
_OF_ITS_OWN = (
    "configuration",  # a digest of files that name the run
    "usage",  # seconds as they passed
    "startTime",
    "completionTime",
    "lastTransitionTime",
    "lastUpdateTime",
)


@dataclass(frozen=True)
class Outcome:
    """`events`: how often each reason was told, and `words` each message; they may differ by what time makes of it."""

    status: Manifest
    objects: dict[str, list[str]]
    events: Counter[str] = field(compare=False)
    words: Counter[str] = field(compare=False)


async def outcome_of(kube: Kube, namespace: str, run: str = "demo") -> Outcome:
    """Read what is left of a run; its name is replaced, so that runs of different names compare."""
    stored = await kube.get(QWENSFTJOBS, namespace, run)
    selector, told = f"qwensft.io/job={run}", f"involvedObject.kind=QwenSFTJob,involvedObject.name={run}"
    found = {
        plural: await kube.list(resource, namespace, label_selector=selector) for plural, resource in _OF_A_RUN.items()
    }
    events: Counter[str] = Counter()
    words: Counter[str] = Counter()
    for event in await kube.list(EVENTS, namespace, field_selector=told):
        events[event["reason"]] += event.get("count") or 1
        words[event["message"]] += event.get("count") or 1
    return Outcome(
        status=_without(_renamed(stored.get("status") or {}, run)),
        objects={
            plural: sorted(_renamed(manifest["metadata"]["name"], run) for manifest in manifests)
            for plural, manifests in found.items()
        },
        events=events,
        words=words,
    )


def _renamed(value: Any, run: str) -> Any:
    match value:
        case str():
            return value.replace(run, "RUN")
        case dict():
            return {key: _renamed(inner, run) for key, inner in value.items()}
        case list():
            return [_renamed(inner, run) for inner in value]
    return value


def _without(value: Any) -> Any:
    match value:
        case dict():
            return {key: _without(inner) for key, inner in value.items() if key not in _OF_ITS_OWN}
        case list():
            return [_without(inner) for inner in value]
    return value
