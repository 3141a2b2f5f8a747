"""Writes what a decision says: the status, once and only if it changed, and Events after it.

A status write carries the resourceVersion that was observed, so that it never lands on a run that has moved on.
ADR 0076 says why.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from pydantic import BaseModel

from qwensft.api.v1alpha1 import API_VERSION, KIND, Condition, Reason, Status
from qwensft.api.v1alpha1.base import nested_model
from qwensft_operator.plan.text import clean
from qwensft_operator.plan.types import Event
from qwensft_operator.runtime.kube import (
    EVENTS,
    FIELD_MANAGER,
    QWENSFTJOBS,
    AlreadyExistsError,
    InvalidError,
    Kube,
    KubeError,
    Manifest,
    NamespaceTerminatingError,
    Patch,
)

# What a run can go on without. All else it goes by: `sourceRun`, say, is the model that every attempt begins with.
_REPORT_FIELD = "outputs.report"  # a page for people, which stands beside the model
_MEASURED = frozenset({"progress", "estimate", "dataset", "usage", "trackers", _REPORT_FIELD})
# Where the model is: told once, when its stage is done, so the last to leave out.
_OUTPUTS = "outputs"
_INFORMATION = _MEASURED | {_OUTPUTS}
_PART = re.compile(r"status\.(outputs\.report\b|\w+)")
_EVENT_MESSAGE_LIMIT = 1024  # bytes; the API server rejects longer ones

logger = logging.getLogger(__name__)


class Reporter:
    """Writes status and Events of QwenSFTJobs."""

    def __init__(self, kube: Kube, identity: str) -> None:
        self._kube, self._identity = kube, identity

    async def write_status(self, manifest: Manifest, status: Manifest) -> bool:
        """Make `status` what the object's status says, as far as this version knows it; return whether it has changed.

        A definition of an older version may know less than this one: then nothing does, however often it is written.
        Information that the API server refuses is left out, and told by an event.

        Raises:
            ConflictError: The object changed since it was read.
            NotFoundError: It is gone.
        """
        patch = status_patch(manifest.get("status") or {}, status)
        if not patch:
            return False
        meta = manifest["metadata"]
        refusals: list[InvalidError] = []
        while patch:
            try:
                changed = await self._merge(meta, patch)
            except InvalidError as error:
                dispensable = _dispensable(patch, error)
                if not dispensable:
                    raise
                parts = ", ".join(sorted(dispensable))
                logger.warning("the API server refuses the status, which is written without %s: %s", parts, error)
                patch = _without(patch, dispensable)
                refusals.append(error)
            else:
                await self.emit(manifest, map(_told, refusals))
                return changed
        return False

    async def _merge(self, meta: Manifest, patch: Manifest) -> bool:
        body = {"metadata": {"resourceVersion": meta["resourceVersion"]}, "status": patch}
        answer = await self._kube.merge(QWENSFTJOBS, meta["namespace"], meta["name"], body, subresource="status")
        return bool(answer["metadata"]["resourceVersion"] != meta["resourceVersion"])

    async def emit(self, manifest: Manifest, events: Iterable[Event]) -> None:
        """Tell people what happened. Events are a courtesy: one that is refused is logged and forgotten."""
        namespace = manifest["metadata"]["namespace"]
        for event in events:
            body = event_manifest(manifest, event, self._identity, self._kube.clock.now())
            name = body["metadata"]["name"]
            try:
                try:
                    await self._kube.create(EVENTS, namespace, body)
                except AlreadyExistsError:
                    # Said before about the same object: say it again now instead of twice.
                    await self._kube.patch(EVENTS, namespace, name, _again(body))
            except NamespaceTerminatingError:
                return
            except KubeError as error:
                logger.warning("event %s was not recorded: %s", event.reason, error)


def status_patch(stored: Manifest, wanted: Manifest) -> Manifest:
    """Return the JSON merge patch that makes a stored status say what is wanted; {} when it does.

    A field that this version knows and does not want is removed. Fields that it does not know, and conditions of other
    types, stay as they are and where they are: a newer version, or somebody else, has written them.
    """
    conditions = {condition["type"]: condition for condition in stored.get("conditions") or ()}
    for condition in wanted.get("conditions") or ():
        before = conditions.get(condition["type"], {})
        conditions[condition["type"]] = _unknown(before, Condition) | condition
    return merge_patch(stored, wanted | ({"conditions": list(conditions.values())} if conditions else {}), Status)


def merge_patch(stored: Manifest, wanted: Manifest, model: type[BaseModel]) -> Manifest:
    """Return the JSON merge patch (RFC 7386) from one document of a model to another; {} when nothing changes.

    Keys of the model that vanish become null, others stay; lists are replaced as a whole.
    """
    fields = {field.alias: nested_model(field.annotation) for field in model.model_fields.values()}
    patch: dict[str, Any] = {key: None for key in stored if key in fields and key not in wanted}
    for key, value in wanted.items():
        before, nested = stored.get(key), fields.get(key)
        if isinstance(value, dict) and isinstance(before, dict) and nested is not None:
            if inner := merge_patch(before, value, nested):
                patch[key] = inner
        elif value != before:
            patch[key] = value
    return patch


def _dispensable(patch: Manifest, error: InvalidError) -> frozenset[str]:
    """Return the parts of a refused status to do without; none when that would not help.

    Those that the API server names; where it names nothing, first all figures and then the rest.
    """
    named = {part[1] for field in error.fields if (part := _PART.match(field))}
    parts = _INFORMATION & (patch.keys() | ({_REPORT_FIELD} if "report" in (patch.get(_OUTPUTS) or ()) else set()))
    return parts & named if named else parts & _MEASURED or parts


def _without(patch: Manifest, parts: frozenset[str]) -> Manifest:
    kept = {key: value for key, value in patch.items() if key not in parts}
    if _REPORT_FIELD in parts and _OUTPUTS in kept:
        outputs = {name: value for name, value in kept.pop(_OUTPUTS).items() if name != "report"}
        kept |= {_OUTPUTS: outputs} if outputs else {}
    return kept


def _told(refusal: InvalidError) -> Event:
    message = f"the API server refuses figures of the status, which is written without them: {refusal.message}"
    return Event("Warning", Reason.OPERATOR_ERROR, message)


def _unknown(document: Manifest, model: type[BaseModel]) -> Manifest:
    known = {field.alias for field in model.model_fields.values()}
    return {key: value for key, value in document.items() if key not in known}


def event_manifest(about: Manifest, event: Event, identity: str, now: datetime) -> Manifest:
    """Return the Event object. The same words about the same object have the same name."""
    meta = about["metadata"]
    text = "\0".join((meta["uid"], event.type, event.reason, event.message))
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    timestamp = now.strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{meta['name']}.{digest}", "namespace": meta["namespace"]},
        "involvedObject": {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "namespace": meta["namespace"],
            "name": meta["name"],
            "uid": meta["uid"],
            "resourceVersion": meta["resourceVersion"],
        },
        "type": event.type,
        "reason": event.reason,
        "message": _shortened(event.message),
        "source": {"component": FIELD_MANAGER},
        "reportingComponent": FIELD_MANAGER,
        "reportingInstance": identity,
        "firstTimestamp": timestamp,
        "lastTimestamp": timestamp,
        "count": 1,
    }


def _again(event: Manifest) -> Patch:
    """Return the JSON patch by which an Event is said again, if it is about the same object."""
    return [
        {"op": "test", "path": "/involvedObject/uid", "value": event["involvedObject"]["uid"]},
        *({"op": "add", "path": f"/{key}", "value": event[key]} for key in ("lastTimestamp", "reportingInstance")),
    ]


def _shortened(message: str) -> str:
    message = clean(message)
    data = message.encode()
    if len(data) <= _EVENT_MESSAGE_LIMIT:
        return message
    return data[: _EVENT_MESSAGE_LIMIT - 3].decode(errors="ignore") + "…"
