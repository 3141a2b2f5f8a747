"""Quantities as Kubernetes writes them, and the amounts of memory and storage among them.

An amount of bytes below 1Mi is a slip: Kubernetes takes `memory: 16` for 16 bytes and `16m` for 16 thousandths of one.
ADR 0068 says why.
"""

from __future__ import annotations

import re
from decimal import ROUND_CEILING, Context, Decimal
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, Field, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from .base import Rule

_QUANTITY = r"^([0-9]+(\.[0-9]*)?|\.[0-9]+)([KMGTPE]i|[numkMGTPE]|[eE][+-]?[0-9]{1,2})?$"
_SUFFIXES = {
    "": Decimal(1),
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("1e-3"),
    **{suffix: Decimal(1000) ** power for power, suffix in enumerate("kMGTPE", start=1)},
    **{f"{suffix}i": Decimal(1024) ** power for power, suffix in enumerate("KMGTPE", start=1)},
}
_LEAST = "1Mi"
_SMALLEST, _LARGEST = Decimal("1e-9"), Decimal(2**63 - 1)
_EXACT = Context(prec=200)  # no quantity is as long


class _IntOrString:
    """Annotation that shows a quantity to the apiserver as Kubernetes itself does: an integer or a string."""

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        # Of the two bounds, the pattern holds for texts only.
        return {"x-kubernetes-int-or-string": True, "minimum": 0, "pattern": _QUANTITY, "maxLength": 32}


def _quantity_text(value: Any) -> Any:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


Quantity = Annotated[
    str, Field(min_length=1, max_length=32, pattern=_QUANTITY), BeforeValidator(_quantity_text), _IntOrString()
]
"""A Kubernetes quantity, such as 500m, 2, 16Gi. Integers are read as their decimal text."""


def parse_quantity(quantity: str) -> Decimal:
    """Return the value of a quantity in its base unit (cores, bytes, pieces), as exact and large as Kubernetes has it.

    That is, in whole billionths, rounded up, and with a binary suffix at most 2^63 - 1.

    Raises:
        ValueError: the text is malformed.
    """
    match = re.fullmatch(r"([0-9.]+)(?:([eE][+-]?[0-9]+)|([KMGTPE]i|[numkMGTPE])?)", quantity)
    if not match or not re.match(_QUANTITY, quantity):
        raise ValueError(f"not a quantity: {quantity!r}")
    value = _EXACT.multiply(Decimal(match[1] + (match[2] or "")), _SUFFIXES[match[3] or ""])
    value = value.quantize(_SMALLEST, ROUND_CEILING, _EXACT)
    return min(value, _LARGEST) if (match[3] or "").endswith("i") else value


def endless(quantity: str) -> str:
    """Return the CEL that finds a quantity with an exponent like 1e1000000: comparing it takes the apiserver hours.

    The pattern refuses it, but the apiserver evaluates rules even where a pattern does not match.
    """
    return f"string({quantity}).matches('[eE][+-]?[0-9]{{3}}')"


def below(quantity: str) -> str:
    """Return the CEL that finds an amount of bytes that is too small to be meant."""
    return f"!{endless(quantity)} && quantity(string({quantity})).isLessThan(quantity('{_LEAST}'))"


def is_below(quantity: str) -> bool:
    """Whether an amount of bytes is too small to be meant."""
    return parse_quantity(quantity) < parse_quantity(_LEAST)


_NUMBER = "^[0-9.]*[1-9][0-9.]*$"
_MILLI = "^[0-9.]*[1-9][0-9.]*m$"
_EXAMPLE = "is less than 1Mi; write for example 16Gi"


def _fix(text: str) -> str:
    """Return the CEL of the sentence about an amount that is too small; `text` is the CEL of the amount."""
    # Who writes four digits counts in Mi.
    number = f"{text} + ' is ' + {text} + ' bytes; write ' + {text} + ({text}.size() < 4 ? 'Gi' : 'Mi')"
    milli = f"{text} + ' is thousandths of a byte; write ' + {text}.replace('m', 'Mi')"
    return f"({text}.matches('{_NUMBER}') ? {number} : {text}.matches('{_MILLI}') ? {milli} : {text} + ' {_EXAMPLE}')"


def _explain(text: str) -> str:
    if re.search(_NUMBER, text):
        return f"{text} is {text} bytes; write {text}{'Gi' if len(text) < 4 else 'Mi'}"
    if re.search(_MILLI, text):
        return f"{text} is thousandths of a byte; write {text.replace('m', 'Mi')}"
    return f"{text} {_EXAMPLE}"


Bytes = Annotated[
    Quantity,
    Rule(
        cel=f"!({below('self')})",
        message="less than 1Mi: a unit is missing; write for example 16Gi",
        check=lambda amount: not is_below(amount),
        message_cel=_fix("string(self)"),
        explain=_explain,
    ),
]
"""An amount of memory or storage: a quantity of at least 1Mi."""

_NAMED: Final = ("memory", "ephemeral-storage", "hugepages-2Mi", "hugepages-1Gi")
_HUGE_PAGES: Final = "hugepages-"
# 0 is Kubernetes' word for none; a map may say it.
_SLIP = f"{below('self[name]')} && quantity(string(self[name])).isGreaterThan(quantity('0'))"
_MESSAGE = "memory, ephemeral storage or huge pages of less than 1Mi: a unit is missing; write for example 16Gi"


def _slips(amounts: dict[str, str]) -> list[str]:
    return [
        name
        for name, amount in amounts.items()
        if (name in _NAMED or name.startswith(_HUGE_PAGES)) and is_below(amount) and parse_quantity(amount) > 0
    ]


def _explain_first(amounts: dict[str, str]) -> str:
    slips = _slips(amounts)
    return next((f"{name}: {_explain(amounts[name])}" for name in _NAMED if name in slips), _MESSAGE)


Amounts = Annotated[
    dict[str, Quantity],
    Field(max_length=16),
    Rule(
        cel=f"self.all(name, !((name in {list(_NAMED)} || name.startsWith('{_HUGE_PAGES}')) && {_SLIP}))",
        message=_MESSAGE,
        check=lambda amounts: not _slips(amounts),
        # A list of names gives the order: the apiserver knows none of the keys of a map. An empty text makes way for
        # the message.
        message_cel=f"({list(_NAMED)}.filter(name, name in self && {_SLIP})"
        f".map(name, name + ': ' + {_fix('string(self[name])')}) + [''])[0]",
        explain=_explain_first,
    ),
]
"""Amounts of resources by name, as in a container's requests and limits."""
