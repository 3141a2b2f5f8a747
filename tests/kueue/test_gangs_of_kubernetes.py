"""Kubernetes' own gangs, behind gates that are off by default: a run's training is none with the gates on either.

API server and Job controller of the local cluster's binaries with these gates, and no node: what is looked at is what
the Job controller makes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from benchmarks.control_plane.plane import BENCH, free_port, local_binaries
from benchmarks.control_plane.programs import Program
from tests.chart.releases import Api, api_server, eventually
from tests.unit.operator.plan.builders import scene

from qwensft.api.v1alpha1 import Stage
from qwensft_operator.render import Defaults, stage_job

GATES = "--feature-gates=GenericWorkload=true,WorkloadWithJob=true"
NAMESPACE = "team"


@pytest.fixture(scope="module")
def gated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """An API server and a Job controller with the gates on."""
    directory = tmp_path_factory.mktemp("gates")
    with api_server(directory, (GATES, "--runtime-config=scheduling.k8s.io/v1beta1=true")) as api:
        command: list[str | Path] = [
            local_binaries() / "kube-controller-manager", "--controllers=job", GATES, "--leader-elect=false",
            f"--kubeconfig={api.plane.kubeconfig(BENCH)}", "--bind-address=127.0.0.1", f"--secure-port={free_port()}",
            f"--cert-dir={directory}",
        ]  # fmt: skip
        with Program("controllers", command, directory / "controllers.log", {}):
            api.kubectl("create", "namespace", NAMESPACE)
            yield api


def training(**metadata: Any) -> dict[str, Any]:
    """The Job of a training, as the operator makes it, with changes to its metadata."""
    job = stage_job(scene().job, Stage.TRAIN, 1, defaults=Defaults("trainer:1"))
    return job | {"metadata": job["metadata"] | metadata}


def groups_of_pods(api: Api, job: str) -> list[Any]:
    """The group that each pod of a Job names; None where it names none. Empty before both pods are there."""
    pods = api.items("pods", "-n", NAMESPACE, "-l", f"batch.kubernetes.io/job-name={job}")
    return [pod["spec"].get("schedulingGroup") for pod in pods] if len(pods) == 2 else []


def test_the_job_of_a_run_is_no_gang_of_kubernetes_and_one_without_an_owner_is(gated: Api) -> None:
    for job in (training(), training(name="orphan", ownerReferences=[])):
        gated.kubectl("create", "-f", "-", stdin=json.dumps(job))
    ours = training()["metadata"]["name"]
    assert eventually(lambda: groups_of_pods(gated, ours), "the pods of a training") == [None, None]
    assert None not in eventually(lambda: groups_of_pods(gated, "orphan"), "the pods of a Job without an owner")
    made_for = [one["metadata"]["ownerReferences"][0]["name"]
                for one in gated.items("podgroups.scheduling.k8s.io", "-n", NAMESPACE)]  # fmt: skip
    assert made_for == ["orphan"]
