"""What the digest of the editable fields is of: Jobs that wait must not be made anew because a release changes that."""

import pytest

from qwensft.api.v1alpha1 import Stage, comparable_digest, editable_digest
from qwensft.api.v1alpha1.immutability_rules import MUTABLE
from qwensft.api.v1alpha1.spec import SpecFields

SPEC = SpecFields.model_validate(
    {
        "model": {"name": "Qwen/Qwen3-8B"},
        "datasets": [{"name": "rows", "format": "alpaca", "source": {"huggingFace": {"repo": "org/rows"}}}],
        "storage": {"volume": {"claimTemplate": {"size": "100Gi"}}},
        "worker": {"nodeSelector": {"pool": "a"}},
        "prepare": {"retries": 3, "nodeSelector": {"pool": "b"}},
        "merge": {"enabled": True, "shardSizeGB": 5},
    }
)

OF_THE_WORKER = [
    "affinity",
    "caBundle",
    "imagePullPolicy",
    "imagePullSecrets",
    "jobAnnotations",
    "jobLabels",
    "nodeSelector",
    "podAnnotations",
    "podLabels",
    "priorityClassName",
    "resources",
    "runtimeClassName",
    "schedulerName",
    "serviceAccountName",
    "tolerations",
    "topologySpreadConstraints",
]


@pytest.mark.parametrize(
    ("stage", "digest"),
    [
        (Stage.PREPARE, "v1:3cfbaff80a67b4e7"),
        (Stage.TRAIN, "v1:7b7eabc560ee872c"),
        (Stage.MERGE, "v1:947ce03624c8b948"),
    ],
)
def test_what_goes_into_a_digest_changes_only_with_its_version(stage: Stage, digest: str) -> None:
    """When this fails, raise the version in editable.py, and write down here what it gives."""
    assert editable_digest(SPEC, stage) == digest
    assert sorted(path.removeprefix("worker.") for path in MUTABLE if path.startswith("worker.")) == OF_THE_WORKER


def test_the_queue_is_the_trainings_matter() -> None:
    queued = SPEC.replace(run_policy=SPEC.run_policy.replace(queue_name="gpus"))
    changed = {stage for stage in Stage if editable_digest(queued, stage) != editable_digest(SPEC, stage)}
    assert changed == {Stage.TRAIN}


def test_a_digest_of_this_version_is_comparable_and_no_other() -> None:
    digest = editable_digest(SPEC, Stage.TRAIN)
    assert comparable_digest(digest) == digest
    assert {comparable_digest(other) for other in ("", "0123456789abcdef", "v0:0123456789abcdef")} == {""}
