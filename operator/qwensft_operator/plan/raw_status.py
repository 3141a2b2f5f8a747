"""What to say of a run that cannot be decided about: its document is not understood, or passes over it fail.

Built on the raw document, and on nothing of it but metadata and the status, which keeps all that it says already.
ADR 0154 says why.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from qwensft.api.v1alpha1 import ConditionType, Phase, Reason
from qwensft_operator.plan.text import one_line
from qwensft_operator.plan.times import timestamp
from qwensft_operator.plan.types import Event, Plan

_LONGEST_ERROR = 500  # characters of an exception's message
_FAILED_PASSES = frozenset({Reason.OPERATOR_ERROR, Reason.API_SERVER_ERROR, Reason.WAITING_FOR_DELETION})


def invalid_spec(manifest: dict[str, Any], problem: str, now: datetime) -> Plan:
    """Return the plan for an object whose spec this version cannot read: stalled, until somebody changes something.

    Nobody follows what runs of it, so its phase is Pending, whatever it was before; a hold alone is still true.
    """
    message = f"this version of the operator does not understand the spec: {one_line(problem)}"
    held = (manifest.get("status") or {}).get("phase") == Phase.SUSPENDED
    phase = Phase.SUSPENDED if held else Phase.PENDING
    return condition_plan(manifest, Reason.INVALID_SPEC, message, stalled=True, now=now, phase=phase)


def operator_error(manifest: dict[str, Any], error: Exception, now: datetime) -> Plan:
    """Return the plan after passes that failed for a reason that is not the run's."""
    problem = one_line(f"{type(error).__name__}: {error}", _LONGEST_ERROR)
    message = f"the operator failed and tries again; its log tells more: {problem}"
    return _failure_plan(manifest, Reason.OPERATOR_ERROR, message, now)


def api_server_error(manifest: dict[str, Any], answer: str, now: datetime) -> Plan:
    """Return the plan after passes that the API server has kept from succeeding for a while. `answer`: its words."""
    words = one_line(answer, _LONGEST_ERROR)
    message = f"the API server does not do what the run needs, and is asked again and again: {words}"
    return _failure_plan(manifest, Reason.API_SERVER_ERROR, message, now)


def waiting_for_deletion(manifest: dict[str, Any], what: str, now: datetime) -> Plan:
    """Return the plan for a run whose next object has the name of one that does not go away."""
    message = f"{one_line(what, _LONGEST_ERROR)}; the run goes on when it is gone"
    return _failure_plan(manifest, Reason.WAITING_FOR_DELETION, message, now)


def _failure_plan(manifest: dict[str, Any], reason: Reason, message: str, now: datetime) -> Plan:
    """Tell the first failure of a row, until a pass succeeds: each write of the status wakes the next pass."""
    conditions = (manifest.get("status") or {}).get("conditions") or ()
    generation = manifest["metadata"]["generation"]
    if any(c.get("reason") in _FAILED_PASSES and c.get("observedGeneration") == generation for c in conditions):
        return Plan()
    return condition_plan(manifest, reason, message, stalled=False, now=now)


def condition_plan(
    manifest: dict[str, Any], reason: Reason, message: str, *, stalled: bool, now: datetime, phase: Phase | None = None
) -> Plan:
    """Return the plan that tells a reason and a sentence; an empty one when they stand there, or the run has ended.

    `phase`: None keeps the one that is known.
    """
    before, generation = manifest.get("status") or {}, manifest["metadata"]["generation"]
    if "completionTime" in before:
        return Plan()  # neither a stricter version of the operator nor a fault of it changes how a run has ended
    known = {condition["type"]: condition for condition in before.get("conditions") or ()}
    values = (
        (ConditionType.SUCCEEDED, "Unknown"),
        (ConditionType.RECONCILING, str(not stalled)),
        (ConditionType.STALLED, str(stalled)),
    )
    for type_, value in values:
        old = known.get(type_, {})
        since = old.get("lastTransitionTime") if old.get("status") == value else None
        known[type_] = {
            "type": str(type_),
            "status": value,
            "reason": str(reason),
            "message": message,
            "lastTransitionTime": since or timestamp(now),
            "observedGeneration": generation,
        }
    status = {"phase": str(Phase.PENDING)} | before
    status |= {"observedGeneration": generation, "conditions": list(known.values())}
    status |= {} if phase is None else {"phase": str(phase)}
    return Plan() if status == before else Plan(status=status, events=(Event("Warning", reason, message),))
