"""Compute resources of a container, by the rules that Kubernetes has for their names and amounts.

Kubernetes judges them when a pod is made: here they are judged before anything is.
"""

from __future__ import annotations

import re
from typing import Annotated, Final

from pydantic import Field

from .base import ApiModel, Rule
from .labels import LABEL_KEY
from .quantities import Amounts, below, endless, is_below, parse_quantity

_STANDARD: Final = ("cpu", "memory", "ephemeral-storage")
_HUGE_PAGES: Final = "hugepages-"
_SIZE = r"^hugepages-[1-9][0-9]{0,3}(Ki|Mi|Gi)$"
_NATIVE: Final = "kubernetes.io/"  # Kubernetes' own: anywhere in a name, as it has it
_OF_QUOTAS: Final = "requests."
# Kubernetes puts "requests." before it for quotas, and that must be a domain, too.
_LONGEST_DOMAIN: Final = 253 - len(_OF_QUOTAS)
_COUNT = r"^[0-9]{1,9}([kMG]|[KMG]i)?$"
# Amounts of which the API server can take remainders.
_PAGES = r"^([0-9]{1,15}|[0-9]{1,6}Mi|[0-9]{1,4}Gi)$"


def is_offered(name: str) -> bool:
    """Whether a container may have a resource of that name: of a device plugin, or of a domain of Kubernetes.

    Of the latter, such as kubernetes.io/batch-cpu or a device class of DRA, the API server asks no whole numbers.
    """
    return (
        "/" in name
        and re.fullmatch(LABEL_KEY, name) is not None
        and (_NATIVE in name or (not name.startswith(_OF_QUOTAS) and name.find("/") <= _LONGEST_DOMAIN))
    )


def is_offered_cel(name: str) -> str:
    """Return the CEL of `is_offered`."""
    return (
        f"({name}.contains('/') && {name}.matches(r'^{LABEL_KEY}$') && ({name}.contains('{_NATIVE}')"
        f" || (!{name}.startsWith('{_OF_QUOTAS}') && {name}.indexOf('/') <= {_LONGEST_DOMAIN})))"
    )


def _is_shared(name: str) -> bool:
    """Whether the resource may be had in parts, and without a limit."""
    return name in _STANDARD or _NATIVE in name


_IS_SHARED = f"(name in {list(_STANDARD)} || name.contains('{_NATIVE}'))"


def _is_known(name: str) -> bool:
    return name in _STANDARD or re.fullmatch(_SIZE, name) is not None or is_offered(name)


def _fits(name: str, amount: str) -> bool:
    if _is_shared(name):
        return True
    if not name.startswith(_HUGE_PAGES):
        return re.fullmatch(_COUNT, amount) is not None
    page = parse_quantity(name.removeprefix(_HUGE_PAGES))
    if is_below(amount):  # a unit is missing, as another rule says
        return True
    return re.fullmatch(_PAGES, amount) is not None and parse_quantity(amount) % page == 0


_TEXT = "string(self[name])"
_PAGE = f"quantity(name.substring({len(_HUGE_PAGES)})).asInteger()"
_KNOWN_SIZE = f"name.matches(r'{_SIZE}')"

ResourceMap = Annotated[
    Amounts,
    Rule(
        cel=f"self.all(name, name in {list(_STANDARD)} || {_KNOWN_SIZE} || {is_offered_cel('name')})",
        message="a resource of a container is cpu, memory, ephemeral-storage, hugepages-<size> or one that a device "
        "plugin offers, with its domain: for example hugepages-2Mi or rdma/hca",
        check=lambda amounts: all(map(_is_known, amounts)),
    ),
    Rule(
        cel=f"self.all(name, {_IS_SHARED} || name.startsWith('{_HUGE_PAGES}') || {_TEXT}.matches('{_COUNT}'))",
        message="devices are counted: write a whole number, for example 1",
        check=lambda amounts: all(
            _fits(name, amount) for name, amount in amounts.items() if not name.startswith(_HUGE_PAGES)
        ),
    ),
    Rule(
        cel=f"self.all(name, !{_KNOWN_SIZE} || ({below('self[name]')}) || ({_TEXT}.matches('{_PAGES}')"
        f" && quantity({_TEXT}).asInteger() % {_PAGE} == 0))",
        message="huge pages are whole: write a multiple of their size with Mi or Gi, for example hugepages-2Mi: 512Mi",
        check=lambda amounts: all(_fits(name, amount) for name, amount in amounts.items() if re.fullmatch(_SIZE, name)),
    ),
]
"""Amounts of resources of a container, by name."""


def _requests_within_limits(resources: ResourceRequirements) -> bool:
    limits = resources.limits or {}
    return all(
        parse_quantity(amount) <= parse_quantity(limits[name])
        for name, amount in (resources.requests or {}).items()
        if name in limits
    )


def _devices_are_limited(resources: ResourceRequirements) -> bool:
    limits = resources.limits or {}
    return all(
        name in limits and parse_quantity(amount) == parse_quantity(limits[name])
        for name, amount in (resources.requests or {}).items()
        if not _is_shared(name)
    )


def _huge_pages_have_company(resources: ResourceRequirements) -> bool:
    names = {*(resources.requests or {}), *(resources.limits or {})}
    return not any(name.startswith(_HUGE_PAGES) for name in names) or bool(names & {"cpu", "memory"})


_REQUEST, _LIMIT = "self.requests[name]", "self.limits[name]"
_ENDLESS = f"{endless(_REQUEST)} || {endless(_LIMIT)}"


class ResourceRequirements(ApiModel):
    """Compute resources of one container."""

    rules = (
        Rule(
            cel="!has(self.requests) || !has(self.limits) || self.requests.all(name, !(name in self.limits)"
            f" || {_ENDLESS} || !quantity(string({_REQUEST})).isGreaterThan(quantity(string({_LIMIT}))))",
            message="a request is greater than its limit: raise the limit or lower the request",
            check=_requests_within_limits,
        ),
        Rule(
            cel=f"!has(self.requests) || self.requests.all(name, {_IS_SHARED}"
            f" || (has(self.limits) && name in self.limits && ({_ENDLESS}"
            f" || quantity(string({_REQUEST})).compareTo(quantity(string({_LIMIT}))) == 0)))",
            message="of devices and huge pages the request is the limit: name them in limits alone",
            check=_devices_are_limited,
        ),
        Rule(
            cel=f"!(has(self.requests) && self.requests.exists(name, name.startsWith('{_HUGE_PAGES}')))"
            f" && !(has(self.limits) && self.limits.exists(name, name.startsWith('{_HUGE_PAGES}')))"
            " || ['cpu', 'memory'].exists(name, (has(self.requests) && name in self.requests)"
            " || (has(self.limits) && name in self.limits))",
            message="huge pages need cpu or memory beside them: add a request of either",
            check=_huge_pages_have_company,
        ),
    )

    requests: ResourceMap | None = Field(
        None,
        description="Amounts that the scheduler reserves, such as cpu: 4 or memory: 32Gi. Memory and storage have a "
        "unit: 32 alone would be 32 bytes.",
    )
    limits: ResourceMap | None = Field(
        None,
        description="Amounts that the container can never exceed. Resources named here and not in requests are "
        "requested too. Devices and huge pages are named here alone.",
    )
