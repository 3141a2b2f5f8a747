"""Defaults in CEL: written from the fields, and nowhere copied."""

import re
from collections.abc import Iterator

import pytest
from pydantic import Field

from qwensft.api.v1alpha1 import ApiModel, QwenSFTJob, StatusModel
from qwensft.api.v1alpha1.base import nested_model, with_defaults

COPIED = re.compile(r"(?P<path>self(?:\.\??\w+)+)\.orValue\(")


class Inner(ApiModel):
    method: str = Field("lora")
    bits: int = Field(4)
    ratio: float = Field(0.5)
    ends: int | None = Field(None)


class Outer(ApiModel):
    required: Inner
    may_be_absent: Inner | None = Field(None)
    packing: bool = Field(False)
    extra: dict[str, str] = Field({})


@pytest.mark.parametrize(
    ("cel", "written"),
    [
        ("!self.?packing.orDefault()", "!self.?packing.orValue(false)"),
        ("self.?mayBeAbsent.?method.orDefault() == 'x'", "self.?mayBeAbsent.?method.orValue('lora') == 'x'"),
        ("self.required.?bits.orDefault() > 0", "self.required.?bits.orValue(4) > 0"),
        ("self.required.?ratio.orDefault() > 0", "self.required.?ratio.orValue(0.5) > 0"),
        ("'a' in self.?extra.orDefault()", "'a' in self.?extra.orValue({})"),
        ("has(self.packing)", "has(self.packing)"),
    ],
)
def test_a_default_is_written_from_its_field(cel: str, written: str) -> None:
    assert with_defaults(cel, Outer) == written


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("self.?packaging", "no field packaging"),
        ("self.?packing.?x", "no field x"),
        ("self.?mayBeAbsent.?ends", "no default"),
        ("self.?required", "no default"),
    ],
)
def test_a_path_without_a_default_is_refused(path: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        with_defaults(f"{path}.orDefault()", Outer)


def test_no_rule_copies_the_default_of_a_field() -> None:
    copies = []
    for model in {*models(QwenSFTJob)}:
        for rule in getattr(model, "rules", ()):
            for path in COPIED.findall(rule.cel):
                try:
                    with_defaults(f"{path}.orDefault()", model)
                    copies.append(f"{model.__name__}: {path}")
                except ValueError:
                    pass
    assert copies == []


def models(model: type[ApiModel | StatusModel]) -> Iterator[type[ApiModel | StatusModel]]:
    yield model
    for field in model.model_fields.values():
        if nested := nested_model(field.annotation):
            yield from models(nested)
