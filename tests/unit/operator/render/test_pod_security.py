"""Pods meet the `restricted` Pod Security Standard, and the checker that says so can fail."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from qwensft.api.v1alpha1 import Stage

from .jobs import EXAMPLES, RESTRICTED, STAGES, example, job, pod_spec
from .pod_security import violations

EVERYTHING = "every-worker-field"
RDMA = "host-network-and-rdma"


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("case", RESTRICTED)
def test_every_pod_meets_the_restricted_standard(case: str, stage: Stage) -> None:
    assert violations(pod_spec(job(case), stage)) == []


def test_every_example_runs_under_the_restricted_standard() -> None:
    refused = {name for name in EXAMPLES for stage in STAGES if violations(pod_spec(example(name), stage))}
    assert refused == set()


def test_only_training_pods_leave_the_restricted_standard_when_asked_to() -> None:
    objections = {stage: violations(pod_spec(job(RDMA), stage)) for stage in STAGES}
    assert objections == {"prepare": [], "train": ["hostNetwork is set"], "merge": []}


@pytest.mark.parametrize("stage", STAGES)
def test_no_pod_holds_credentials_of_the_cluster(stage: Stage) -> None:
    assert pod_spec(job(EVERYTHING), stage)["automountServiceAccountToken"] is False


def test_the_user_chooses_ids_and_nothing_else() -> None:
    assert pod_spec(job(EVERYTHING), "train")["securityContext"] == {
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
        "fsGroupChangePolicy": "OnRootMismatch",
        "runAsUser": 1000,
        "runAsGroup": 2000,
        "fsGroup": 3000,
        "supplementalGroups": [4000],
    }


def test_ids_can_be_left_to_the_cluster() -> None:
    left = pod_spec(job(worker={"securityContext": {"assignIds": False}}), "train")
    assert violations(left) == []
    assert left["securityContext"] == {
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
        "fsGroupChangePolicy": "OnRootMismatch",
    }
    chosen = pod_spec(job(worker={"securityContext": {"assignIds": False, "fsGroup": 7}}), "train")["securityContext"]
    assert (chosen["fsGroup"], "runAsUser" in chosen) == (7, False)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("hostNetwork",), True),
        (("volumes", 0, "hostPath"), {"path": "/"}),
        (("securityContext", "runAsUser"), 0),
        (("securityContext", "runAsNonRoot"), False),
        (("securityContext", "seccompProfile"), {"type": "Unconfined"}),
        (("securityContext", "sysctls"), [{"name": "kernel.msgmax", "value": "1"}]),
        (("securityContext", "seLinuxOptions"), {"type": "spc_t"}),
        (("securityContext", "appArmorProfile"), {"type": "Unconfined"}),
        (("containers", 0, "securityContext", "privileged"), True),
        (("containers", 0, "securityContext", "procMount"), "Unmasked"),
        (("containers", 0, "securityContext", "allowPrivilegeEscalation"), None),
        (("containers", 0, "securityContext", "capabilities"), {"drop": ["NET_RAW"]}),
        (("containers", 0, "securityContext", "capabilities"), {"drop": ["ALL"], "add": ["SYS_ADMIN"]}),
        (("containers", 0, "securityContext", "runAsUser"), 0),
        (("containers", 0, "securityContext", "windowsOptions"), {"hostProcess": True}),
        (("containers", 0, "ports"), [{"containerPort": 1, "hostPort": 1}]),
    ],
)
def test_the_checker_of_the_standard_can_fail(path: tuple[str | int, ...], value: object) -> None:
    spec = copy.deepcopy(pod_spec(job(), "train"))
    place: Any = spec
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    assert violations(spec) != []
