"""Are the ConfigMaps that a spec names there, with their keys? Said before pods hang on them, as it is for claims.

Reading them is the runtime's work, when nothing else keeps a Job from being made: each may hold a MiB.
ADR 0069 says why. ADR 0190 says why.
"""

from __future__ import annotations

import difflib
from datetime import datetime

from qwensft.api.v1alpha1 import ConditionType, Reason
from qwensft_operator.plan.references import Reference, references
from qwensft_operator.plan.run import Run
from qwensft_operator.plan.step import Step, held_phase, look_first
from qwensft_operator.plan.types import Look

CONFIG_MAP_CHECK = 30.0  # seconds until a ConfigMap that is not as the spec wants it is read again
_MOST_COMPARED = 200  # keys, to find the one that was meant
_MOST_NAMED = 5


def config_map_unusable(run: Run, _: datetime) -> Step | None:
    """Say which ConfigMap or key is missing instead of letting pods hang on it."""
    stage, found = run.current_stage, run.observed.named_config_maps
    if stage is None or run.current_child is not None:
        return None
    wanted = [r for r in references(run.job, stage) if r.kind == "ConfigMap"]
    if found is None:
        names = tuple(dict.fromkeys(r.name for r in wanted))
        said = run.status.condition(ConditionType.SUCCEEDED)
        # The other thing that a start needs comes with them, unless it is known that there mostly is none.
        starts = run.observed.leftovers is None and (said is None or said.reason != Reason.CONFIG_MAP_UNAVAILABLE)
        return look_first(run, Look(names, leftovers=starts)) if names else None
    problem = next((words for r in wanted if (words := _problem(r, found.get(r.name)))), None)
    if problem is None:
        return None
    reason = Reason.CONFIG_MAP_UNAVAILABLE
    return Step(held_phase(run), reason, problem, run.status, warning=True, requeue_after=CONFIG_MAP_CHECK)


def _problem(wanted: Reference, keys: frozenset[str] | None) -> str:
    if keys is None:
        return f"ConfigMap {wanted.name} does not exist; create it, or correct {wanted.field}.name"
    if wanted.key is None or wanted.key in keys:
        return ""
    return (
        f"ConfigMap {wanted.name} has no key {wanted.key}; {_contents(wanted.key, keys)}: add the key, or correct "
        f"{wanted.field}.key"
    )


def _contents(key: str, keys: frozenset[str]) -> str:
    """Name the keys that there are, those most like the wanted one first."""
    if not keys:
        return "it is empty"
    named = difflib.get_close_matches(key, sorted(keys)[:_MOST_COMPARED], n=_MOST_NAMED, cutoff=0)
    rest = f" and {len(keys) - len(named)} more" if len(keys) > len(named) else ""
    return f"it has {', '.join(named)}{rest}"
