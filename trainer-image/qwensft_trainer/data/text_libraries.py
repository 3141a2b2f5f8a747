"""Imports what encoding rows of texts uses, and not what its libraries import to train models and to look at images.

Imported for that alone, in a process that ends with the encoding. Of the modules that are left out nothing is called
there; their names are imported all the same, and stand for empty classes. ADR 0143 says why.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

_UNUSED = (
    *("peft", "peft.tuners", "peft.tuners.lora", "peft.utils", "trl", "torchaudio"),
    *("torch._dynamo", "torch._dynamo._trace_wrapped_higher_order_op", "torch._dynamo.utils"),
)
_ABSENT = ("bitsandbytes", "torchvision")  # transformers and LLaMA-Factory do without
LIBRARIES = ("datasets", "llamafactory.data", "llamafactory.hparams", "llamafactory.model")


class _Unused(ModuleType):
    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.__path__: list[str] = []
        self.__spec__ = ModuleSpec(name, None, is_package=True)

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        setattr(self, name, type(name, (), {}))
        return getattr(self, name)  # type: ignore[no-any-return]


def _undecorated(function: Callable[..., Any] | None = None, *_: Any, **__: Any) -> Any:
    """torch.compiler.disable, where nothing is compiled: the function, or a decorator that returns it."""
    return function if function is not None else (lambda decorated: decorated)


for _name in _UNUSED:
    sys.modules.setdefault(_name, _Unused(_name))
if isinstance(sys.modules["torch._dynamo"], _Unused):
    sys.modules["torch._dynamo"].disable = sys.modules["torch._dynamo"].allow_in_graph = _undecorated  # type: ignore[attr-defined]
for _name in _ABSENT:
    sys.modules.setdefault(_name, None)  # type: ignore[arg-type]  # Python's mark of what cannot be imported
for _name in LIBRARIES:
    importlib.import_module(_name)
