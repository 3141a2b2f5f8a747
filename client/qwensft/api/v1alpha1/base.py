"""Base classes of all API models, and rules: one check written for the apiserver (CEL) and for Python side by side.

What a field means stands in the modules beside this one; how rules reach the CRD stands in `api.crd`.
ADR 0020 says why.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from difflib import get_close_matches
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Final, Self, cast, get_args

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    PlainSerializer,
    ValidationInfo,
    model_validator,
)
from pydantic.alias_generators import to_camel
from pydantic.fields import FieldInfo
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, PydanticUndefined, core_schema

VALIDATIONS: Final = "x-kubernetes-validations"
ARGUMENT: Final = "x-qwensft-argument"
"""JSON-schema key under which a field names the LLaMA-Factory arguments that it sets; never part of the CRD."""
WITHOUT_RULES: Final = {"rules": False}
"""Context of a validation that judges a document's shape alone: known and required fields, types and bounds."""
_OR_DEFAULT = re.compile(r"(?P<path>self(\.\??\w+)+)\.orDefault\(\)")


@dataclass(frozen=True, slots=True)
class Rule:
    """A condition on one value, with the message that tells the user how to meet it.

    The apiserver evaluates `cel` (with `self` bound to the value) at admission; `check` says the same in Python, for
    documents that reach a model by another way (CLI, SDK, tests). The contract tests keep both in step.

    A rule is either an element of `ApiModel.rules`, or an annotation of a scalar: `Annotated[str, Rule(...)]`. Among
    the rules of a model, `self.?a.?b.orDefault()` is the field's value or else the default that its model gives it.
    """

    cel: str
    message: str
    check: Callable[[Any], bool]
    field: str | None = None
    """Path of the field to blame, relative to the value, as the apiserver wants it: `.distribution.nodes`."""
    message_cel: str | None = None
    explain: Callable[[Any], str] | None = None
    """With `message_cel`: the same message, computed in Python."""

    def apply(self, value: Any, info: ValidationInfo) -> Any:
        """Return the value; raise an error of type `rule` when it breaks the rule, and rules are judged at all."""
        if info.context != WITHOUT_RULES and not self.check(value):
            message = self.explain(value) if self.explain else self.message
            raise PydanticCustomError("rule", "{message}", {"message": message, "field": self.field or ""})
        return value

    def as_validation(self, model: type[BaseModel] | None = None) -> dict[str, str]:
        """Return the rule, of a model or of a scalar, as an entry of x-kubernetes-validations."""
        entry = {"rule": with_defaults(self.cel, model) if model else self.cel, "message": self.message}
        if self.message_cel:
            entry["messageExpression"] = self.message_cel
        if self.field:
            entry["fieldPath"] = self.field
        return entry

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.with_info_after_validator_function(self.apply, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        result = handler(schema)
        result[VALIDATIONS] = [*result.get(VALIDATIONS, []), self.as_validation()]
        return result


@dataclass(frozen=True, slots=True)
class UniqueBy:
    """Annotation of a list: no two items share the value of the key, as in a Kubernetes list of type map."""

    key: str

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._apply, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return handler(schema) | {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [self.key]}

    def _apply(self, items: Sequence[Any]) -> Sequence[Any]:
        seen: set[Hashable] = set()
        for item in items:
            value = getattr(item, self.key)
            if value in seen:
                raise PydanticCustomError(
                    "duplicate", "two items have the {key} '{value}'", {"key": self.key, "value": value}
                )
            seen.add(value)
        return items


@dataclass(frozen=True, slots=True)
class OpenEnum:
    """Annotation of `Enum | str` in the status: a value that only a newer version has is read as text, not refused."""

    known: type[StrEnum]

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.union_schema(
            [handler.generate_schema(self.known), core_schema.str_schema()], mode="left_to_right"
        )

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return handler(cast("core_schema.UnionSchema", schema)["choices"][0])  # type: ignore[arg-type]


def argument(*names: str) -> dict[str, Any]:
    """Return the `json_schema_extra` of a field that sets these LLaMA-Factory arguments."""
    return {ARGUMENT: list(names)}


def arguments_of(field: FieldInfo) -> list[str]:
    """Return the LLaMA-Factory arguments that a field sets."""
    extra = field.json_schema_extra
    return cast("list[str]", extra.get(ARGUMENT, [])) if isinstance(extra, dict) else []


def exactly_one_of(*members: str, example: str) -> Rule:
    """Return the rule of a union: exactly one of the members (attribute names) is set."""
    names = [to_camel(member) for member in members]
    return Rule(
        cel=f"[{', '.join(f'has(self.{name})' for name in names)}].filter(x, x).size() == 1",
        message=f"set exactly one of {', '.join(names[:-1])} or {names[-1]}, for example {example}",
        check=lambda value: sum(getattr(value, member) is not None for member in members) == 1,
    )


class _Model(BaseModel):
    """What parts of the spec and of the status have in common."""

    def replace(self, **changes: Any) -> Self:
        """Return a copy with these fields changed, as `dataclasses.replace` does; values are not validated.

        Raises:
            TypeError: The model has no field of that name.
        """
        unknown = ", ".join(sorted(changes.keys() - type(self).model_fields.keys()))
        if unknown:
            raise TypeError(f"{type(self).__name__} has no field {unknown}")
        return self.model_copy(update=changes)


class ApiModel(_Model):
    """A part of the spec: immutable, camelCase in documents, unknown fields and lenient conversions refused."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
        extra="forbid",
        frozen=True,
        strict=True,
        allow_inf_nan=False,
    )

    rules: ClassVar[tuple[Rule, ...]] = ()

    @model_validator(mode="after")
    def _obey_rules(self, info: ValidationInfo) -> Self:
        for rule in self.rules:
            rule.apply(self, info)
        return self

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        result = handler(schema)
        if cls.rules:
            target = handler.resolve_ref_schema(result)
            target[VALIDATIONS] = [rule.as_validation(cls) for rule in cls.rules]
        return result

    def document(self) -> dict[str, Any]:
        """Return what was set, as it stands in a Kubernetes document (camelCase, JSON types, no defaults)."""
        return self.model_dump(mode="json", by_alias=True, exclude_unset=True, exclude_none=True)


class StatusModel(_Model):
    """A part of the status (or metadata): immutable, lenient, so that an older operator reads a newer one's status."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
        extra="ignore",
        frozen=True,
        allow_inf_nan=False,
    )

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, data: Any) -> Any:
        # Clients in Go write an empty list or map as null: a field that is null is a field that is absent.
        return {name: value for name, value in data.items() if value is not None} if isinstance(data, dict) else data

    def document(self) -> dict[str, Any]:
        """Return every known value, as it stands in a Kubernetes document (camelCase, JSON types, no nulls)."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


def _in_utc(moment: datetime) -> datetime:
    try:
        return moment.astimezone(UTC)
    except OverflowError as error:  # the API server takes 9999-12-31T23:59:59-12:00 for a time
        raise ValueError("the time is beyond the calendar in UTC") from error


def problem_text(details: Any, model: type[BaseModel]) -> str:
    """Return one of the problems that pydantic has found in a model as the field's path and what is wrong with it."""
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in details["loc"])
    path += details.get("ctx", {}).get("field", "") if details["type"] == "rule" else ""
    said = _no_field(model, details["loc"]) if details["type"] == "extra_forbidden" else details["msg"]
    return f"{path.removeprefix('.') or 'document'}: {said}"


