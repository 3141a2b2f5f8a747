"""Labels and annotations as the API server takes them, in a job as in what is made of it.

The schema cannot bound the keys of a map, so rules do; a key of a list item has a pattern.
"""

from __future__ import annotations

import re
from typing import Annotated, Final

from pydantic import Field

from .base import Rule

_DOMAIN = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*"
_NAME = r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
_LONGEST_DOMAIN: Final = 253
LABEL_KEY: Final = rf"({_DOMAIN}/)?{_NAME}"
"""A label's key, but for the length of its domain."""
ANNOTATION_KEY: Final = LABEL_KEY.replace("[a-z0-9]", "[A-Za-z0-9]").replace("[-a-z0-9]", "[-A-Za-z0-9]")
"""As a label's, with capitals in the domain, too."""

_ALL_ANNOTATIONS: Final = 250 * 1024  # bytes; Kubernetes takes 256 KiB, and the operator writes some itself
# Kubernetes reads or refuses these in a pod, and the operator sets by fields what they were for.
_OF_KUBERNETES = (
    "container.apparmor.security.beta.kubernetes.io/",
    "container.seccomp.security.alpha.kubernetes.io/",
    "seccomp.security.alpha.kubernetes.io/",
    "scheduler.alpha.kubernetes.io/",
    "controller.kubernetes.io/pod-deletion-cost",
    "kubernetes.io/config.",
)


def is_key(pattern: str, key: str) -> bool:
    """Whether a text is a key by LABEL_KEY or ANNOTATION_KEY."""
    return re.fullmatch(pattern, key) is not None and key.find("/") <= _LONGEST_DOMAIN


def is_key_cel(pattern: str, key: str) -> str:
    """Return the CEL of `is_key`."""
    return f"{key}.matches(r'^{pattern}$') && {key}.indexOf('/') <= {_LONGEST_DOMAIN}"


def _keys(pattern: str, what: str) -> Rule:
    return Rule(
        cel=f"self.all(key, {is_key_cel(pattern, 'key')})",
        message=f"the key of {what} is a name of at most 63 characters, after a domain and '/' where need be: "
        "example.com/team",
        check=lambda entries: all(is_key(pattern, key) for key in entries),
    )


def _size(entries: dict[str, str]) -> int:
    return sum(len(key.encode()) + len(value.encode()) for key, value in entries.items())


_LabelValue = Annotated[str, Field(max_length=63, pattern=r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$")]
LabelMap = Annotated[dict[str, _LabelValue], Field(max_length=32), _keys(LABEL_KEY, "a label")]
AnnotationMap = Annotated[
    dict[str, Annotated[str, Field(max_length=4096)]],
    Field(max_length=32),
    _keys(ANNOTATION_KEY, "an annotation"),
    Rule(
        cel=f"self.map(key, bytes(key).size() + bytes(self[key]).size()).sum() <= {_ALL_ANNOTATIONS}",
        message="all annotations together have more than 250 KiB, and Kubernetes takes little more: shorten them",
        check=lambda annotations: _size(annotations) <= _ALL_ANNOTATIONS,
    ),
]
PodAnnotationMap = Annotated[
    AnnotationMap,
    Rule(
        cel=f"self.all(key, !({' || '.join(f'key.startsWith({prefix!r})' for prefix in _OF_KUBERNETES)}))",
        message="Kubernetes takes annotations of kubernetes.io for AppArmor, seccomp, tolerations, deletion cost and "
        "static pods for fields of the pod, which the operator sets: use other keys",
        check=lambda annotations: not any(key.startswith(_OF_KUBERNETES) for key in annotations),
    ),
]

LabelKey = Annotated[str, Field(min_length=1, max_length=_LONGEST_DOMAIN, pattern=rf"^{LABEL_KEY}$")]
"""In all no longer than its domain alone may be, which no pattern can bound by itself."""
LabelValue = _LabelValue
