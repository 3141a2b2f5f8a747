"""What an installation sets in `spec.worker` for jobs that do not: how its pods are placed, sized and identified.

ADR 0151 says why.
"""

from __future__ import annotations

import json
from typing import Final

from pydantic import ValidationError
from pydantic.alias_generators import to_camel

from .base import problem_text
from .worker import PodSecurity, Worker

DEFAULTABLE: Final = (
    "image_pull_secrets",
    "node_selector",
    "priority_class_name",
    "resources",
    "runtime_class_name",
    "scheduler_name",
    "security_context",
    "tolerations",
)
"""Fields of the worker that an installation may set: none of them changes what is learnt."""

NO_DEFAULTS: Final = Worker()


def parse_worker_defaults(text: str) -> Worker:
    """Read an installation's defaults: a JSON object with fields as they stand in `spec.worker`.

    Raises:
        ValueError: It is no such object, or has a field that is none of `DEFAULTABLE` or no value for one.
    """
    names = tuple(map(to_camel, DEFAULTABLE))
    try:
        given = json.loads(text, parse_float=str)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(given, dict):
        raise ValueError(f"it is an object with {', '.join(names)}")
    if unknown := ", ".join(sorted(given.keys() - set(names))):
        raise ValueError(f"{unknown} is none of {', '.join(names)}")
    try:
        defaults = Worker.model_validate(given, by_alias=True, by_name=False)
    except ValidationError as error:
        problems = error.errors(include_url=False)
        raise ValueError("; ".join(problem_text(details, Worker) for details in problems)) from None
    if devices := sorted(name for name in _amounts(defaults) if "/" in name):
        # A job with such an accelerator would get the default's number in place of worker.accelerator.count.
        raise ValueError(f"resources: {', '.join(devices)}: devices are asked for by each job")
    return defaults


def with_defaults(worker: Worker, defaults: Worker) -> Worker:
    """Return the worker with the defaults of fields that it does not set; of securityContext, each member by itself."""
    missing = {name: getattr(defaults, name) for name in DEFAULTABLE if getattr(worker, name) is None}
    if worker.security_context is not None and defaults.security_context is not None:
        both = {**defaults.security_context.document(), **worker.security_context.document()}
        missing["security_context"] = PodSecurity.model_validate(both, by_alias=True, by_name=False)
    return worker.replace(**missing)


def _amounts(worker: Worker) -> set[str]:
    resources = worker.resources
    return set() if resources is None else {*(resources.requests or {}), *(resources.limits or {})}
