"""The operator's settings: environment variables, read once at start. The chart's values set them.

Nothing about a single run stands here; that is the API's.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from ipaddress import IPv4Address, ip_network
from pathlib import Path
from typing import Any, TypeVar

from qwensft.api.v1alpha1 import NO_DEFAULTS, parse_worker_defaults
from qwensft_operator.plan.types import Limits
from qwensft_operator.render import Defaults, NetworkRules

T = TypeVar("T")

PREFIX = "QWENSFT_"

# As the trainer has them, which refuses them whatever is set here.
METADATA = ("169.254.169.0/24", "169.254.170.0/24", "169.254.0.23/32", "169.254.42.42/32")
_NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


class SettingsError(ValueError):
    """An environment variable has a value that the operator cannot use; the message names it."""


def _setting(default: T, description: str) -> T:
    setting: T = field(default=default, metadata={"description": description})
    return setting


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What can be set. Each field is the environment variable of the same name in capitals, with QWENSFT_ before it."""

    namespaces: tuple[str, ...] = _setting((), "Namespaces to watch, separated by commas; empty: all.")
    trainer_image: str = _setting("", "Image of the stages when spec.worker.image is not given (required).")
    image_pull_policy: str = _setting("IfNotPresent", "Pull policy when spec.worker.imagePullPolicy is not given.")
    worker_defaults: str = _setting(
        "",
        "What spec.worker of a run says where it does not say it, as JSON: imagePullSecrets, nodeSelector, "
        "priorityClassName, resources, runtimeClassName, schedulerName, securityContext and tolerations.",
    )
    allowed_images: tuple[str, ...] = _setting(
        (),
        "Images that runs may name, beside trainer_image: exact, or the beginning of some with * behind a / : or @; "
        "separated by commas; empty: all.",
    )
    allowed_claims: tuple[str, ...] = _setting(
        (), "Claims that runs may name: exact, or the beginning of some with * behind it; empty: all."
    )
    allowed_service_accounts: tuple[str, ...] = _setting(
        (), "Service accounts that runs may name, in the same way; empty: all."
    )
    allow_host_network: bool = _setting(True, "Whether runs may use the network of their nodes.")
    link_local_services: tuple[str, ...] = _setting(
        (),
        "Addresses of 169.254.0.0/16 at which downloads may be fetched, such as a cloud's store inside its networks; "
        "separated by commas; empty: none. Those of metadata stay refused.",
    )
    network_policies: str = _setting(
        "",
        "Make NetworkPolicies for every run, with these additions as JSON: metricsFrom (peers), egress and "
        "prepareEgress (rules), such as {}; empty: make none.",
    )
    scrape_interval_seconds: float = _setting(10.0, "How often a training run's progress is read from its node rank 0.")
    progress_interval_seconds: float = _setting(
        60.0, "How often at most the status shows new figures of a training that goes on as it did."
    )
    read_nodes: bool = _setting(
        True, "Read the labels of nodes for the memory of accelerators; needs the right to list nodes."
    )
    resync_seconds: float = _setting(600.0, "How often every run is looked at although nothing seems to have changed.")
    workers: int = _setting(32, "How many runs are reconciled at the same time.")
    request_timeout_seconds: float = _setting(30.0, "Limit for one request to the API server.")
    leader_election: bool = _setting(True, "Act only while holding the Lease; needed with more than one replica.")
    lease_namespace: str = _setting("", "Namespace of the Lease; empty: the pod's own, or 'default' outside a cluster.")
    lease_name: str = _setting("qwen-sft-operator", "Name of the Lease.")
    lease_duration_seconds: float = _setting(
        15.0, "How long others wait for a sign of life of the leader, which renews at a fifth of that."
    )
    identity: str = _setting("", "The name in the Lease; empty: the pod's name, or host and process outside a cluster.")
    health_port: int = _setting(8080, "Port of /livez, /readyz and /metrics; 0: any free one, which the log names.")
    stuck_after_seconds: float = _setting(300.0, "A leader that lets a run wait for a worker for longer is not alive.")
    deaf_after_seconds: float = _setting(60.0, "A process that has not one open watch for longer is not alive.")
    log_level: str = _setting("INFO", "DEBUG, INFO, WARNING or ERROR.")
    log_format: str = _setting("json", "json, or text for people.")

    def __post_init__(self) -> None:
        """Reject values that would only fail later, and fill in what depends on the place."""
        for name in (
            "scrape_interval_seconds",
            "progress_interval_seconds",
            "resync_seconds",
            "request_timeout_seconds",
            "lease_duration_seconds",
            "deaf_after_seconds",
        ):
            _check(getattr(self, name) > 0, name, "must be greater than 0")
        _check(self.workers >= 1, "workers", "must be at least 1")
        _check(bool(self.trainer_image), "trainer_image", "must name the trainer image")
        _one_of(self.image_pull_policy, "image_pull_policy", ("Always", "IfNotPresent", "Never"))
        _one_of(self.log_level, "log_level", ("DEBUG", "INFO", "WARNING", "ERROR"))
        _one_of(self.log_format, "log_format", ("json", "text"))
        for name in ("allowed_images", "allowed_claims", "allowed_service_accounts"):
            for pattern in getattr(self, name):
                _check("*" not in pattern[:-1], name, f"{pattern!r}: * stands at the end alone")
        for pattern in self.allowed_images:
            # host* would allow host.evil.example, and repository* another repository.
            _check(not re.search(r"(?<![/:@])\*$", pattern), "allowed_images", f"{pattern!r}: * stands behind / : or @")
        for name, read in (
            ("link_local_services", lambda: _require_services(self.link_local_services)),
            ("network_policies", lambda: self.network),
            ("worker_defaults", lambda: self.defaults),
        ):
            try:
                read()
            except ValueError as error:
                raise SettingsError(f"{PREFIX}{name.upper()}: {error}") from None
        for namespace in self.namespaces:
            # kopf takes patterns; a pattern would need permission to list namespaces, which a namespaced install lacks.
            _check(bool(re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", namespace)), "namespaces", f"{namespace!r}")
        if not self.identity:
            # A restarted container is the same candidate, and need not wait for its own Lease to expire.
            suffix = "" if _NAMESPACE_FILE.exists() else f"_{os.getpid()}"
            object.__setattr__(self, "identity", socket.gethostname() + suffix)
        if not self.lease_namespace:
            own = _NAMESPACE_FILE.read_text().strip() if _NAMESPACE_FILE.exists() else "default"
            object.__setattr__(self, "lease_namespace", own)

    @property
    def limits(self) -> Limits:
        """What runs may use."""
        return Limits(
            images=(*self.allowed_images, self.trainer_image) if self.allowed_images else (),
            claims=self.allowed_claims,
            service_accounts=self.allowed_service_accounts,
            host_network=self.allow_host_network,
        )

    @property
    def defaults(self) -> Defaults:
        """What is decided for runs that do not say it. Raises ValueError."""
        worker = parse_worker_defaults(self.worker_defaults) if self.worker_defaults else NO_DEFAULTS
        return Defaults(self.trainer_image, self.image_pull_policy, worker, self.link_local_services)

    @property
    def network(self) -> NetworkRules | None:
        """What is added to the NetworkPolicies of runs; None where these have none. Raises ValueError."""
        return NetworkRules.parse(self.network_policies) if self.network_policies else None

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Settings:
        """Read the settings.

        Raises:
            SettingsError: A variable is missing or has an unusable value.
        """
        given: dict[str, Any] = {}
        for setting in fields(cls):
            variable = PREFIX + setting.name.upper()
            text = environment.get(variable, "").strip()
            if text:
                try:
                    given[setting.name] = _PARSERS[str(setting.type)](text)
                except (ValueError, KeyError):
                    raise SettingsError(f"{variable}={text!r} is not a valid {setting.type}") from None
        return cls(**given)


def unknown_variables(environment: Mapping[str, str] = os.environ) -> list[str]:
    """Return the names that look like settings but are none: typing errors, or other programs' variables."""
    known = {PREFIX + setting.name.upper() for setting in fields(Settings)}
    return sorted(name for name in environment if name.startswith(PREFIX) and name not in known)


def describe() -> str:
    """Return a table of all settings, for --help."""
    lines = []
    for setting in fields(Settings):
        default = f" Default: {setting.default}." if setting.default not in ("", ()) else ""
        lines.append(f"  {PREFIX}{setting.name.upper():<26} {setting.metadata['description']}{default}")
    return "\n".join(lines)


def _check(condition: bool, name: str, problem: str) -> None:
    if not condition:
        raise SettingsError(f"{PREFIX}{name.upper()}: {problem}")


def _require_services(named: tuple[str, ...]) -> None:
    """Raises ValueError for what is no address, or none of a service."""
    for address in map(IPv4Address, named):
        if not address.is_link_local or any(address in ip_network(network) for network in METADATA):
            raise ValueError(f"{str(address)!r} is no address of a service in 169.254.0.0/16")


def _one_of(value: str, name: str, allowed: tuple[str, ...]) -> None:
    _check(value in allowed, name, f"{value!r} is not one of {', '.join(allowed)}")


_PARSERS: dict[str, Callable[[str], Any]] = {
    "str": str,
    "int": int,
    "float": float,
    "bool": lambda text: {"true": True, "false": False}[text.lower()],
    "tuple[str, ...]": lambda text: tuple(part.strip() for part in text.split(",") if part.strip()),
}
