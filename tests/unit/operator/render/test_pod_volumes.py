"""The volumes of the pods of each stage: what is mounted where, and what may be written."""

from __future__ import annotations

from typing import Any

import pytest

from qwensft.api.v1alpha1 import Stage

from .jobs import STAGES, container, environment, job, pod_spec

EVERYTHING = "every-worker-field"
SOURCES = "every-source"


def mounts(case: str, stage: str) -> dict[str, bool]:
    """Path -> whether it is read-only."""
    return {m["mountPath"]: m["readOnly"] for m in container(job(case), stage)["volumeMounts"]}


def volumes(case: str, stage: str) -> dict[str, dict[str, Any]]:
    """Path -> the volume that is mounted there."""
    sources = {v["name"]: v for v in pod_spec(job(case), stage)["volumes"]}
    return {m["mountPath"]: sources[m["name"]] for m in container(job(case), stage)["volumeMounts"]}


@pytest.mark.parametrize("stage", STAGES)
def test_only_workspace_and_scratch_can_be_written_to(stage: Stage) -> None:
    writable = {path for path, read_only in mounts("model-and-data-on-a-volume", stage).items() if not read_only}
    assert writable == {"/workspace", "/tmp"} | ({"/dev/shm"} if stage == "train" else set())  # noqa: S108


def test_only_prepare_sees_the_datasets() -> None:
    seen = {stage: {p for p in mounts("model-and-data-on-a-volume", stage) if "/datasets/" in p} for stage in STAGES}
    assert seen == {"prepare": {"/datasets/chats", "/datasets/support"}, "train": set(), "merge": set()}


def test_every_stage_sees_a_model_on_a_volume() -> None:
    assert all("/model" in mounts("model-and-data-on-a-volume", stage) for stage in STAGES)
    assert not any("/model" in mounts("lora-1-gpu-hub", stage) for stage in STAGES)


def test_a_claim_that_is_used_twice_is_one_volume() -> None:
    seen = volumes("model-and-data-on-a-volume", "prepare")
    assert seen["/model"] is seen["/datasets/chats"]
    names = [v["name"] for v in pod_spec(job("model-and-data-on-a-volume"), "prepare")["volumes"]]
    assert len(names) == len(set(names)) == 5


def test_a_config_map_dataset_is_mounted_as_one_file() -> None:
    source = volumes("lora-1-gpu-hub", "prepare")["/datasets/support"]["configMap"]
    assert source == {"name": "rows", "items": [{"key": "rows.json", "path": "rows.json"}]}


def test_the_pod_reads_the_config_map_of_its_attempt() -> None:
    (config,) = [v for v in pod_spec(job(), "train", attempt=7)["volumes"] if v["name"] == "config"]
    assert config["configMap"] == {"name": "support-train-7"}


def test_a_model_in_an_image_is_mounted_as_such() -> None:
    model = {"name": "Qwen/Qwen3-8B", "source": {"image": {"reference": "registry.example/qwen3:1", "path": "q"}}}
    for stage in STAGES:
        spec = pod_spec(job(model=model), stage)
        (volume,) = [v for v in spec["volumes"] if v["name"] == "model"]
        assert volume == {"name": "model", "image": {"reference": "registry.example/qwen3:1"}}
    model["source"]["image"]["pullPolicy"] = "Always"  # type: ignore[index]
    assert {"name": "model", "image": {"reference": "registry.example/qwen3:1", "pullPolicy": "Always"}} in pod_spec(
        job(model=model), "train"
    )["volumes"]


def test_every_stage_sees_the_cache_and_prepare_alone_writes_to_it() -> None:
    assert [mounts(SOURCES, stage)["/cache"] for stage in STAGES] == [False, True, True]
    assert volumes(SOURCES, "train")["/cache"]["persistentVolumeClaim"] == {"claimName": "models"}


def test_a_run_on_the_claim_of_its_cache_has_one_volume_of_it() -> None:
    rendered = job(SOURCES, storage={"volume": {"claimName": "models"}})
    claims = [v for v in pod_spec(rendered, "train")["volumes"] if "persistentVolumeClaim" in v]
    assert [v["name"] for v in claims] == ["workspace"]


