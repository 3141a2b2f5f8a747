"""The differences that golden files hold: readable, and complete."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from .differences import differences

_SCALARS = st.sampled_from([None, False, True, 0, 1, 1.0, "1", "x"])
_KEYS = st.sampled_from(["name", "a", "b", "a.b", "c/d"])
_VALUES = st.recursive(
    _SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=3), max_leaves=6
)
_NAMED = st.lists(
    st.fixed_dictionaries({"name": st.sampled_from("pqr")}, optional={"value": _VALUES}),
    max_size=3,
    unique_by=lambda item: str(item["name"]),
)
_SPECS = st.dictionaries(_KEYS, _VALUES | _NAMED, max_size=4)


def service(spec: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"kind": "Service", "metadata": {"labels": {}}, "spec": spec}]


def config_map(stage: str, text: str) -> dict[str, Any]:
    return {"kind": "ConfigMap", "metadata": {"labels": {"qwensft.io/stage": stage}}, "data": {"run.yaml": text}}


def test_each_value_that_differs_has_a_line() -> None:
    old = service({"gone": {"a": 1}, "kept": 0, "port": 1, "env": [{"name": "A", "value": "1"}, {"name": "B"}]})
    new = service(
        {"kept": 0, "port": "1", "env": [{"name": "C", "value": "3"}, {"name": "A", "value": "2"}], "a/b": {}}
    )
    assert differences(old, new).splitlines() == [
        "Service",
        "- spec.gone",
        "- spec.port: 1",
        '+ spec.port: "1"',
        '- spec.env[A].value: "1"',
        '+ spec.env[A].value: "2"',
        "- spec.env[B]",
        '+ spec.env[C].value: "3"',
        "+ spec.env in this order: C, A",
        '+ spec["a/b"]: {}',
    ]


def test_objects_that_differ_alike_share_their_lines() -> None:
    old = [config_map(stage, "seed: 1\n") for stage in ("prepare", "train", "merge")]
    new = [config_map(stage, f"seed: {seed}\n") for stage, seed in (("prepare", 2), ("train", 2), ("merge", 3))]
    assert differences(old, new).splitlines() == [
        "ConfigMap prepare, ConfigMap train",
        '- data["run.yaml"].seed: 1',
        '+ data["run.yaml"].seed: 2',
        "",
        "ConfigMap merge",
        '- data["run.yaml"].seed: 1',
        '+ data["run.yaml"].seed: 3',
    ]


@given(old=_SPECS, new=_SPECS, other=_SPECS)
def test_other_documents_differ_by_other_lines(old: dict[str, Any], new: dict[str, Any], other: dict[str, Any]) -> None:
    """So that comparing the differences compares the documents."""
    same = json.dumps(new, sort_keys=True) == json.dumps(other, sort_keys=True)
    assert (differences(service(old), service(new)) == differences(service(old), service(other))) == same
