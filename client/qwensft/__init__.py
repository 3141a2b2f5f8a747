"""QwenSFTJob as Python objects: the API's models and rules, an estimate of memory, and a client of the cluster.

    from qwensft import Client, QwenSFTJob

Names are imported when they are first used: the API needs no cluster, and the client's packages are an extra.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from qwensft.api.v1alpha1 import QwenSFTJob
    from qwensft.client import Client

__all__ = ["Client", "QwenSFTJob"]

_HOMES: Final = {"Client": "qwensft.client", "QwenSFTJob": "qwensft.api.v1alpha1"}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
