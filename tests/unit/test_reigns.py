"""The witness of who led when, of the tests with two operators, finds a write that the leader has not made."""

from typing import Any

import pytest
from tests.chaos.reigns import Reign, Write, reigns, writes


def lease(version: int, holder: str) -> dict[str, Any]:
    return {"metadata": {"resourceVersion": str(version)}, "spec": {"holderIdentity": holder}}


def event(change: str, version: int, **more: Any) -> dict[str, Any]:
    return {"type": change, "object": {"metadata": {"name": "run", "resourceVersion": str(version)}, **more}}


def test_a_reign_lasts_until_the_lease_says_otherwise_or_the_leader_is_dead() -> None:
    leases = [lease(10, "a"), lease(20, "a"), lease(30, ""), lease(32, "b"), lease(40, "b"), lease(50, "c")]
    assert reigns(leases, {"b": 44}) == [Reign("a", 10, 30), Reign("b", 32, 44), Reign("c", 50)]


@pytest.mark.parametrize(
    ("write", "covered"),
    [
        (Write(15, "in a's reign"), True),
        (Write(15, "of the one that leads", "a"), True),
        (Write(15, "of the one that stands by", "b"), False),
        (Write(31, "while nobody leads"), False),
        (Write(45, "of a dead leader, or of one that takes its office too soon", "b"), False),
        (Write(99, "of the last", "c"), True),
    ],
)
def test_a_write_belongs_to_the_reign_in_which_it_was_made(write: Write, covered: bool) -> None:
    found = [Reign("a", 10, 30), Reign("b", 32, 44), Reign("c", 50)]
    assert any(reign.covers(write) for reign in found) is covered


def test_what_only_operators_write_counts() -> None:
    told = {"reportingComponent": "qwen-sft-operator", "reportingInstance": "a"}
    found = [
        *writes("qwensftjobs", [event("ADDED", 1), event("MODIFIED", 2), event("DELETED", 3)]),
        *writes("jobs", [event("ADDED", 4), event("MODIFIED", 5)]),
        *writes("events", [event("ADDED", 6, **told), event("MODIFIED", 7, **told), event("DELETED", 8, **told)]),
        *writes("events", [event("ADDED", 9, reportingComponent="kubelet", reportingInstance="node")]),
    ]
    assert [(write.version, write.by) for write in found] == [(2, None), (4, None), (6, "a"), (7, "a")]
