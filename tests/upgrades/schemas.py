"""What a schema takes away from an earlier one: by each such change something that was stored is lost or refused."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

Schema = dict[str, Any]

_SAME = (
    *("type", "format", "pattern", "nullable", "exclusiveMinimum", "exclusiveMaximum"),
    *("x-kubernetes-int-or-string", "x-kubernetes-list-type", "x-kubernetes-list-map-keys"),
)
_LEAST = ("minLength", "minItems", "minProperties", "minimum")
_MOST = ("maxLength", "maxItems", "maxProperties", "maximum")


def taken_away(before: Schema, after: Schema, path: str = "") -> Iterator[str]:
    """Each change, with the path of its field. Rules in CEL may come, and are no matter of this."""
    yield from (f"{path}: {change}" for change in _of_values(before, after))
    for name, part in before.get("properties", {}).items():
        if (same := after.get("properties", {}).get(name)) is None:
            yield f"{path}.{name} is gone"
        else:
            yield from taken_away(part, same, f"{path}.{name}")
    for name in ("items", "additionalProperties"):
        if isinstance(before.get(name), dict):
            yield from taken_away(before[name], after.get(name) or {}, f"{path}[]")


def _of_values(before: Schema, after: Schema) -> Iterator[str]:
    for name in _SAME:
        if before.get(name) != after.get(name):
            yield f"{name} {before.get(name)} became {after.get(name)}"
    for name in _LEAST:
        if after.get(name, -math.inf) > before.get(name, -math.inf):
            yield f"{name} {before.get(name)} rose to {after[name]}"
    for name in _MOST:
        if after.get(name, math.inf) < before.get(name, math.inf):
            yield f"{name} {before.get(name)} fell to {after[name]}"
    if "enum" in after and (lost := sorted({*map(str, before.get("enum", ["any"]))} - {*map(str, after["enum"])})):
        yield f"without the values {', '.join(lost)}"
    if asked := sorted({*after.get("required", ())} - {*before.get("required", ())}):
        yield f"asks for {', '.join(asked)}"
