"""Which API server, as whom and in which namespace: as kubectl reads its kubeconfig files, else the pod's own account.

The package kubernetes reads certificates and runs login plugins. Which context is meant is decided here: among several
files it takes the last one's current context where kubectl takes the first one's, it wants a current context although
another was named, reads KUBECONFIG once when it is imported, and does not know `as`, so that requests would go out with
rights that their user has laid down (ADR 0183).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlsplit
from urllib.request import getproxies

import yaml

from qwensft.client.errors import ConfigurationError, MissingPackageError, NotLoggedInError

Document = dict[str, Any]
Headers = tuple[tuple[str, str], ...]

_OWN_NAMESPACE: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_CONTENT: Final = re.compile(r"\{.*\}", re.S)  # of an entry, which kubernetes calls by all that it holds: tokens, too
_USUAL: Final = Path("~/.kube/config")


@dataclass(frozen=True, slots=True)
class Access:
    """How requests reach an API server."""

    configuration: Any
    """kubernetes' Configuration: host, TLS, proxy, credentials that it renews."""
    namespace: str
    context: str | None = None
    """Name of the context; None for a pod's own account."""
    impersonation: Headers = ()
    """Headers by which a user asks as someone else; a name may stand several times."""


def access(context: str | None, kubeconfig: str | Path | None) -> Access:
    """Read the kubeconfig, or the pod's service account where there is none. A login plugin is run.

    Args:
        context: Name of a context. Default: the current one.
        kubeconfig: Path of the file. Default: those of the environment variable KUBECONFIG, else ~/.kube/config.

    Raises:
        MissingPackageError: the package kubernetes is not installed.
        ConfigurationError: there is no usable configuration.
        NotLoggedInError: the login plugin gives no credentials.
    """
    client, config = kubernetes("client"), kubernetes("config")
    configuration = client.Configuration()
    paths = list(_paths(kubeconfig))
    if not paths and _OWN_NAMESPACE.exists() and not (context or kubeconfig or os.environ.get("KUBECONFIG")):
        config.load_incluster_config(client_configuration=configuration)
        _choose_proxy(configuration, None)
        return Access(configuration, _OWN_NAMESPACE.read_text().strip())
    if not paths:
        raise ConfigurationError(
            f"there is no kubeconfig {kubeconfig or os.environ.get('KUBECONFIG') or _USUAL}: correct the path, or log "
            "in to the cluster, which writes one"
        )
    merged = _merged(paths)
    name = merged.chosen(context)
    try:
        files = os.pathsep.join(map(str, paths))
        config.load_kube_config(config_file=files, context=name, client_configuration=configuration)
    except config.ConfigException as error:
        raise ConfigurationError(
            f"no usable kubeconfig: {_CONTENT.sub('...', str(error))}; set KUBECONFIG, or give Client(kubeconfig=...) "
            "and Client(context=...)"
        ) from error
    _choose_proxy(
        configuration, merged.clusters.get(str(merged.contexts[name].get("cluster") or ""), {}).get("proxy-url")
    )
    user = merged.users.get(str(merged.contexts[name].get("user") or ""), {})
    plugin = user.get("exec")
    if plugin and not (configuration.api_key or configuration.cert_file):
        raise NotLoggedInError(
            f"{plugin.get('command')}, by which context {name} logs in, gives no credentials: run it by itself to "
            "see why, and log in again"
        )
    return Access(configuration, str(merged.contexts[name].get("namespace") or "default"), name, _impersonation(user))


def kubernetes(part: str) -> Any:
    """Import a part of kubernetes: an extra, slow to import, and typed in some versions alone.

    Raises:
        MissingPackageError: it is not installed.
    """
    try:
        return import_module(f"kubernetes.{part}")
    except ImportError as error:
        raise MissingPackageError("the client needs the package kubernetes: pip install 'qwensft[client]'") from error


@dataclass(slots=True)
class _Merged:
    """What several files say together: the first one that names something says what it is."""

    contexts: dict[str, Document] = field(default_factory=dict)
    users: dict[str, Document] = field(default_factory=dict)
    clusters: dict[str, Document] = field(default_factory=dict)
    current: str = ""

    def chosen(self, context: str | None) -> str:
        """The context that is meant, which there must be."""
        there = ", ".join(sorted(self.contexts)) or "none"
        if not context and not self.current:
            raise ConfigurationError(
                f"the kubeconfig has no current context: name one, --context or Client(context=...); there are {there}"
            )
        name = context or self.current
        if name not in self.contexts:
            raise ConfigurationError(f"the kubeconfig has no context {name}; there are {there}")
        return name


def _paths(kubeconfig: str | Path | None) -> Iterator[Path]:
    """The files that there are, without those that have nothing in them."""
    named = str(kubeconfig or os.environ.get("KUBECONFIG") or _USUAL)
    for one in [named] if kubeconfig else named.split(os.pathsep):
        path = Path(one).expanduser()
        if one and path.is_file() and path.stat().st_size:
            yield path


def _merged(paths: list[Path]) -> _Merged:
    merged = _Merged()
    for path in paths:
        try:
            document = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
            for kind in ("contexts", "users", "clusters"):
                for entry in document.get(kind) or []:
                    getattr(merged, kind).setdefault(str(entry["name"]), entry.get(kind[:-1]) or {})
            merged.current = merged.current or str(document.get("current-context") or "")
        except (yaml.YAMLError, UnicodeDecodeError, AttributeError, KeyError, TypeError) as error:
            problem = getattr(error, "problem", None) or "it has another form"
            raise ConfigurationError(f"{path} is no kubeconfig: {problem}; correct it, or write it anew") from error
    return merged


def _choose_proxy(configuration: Any, of_cluster: str | None) -> None:
    """That of the cluster, else that of the environment for its scheme, from which NO_PROXY spares hosts.

    Versions of kubernetes differ in each of these.
    """
    of_environment = getproxies()
    configuration.proxy = of_cluster or of_environment.get(urlsplit(configuration.host).scheme)
    configuration.no_proxy = None if of_cluster else of_environment.get("no")


def _impersonation(user: Mapping[str, Any]) -> Headers:
    """Headers for `as` and what belongs to it, as client-go writes them."""
    headers = [("Impersonate-User", user.get("as")), ("Impersonate-Uid", user.get("as-uid"))]
    headers += [("Impersonate-Group", group) for group in user.get("as-groups") or []]
    for key, values in (user.get("as-user-extra") or {}).items():
        headers += [(f"Impersonate-Extra-{quote(key.lower(), safe='')}", value) for value in values]
    return tuple((name, str(value)) for name, value in headers if value)
