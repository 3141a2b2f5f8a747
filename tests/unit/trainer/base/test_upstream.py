"""What stands for getattr in a checkpoint gives members of enumerations, and nothing else."""

import os
from enum import IntEnum

import pytest

from qwensft_trainer.base.upstream import _member


class Stage(IntEnum):
    WEIGHTS = 3


def test_a_member_is_found_by_its_name() -> None:
    assert _member(Stage, "WEIGHTS") is Stage.WEIGHTS


@pytest.mark.parametrize(("kind", "name"), [(os, "system"), (dict, "fromkeys"), (Stage.WEIGHTS, "to_bytes")])
def test_nothing_else_is_reached(kind: object, name: str) -> None:
    with pytest.raises(TypeError, match="is no enumeration"):
        _member(kind, name)


def test_what_an_enumeration_has_beside_its_members_is_not_reached() -> None:
    with pytest.raises(KeyError):
        _member(Stage, "__subclasses__")
