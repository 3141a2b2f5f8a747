"""What becomes of a job that trains on the adapter of another run: only prepare mounts that one's volume."""

from __future__ import annotations

from typing import Any

import pytest

from qwensft.api.v1alpha1 import QwenSFTJob, Stage, Status
from qwensft_operator.render import config_map

from .jobs import job, load, pod_spec, run

MODEL = {"name": "Qwen/Qwen3-8B", "adapter": {"run": {"name": "first"}}}
COPY = "/workspace/support-0f1e2d3c/data/adapter"
BEGUN = {
    "name": "first",
    "uid": "9a9a9a9a-1",
    "claimName": "runs",
    "path": "first-9a9a9a9a/train/2",
    "digest": f"sha256:{'ab' * 32}",
}


def second(**spec: Any) -> QwenSFTJob:
    """A run that has begun with the adapter of another."""
    return job(model=MODEL, **spec).replace(status=Status.model_validate({"adapterRun": BEGUN}))


@pytest.mark.parametrize("stage", Stage)
def test_every_stage_knows_the_adapter_and_the_base_is_as_the_spec_says(stage: Stage) -> None:
    written = load(config_map(second(), stage, 3)["data"]["run.yaml"])
    assert written["version"] == 4, "an image that does not know the adapter would train a new one"
    assert written["model"]["path"] == "/workspace/support-0f1e2d3c/model"
    assert written["model"]["adapter"] == {
        "name": "first",
        "uid": "9a9a9a9a-1",
        "digest": BEGUN["digest"],
        "path": "/adapter/first-9a9a9a9a/train/2",
    }


def test_the_training_begins_with_the_copy_and_the_merge_knows_nothing_of_it() -> None:
    for stage in (Stage.PREPARE, Stage.TRAIN):
        assert load(config_map(second(), stage, 3)["data"]["train.yaml"])["adapter_name_or_path"] == COPY
    assert "adapter_name_or_path" not in load(config_map(second(), Stage.MERGE, 3)["data"]["export.yaml"])


def test_the_other_volume_is_mounted_where_the_adapter_is_copied_and_nowhere_else() -> None:
    pod = pod_spec(second(), "prepare")
    assert {"name": "adapter", "persistentVolumeClaim": {"claimName": "runs"}} in pod["volumes"]
    assert {"name": "adapter", "mountPath": "/adapter", "readOnly": True} in pod["containers"][0]["volumeMounts"]
    for stage in ("train", "merge"):
        assert "runs" not in str(pod_spec(second(), stage)["volumes"])


def test_before_the_choice_the_places_are_those_by_default() -> None:
    written = run(model=MODEL)["model"]["adapter"]
    assert written["path"] == "/adapter/first-UID-OF-THE-RUN/train/1"
    assert (written["uid"], written["digest"]) == ("UID-OF-THE-RUN", "DIGEST-OF-ITS-ADAPTER")


def test_a_status_without_a_field_in_the_spec_mounts_nothing() -> None:
    observed = job().replace(status=Status.model_validate({"adapterRun": BEGUN}))
    assert "runs" not in str(pod_spec(observed, "prepare")["volumes"])
    assert "adapter" not in load(config_map(observed, Stage.TRAIN, 1)["data"]["run.yaml"])["model"]