def test_evaluation_sets_are_mounted_like_training_sets() -> None:
    assert volumes(SOURCES, "prepare")["/datasets/held-out"]["configMap"]["name"] == "rows"


def test_only_prepare_sees_credentials_of_datasets() -> None:
    seen = {stage: {p for p in mounts(SOURCES, stage) if p.startswith("/secrets/")} for stage in STAGES}
    wanted = {"/secrets/huggingface-private", "/secrets/url-private"}
    assert seen == {"prepare": wanted, "train": set(), "merge": set()}


def test_a_token_is_a_file_and_other_credentials_keep_their_names() -> None:
    seen = volumes(SOURCES, "prepare")
    assert seen["/secrets/huggingface-private"]["secret"] == {
        "secretName": "hub",
        "items": [{"key": "token", "path": "token"}],
        "defaultMode": 0o440,
    }
    assert seen["/secrets/url-private"]["secret"] == {"secretName": "s3", "defaultMode": 0o440}


def test_prepare_alone_reads_the_users_deepspeed_configuration() -> None:
    own = volumes(SOURCES, "prepare")["/etc/qwensft-deepspeed"]["configMap"]
    assert own == {"name": "zero", "items": [{"key": "own.json", "path": "own.json"}]}
    assert "/etc/qwensft-deepspeed" not in mounts(SOURCES, "train")


@pytest.mark.parametrize("stage", STAGES)
def test_no_two_volumes_share_a_name_or_a_place(stage: Stage) -> None:
    spec = pod_spec(job(SOURCES), stage)
    names = [v["name"] for v in spec["volumes"]]
    places = [m["mountPath"] for m in container(job(SOURCES), stage)["volumeMounts"]]
    assert len(names) == len(set(names))
    assert len(places) == len(set(places))


def test_shared_memory_is_bounded_by_the_pods_limit_unless_a_size_is_given() -> None:
    assert volumes("lora-1-gpu-hub", "train")["/dev/shm"]["emptyDir"] == {"medium": "Memory"}  # noqa: S108
    assert volumes(EVERYTHING, "train")["/dev/shm"]["emptyDir"] == {"medium": "Memory", "sizeLimit": "16Gi"}  # noqa: S108


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_trusts_the_users_authorities(stage: Stage) -> None:
    assert volumes(EVERYTHING, stage)["/etc/qwensft-ca"]["configMap"] == {
        "name": "company-ca",
        "items": [{"key": "bundle.pem", "path": "ca.crt"}],
    }
    assert environment(job(EVERYTHING), stage)["QWENSFT_CA_BUNDLE"] == "/etc/qwensft-ca/ca.crt"
    assert "QWENSFT_CA_BUNDLE" not in environment(job(), stage)


def test_the_users_authorities_may_stand_in_a_secret() -> None:
    bundle = {"secretKeyRef": {"name": "company-ca", "key": "bundle.pem"}}
    source = next(v for v in pod_spec(job(worker={"caBundle": bundle}), "train")["volumes"] if v["name"] == "ca-bundle")
    assert source["secret"] == {"secretName": "company-ca", "items": [{"key": "bundle.pem", "path": "ca.crt"}]}


def test_credentials_of_trackers_are_files_where_a_run_is_prepared_and_trained() -> None:
    for stage in ("prepare", "train"):
        seen = volumes("trackers", stage)
        assert seen["/etc/qwensft-trackers/mlflow"]["secret"] == {"secretName": "mlflow", "defaultMode": 0o440}
        assert seen["/etc/qwensft-trackers/wandb"]["secret"] == {
            "secretName": "wandb", "items": [{"key": "api-key", "path": "WANDB_API_KEY"}], "defaultMode": 0o440,
        }  # fmt: skip
        assert not {"WANDB_API_KEY", "MLFLOW_TRACKING_TOKEN"} & environment(job("trackers"), stage).keys()
    assert not any("trackers" in path for path in mounts("trackers", "merge"))