def _no_field(model: type[BaseModel], path: Sequence[int | str]) -> str:
    """Say which field may have been meant by one that there is not, else which fields there are."""
    inner: type[BaseModel] | None = model
    for name in path[:-1]:
        if inner is not None and isinstance(name, str):
            field = _fields(inner).get(name) or inner.model_fields.get(name)
            inner = nested_model(field.annotation) if field else None
    there = list(_fields(inner)) if inner is not None else []
    if close := get_close_matches(str(path[-1]), there, n=1):
        return f"there is no such field; did you mean {close[0]}?"
    return f"there is no such field{'; there are ' if there else ''}{', '.join(there)}"


def _fields(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """The fields of a model by their names in documents."""
    return {field.serialization_alias or own: field for own, field in model.model_fields.items()}


def _rfc3339(moment: datetime) -> str:
    return f"{_in_utc(moment).replace(tzinfo=None).isoformat(timespec='seconds')}Z"


Time = Annotated[AwareDatetime, AfterValidator(_in_utc), PlainSerializer(_rfc3339, when_used="json")]
"""A moment, kept in UTC; written as Kubernetes writes it: RFC 3339, whole seconds."""


def nested_model(annotation: object) -> type[ApiModel] | type[StatusModel] | None:
    """Return the model within the annotation of a field, such as `Lora | None` or `list[Dataset]`."""
    if isinstance(annotation, type) and issubclass(annotation, (ApiModel, StatusModel)):
        return annotation
    return next((model for item in get_args(annotation) if (model := nested_model(item))), None)


def with_defaults(cel: str, model: type[BaseModel]) -> str:
    """Return an expression on the model with each `self.?a.?b.orDefault()` written out: `self.?a.?b.orValue(true)`.

    Raises:
        ValueError: a path names no field, or one that has no default.
    """
    return _OR_DEFAULT.sub(lambda found: f"{found['path']}.orValue({_default(model, found['path'])})", cel)


def _default(model: type[BaseModel], path: str) -> str:
    """The default of the field at a path as a CEL literal."""
    inner: type[BaseModel] | None = model
    for name in path.replace("?", "").split(".")[1:]:
        fields = _fields(inner) if inner else {}
        if name not in fields:
            raise ValueError(f"{path} in a rule of {model.__name__}: no field {name}")
        inner = nested_model(fields[name].annotation)
    default = fields[name].get_default()
    if default is None or default is PydanticUndefined:
        raise ValueError(f"{path} in a rule of {model.__name__}: the field has no default")
    return f"'{default}'" if isinstance(default, str) else json.dumps(default)
