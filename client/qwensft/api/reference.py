"""The text of docs/reference.md: every field of the API in one page, from the models.

`kubectl explain` says the same field by field; the page adds a view of whole blocks, and the rules between fields.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from pydantic.fields import FieldInfo

from .crd import NOTICE, Schema, default_text, structural_schema
from .v1alpha1 import API_VERSION, ApiModel, Spec, Status, StatusModel
from .v1alpha1.base import arguments_of, nested_model
from .v1alpha1.immutability_rules import FIXED, IMMUTABLE, MUTABLE

_INTRODUCTION: Final = f"""\
<!-- {NOTICE} -->
# API reference

`apiVersion: {API_VERSION}`, `kind: QwenSFTJob`. The same texts are in the cluster: `kubectl explain qwensftjob.spec`.

The schema holds no defaults: what you apply is what is stored. A field without a default is either required or means
nothing when absent. The column *argument* names the LLaMA-Factory arguments that a field sets; they are refused in
`spec.extraArguments`. [arguments.md](arguments.md) reads the other way round, from an argument to its field.

May be edited: {", ".join(f"`{path}`" for path in MUTABLE)}.
Fixed at creation: {", ".join(f"`{path}`" for path in FIXED)}.
"""


def page() -> str:
    """Return the page as Markdown."""
    properties = structural_schema()["properties"]
    blocks = [*_blocks(Spec, properties["spec"], "spec"), *_blocks(Status, properties["status"], "status")]
    return "\n".join([_INTRODUCTION, *blocks])


def _blocks(model: type[ApiModel | StatusModel], schema: Schema, path: str) -> Iterator[str]:
    """One section for a model that has fields, then one for each model below it."""
    if model.model_fields:
        yield _section(model, schema, path)
    for name, field in model.model_fields.items():
        alias = field.serialization_alias or name
        if nested := nested_model(field.annotation):
            child = schema["properties"][alias]
            suffix, child = ("[]", child["items"]) if "items" in child else ("", child)
            yield from _blocks(nested, child, f"{path}.{alias}{suffix}")


def _section(model: type[ApiModel | StatusModel], schema: Schema, path: str) -> str:
    lines = [f"## {path}", "", str(schema["description"]), ""]
    lines += ["| field | type | default | argument | meaning |", "| --- | --- | --- | --- | --- |"]
    for name, field in model.model_fields.items():
        alias = field.serialization_alias or name
        cells = (
            f"`{alias}`",
            _type(schema["properties"][alias]),
            default_of(field),
            ", ".join(f"`{name}`" for name in arguments_of(field)),
            _meaning(field),
        )
        lines.append(f"| {' | '.join(cells)} |")
    rules = [rule for rule in getattr(model, "rules", ()) if rule not in IMMUTABLE]
    lines += ["", *(f"* Refused with: {rule.message}." for rule in rules)] if rules else []
    return "\n".join([*lines, ""])


def _type(node: Schema) -> str:
    if node.get("x-kubernetes-int-or-string"):
        return "quantity"
    if "enum" in node:
        return " \\| ".join(map(str, node["enum"]))
    if "items" in node:
        return f"list of {_type(node['items'])}"
    if "additionalProperties" in node:
        return f"map of {_type(node['additionalProperties'])}"
    return str(node["type"]) + _bounds(node)


def _bounds(node: Schema) -> str:
    if "minimum" not in node or "maximum" not in node:
        return ""
    low = f"{'>' if node.get('exclusiveMinimum') else ''}{default_text(node['minimum'])}"
    high = f"{'<' if node.get('exclusiveMaximum') else ''}{default_text(node['maximum'])}"
    return f", {low} to {high}"


def default_of(field: FieldInfo) -> str:
    """Return the default of a field as Markdown: its value, else what the description tells of it, else nothing."""
    if field.is_required():
        return "*required*"
    value: Any = field.get_default()
    if value == []:
        return "none"
    plain = isinstance(value, (bool, int, float, str)) or (isinstance(value, list) and value)
    if plain and value != "":
        return f"`{default_text(value)}`"
    _, _, default = str(field.description).partition(" Default: ")
    return default.removesuffix(".")


def _meaning(field: FieldInfo) -> str:
    """The description as a cell, without its default, which has a column of its own."""
    text = str(field.description).partition(" Default: ")[0]
    # A bar would end the cell, and <image> would be taken for HTML and not be shown.
    return text.replace("|", "\\|").replace("<", "&lt;")
