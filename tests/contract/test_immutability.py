"""What may change after creation, and what the apiserver says about the rest."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from qwensft.api.v1alpha1.immutability_rules import FIXED, MUTABLE

from .conftest import Jobs

HERE = Path(__file__).parent

# For each fixed part: a change of a part that is set, and setting one that is not, are refused in the same way.
CHANGES: dict[str, dict[str, Any]] = {
    "model": {"model": {"name": "Qwen/Qwen3-14B"}},
    "datasets": {"datasets": []},
    "evaluation": {"evaluation": {"everySteps": 50, "datasets": None, "fraction": 0.1}},
    "tuning": {"tuning": {"lora": {"rank": 32}}},
    "training": {"training": {"seed": 8}},
    "distribution": {"distribution": {"masterPort": 29502}},
    "storage": {"storage": {"onExisting": "Overwrite"}},
    "extraArguments": {"extraArguments": {"neftune_noise_alpha": "6"}},
    "worker.accelerator": {"worker": {"accelerator": {"count": 16}}},
    "worker.env": {"worker": {"env": [{"name": "NCCL_DEBUG", "value": "WARN"}]}},
    "worker.hostNetwork": {"worker": {"hostNetwork": False}},
    "worker.networkInterface": {"worker": {"networkInterface": "eth1"}},
    "worker.image": {"worker": {"image": "registry.example.com/another:1"}},
    "worker.securityContext": {"worker": {"securityContext": {"fsGroup": 1}}},
    "worker.sharedMemory": {"worker": {"sharedMemory": "1Gi"}},
}
ALLOWED: dict[str, dict[str, Any]] = {
    "merge": {"merge": {"path": "again", "dtype": "fp32"}},
    "prepare": {"prepare": {"retries": 0, "nodeSelector": {"zone": "b"}}},
    "runPolicy": {"runPolicy": {"suspend": False, "maxRestarts": 1, "retry": 2}},
    "worker.affinity": {"worker": {"affinity": {"nodeAffinity": {}}}},
    "worker.caBundle": {
        "worker": {"caBundle": {"secretKeyRef": {"name": "ca", "key": "pem"}, "configMapKeyRef": None}}
    },
    "worker.imagePullPolicy": {"worker": {"imagePullPolicy": "Always"}},
    "worker.imagePullSecrets": {"worker": {"imagePullSecrets": [{"name": "another"}]}},
    "worker.jobAnnotations": {"worker": {"jobAnnotations": {"example.com/a": "b"}}},
    "worker.jobLabels": {"worker": {"jobLabels": {"kueue.x-k8s.io/queue-name": "other"}}},
    "worker.nodeSelector": {"worker": {"nodeSelector": {"zone": "b"}}},
    "worker.podAnnotations": {"worker": {"podAnnotations": {"example.com/a": "b"}}},
    "worker.podLabels": {"worker": {"podLabels": {"team": "research"}}},
    "worker.priorityClassName": {"worker": {"priorityClassName": "low"}},
    "worker.resources": {"worker": {"resources": {"requests": {"cpu": 1}}}},
    "worker.runtimeClassName": {"worker": {"runtimeClassName": "another"}},
    "worker.schedulerName": {"worker": {"schedulerName": "another"}},
    "worker.serviceAccountName": {"worker": {"serviceAccountName": "another"}},
    "worker.tolerations": {"worker": {"tolerations": [{"operator": "Exists"}]}},
    "worker.topologySpreadConstraints": {"worker": {"topologySpreadConstraints": []}},
}


@pytest.fixture(scope="module")
def names(jobs: Jobs) -> list[str]:
    """Two stored jobs: one that says as much as possible, one that says as little as possible."""
    created = []
    for name in ("maximal", "minimal"):
        document = yaml.safe_load((HERE / "valid" / f"{name}.yaml").read_text(encoding="utf-8"))
        created.append(jobs.create(document)["metadata"]["name"])
    return created


@pytest.mark.parametrize("path", FIXED)
def test_a_fixed_part_can_neither_be_changed_nor_added(jobs: Jobs, names: list[str], path: str) -> None:
    change = CHANGES[path]
    if path == "datasets":
        (dataset,) = jobs.get(names[1])["spec"]["datasets"]
        change = {"datasets": [dataset | {"sampleCount": 1}]}
    for name in names:
        refusal = jobs.patch_refusal(name, {"spec": change})
        assert refusal is not None
        said = refusal.causes[f"spec.{path}"]
        assert f"{path} is fixed at creation" in said
        assert "create a new QwenSFTJob" in said


@pytest.mark.parametrize("path", [path for path in FIXED if path not in ("model", "datasets", "storage")])
def test_a_fixed_part_cannot_be_removed(jobs: Jobs, names: list[str], path: str) -> None:
    patch: dict[str, Any] = {"spec": {path: None}}
    if "." in path:
        block, field = path.split(".")
        patch = {"spec": {block: {field: None}}}
    refusal = jobs.patch_refusal(names[0], patch)
    assert refusal is not None
    assert f"{path} is fixed at creation" in refusal.causes[f"spec.{path}"]


@pytest.mark.parametrize("path", MUTABLE)
def test_a_mutable_part_can_be_changed_added_and_removed(jobs: Jobs, names: list[str], path: str) -> None:
    block, _, field = path.partition(".")
    removal = {block: {field: None} if field else None}
    for name in names:
        assert jobs.patch_refusal(name, {"spec": ALLOWED[path]}) is None
    assert jobs.patch_refusal(names[0], {"spec": removal}) is None


def test_applying_the_same_document_again_changes_nothing(jobs: Jobs, names: list[str]) -> None:
    for name in names:
        before = jobs.get(name)
        after = jobs.patch(name, {"spec": before["spec"]})
        assert (after["spec"], after["metadata"]["generation"]) == (before["spec"], 1)
