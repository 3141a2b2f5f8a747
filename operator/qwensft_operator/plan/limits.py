"""What an installation does not allow runs to use: told before anything is made for a run.

An attempt that runs goes on, also where the limits have become narrower; no other is started.
ADR 0126 says why.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

from qwensft.api.v1alpha1 import ApiModel, Reason
from qwensft_operator.plan.run import Run
from qwensft_operator.plan.source_run import awaited_part, chosen
from qwensft_operator.plan.step import Step, held_phase
from qwensft_operator.plan.types import Limits

_MOST_SHOWN = 5


def not_allowed(run: Run, _: datetime) -> Step | None:
    """Refuse to start anything for a spec that names what is not allowed."""
    if run.current_stage is None or run.current_child is not None or run.active_children():
        return None
    problems = tuple(_problems(run, run.observed.limits))
    if not problems:
        return None
    message = f"this installation of the operator does not allow {'; nor '.join(problems)}"
    return Step(held_phase(run), Reason.NOT_ALLOWED, message, run.status, warning=True, stalled=True)


def refused_image(image: str, limits: Limits) -> str | None:
    """Return why pods may not run an image that the spec does not name, None where they may."""
    if is_allowed(image, limits.images):
        return None
    return (
        f"this installation of the operator does not allow the image {image}, with which the run has begun, as its "
        "ConfigMap says. After an upgrade: add the trainer image of before to the chart's value allowed.images, until "
        "its runs have ended"
    )


def is_allowed(name: str, allowed: Iterable[str]) -> bool:
    """Whether a name is one of those allowed, or begins like one; () allows all."""
    patterns = tuple(allowed)
    return not patterns or any(
        name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern for pattern in patterns
    )


def _problems(run: Run, limits: Limits) -> Iterator[str]:
    spec = run.job.spec
    worker, source = spec.worker, spec.model.source
    claims = (*_claims(spec, "spec"), *_of_other_runs(run))
    images = [("spec.worker.image", worker.image)]
    if source is not None and source.image is not None:
        images.append(("spec.model.source.image.reference", source.image.reference))
    accounts = [("spec.worker.serviceAccountName", worker.service_account_name)]
    yield from _strange("image", images, limits.images, "images")
    yield from _strange("claim", claims, limits.claims, "claims")
    yield from _strange("service account", accounts, limits.service_accounts, "serviceAccounts")
    if worker.host_network and not limits.host_network:
        yield "spec.worker.hostNetwork: remove it, or have allowed.hostNetwork set in the operator's chart"


def _strange(what: str, named: Iterable[tuple[str, str | None]], allowed: tuple[str, ...], value: str) -> Iterator[str]:
    for field, name in named:
        if name is not None and not is_allowed(name, allowed):
            shown = ", ".join(allowed[:_MOST_SHOWN]) + (", ..." if len(allowed) > _MOST_SHOWN else "")
            yield (
                f"the {what} {name} ({field}): use one of {shown}, or have it added to allowed.{value} in the "
                "operator's chart"
            )


def _of_other_runs(run: Run) -> Iterator[tuple[str, str | None]]:
    """The claims of runs whose results this one reads, but for such as were made for them and bear their names."""
    awaited, found = awaited_part(run), run.observed.source_run
    if awaited is not None and found is not None and found.names_claim:
        yield awaited.field, found.claim
    for part, begun in chosen(run):
        if begun.claim_name != f"{begun.name}-workspace":
            yield part.field, begun.claim_name


def _claims(value: Any, field: str) -> Iterator[tuple[str, str | None]]:
    """Each claim that a part of the spec names, with its field. The one made from a template is the run's own."""
    if isinstance(value, ApiModel):
        for name, info in type(value).model_fields.items():
            inner, path = getattr(value, name), f"{field}.{info.serialization_alias or name}"
            if name == "claim_name":
                yield path, inner
            else:
                yield from _claims(inner, path)
    elif isinstance(value, list):
        for item in value:
            yield from _claims(item, f"{field}[{getattr(item, 'name', '')}]")
