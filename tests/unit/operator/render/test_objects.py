"""Jobs, ConfigMaps, Service and claim: names, owners, and the semantics that the operator relies on."""

from __future__ import annotations

from typing import Any

import pytest

from qwensft.api.v1alpha1 import METRICS_PORT, QwenSFTJob, Stage
from qwensft_operator.plan.run import Run
from qwensft_operator.plan.types import Observed
from qwensft_operator.render import child_name, claim, config_map, oversize, service, stage_job

from .jobs import DEFAULTS, SPECS, STAGES, UID, job, manifests

LONGEST = "a" * 45
HOST_NAME_LIMIT = 63


def rendered_job(stage: str, attempt: int = 1, **spec: Any) -> dict[str, Any]:
    manifest: dict[str, Any] = stage_job(job(**spec), Stage(stage), attempt, defaults=DEFAULTS)["spec"]
    return manifest


# Names.


@pytest.mark.parametrize("attempt", [1, 10, 999])
def test_the_longest_name_still_gives_names_that_kubernetes_takes(attempt: int) -> None:
    longest = job(name=LONGEST)
    names = [m["metadata"]["name"] for m in manifests(longest, attempt)]
    assert max(map(len, names)) <= HOST_NAME_LIMIT
    host = f"{child_name(longest, Stage.TRAIN, attempt)}-{1023}"  # spec.distribution.nodes is at most 1024
    assert len(host) <= HOST_NAME_LIMIT


@pytest.mark.parametrize("stage", list(Stage))
def test_plan_and_render_name_a_child_alike(stage: Stage) -> None:
    run = Run(Observed(job=job()))
    assert run.child_name(stage, 4) == child_name(job(), stage, 4) == f"support-{stage}-4"


@pytest.mark.parametrize("stage", STAGES)
def test_a_job_and_its_config_map_share_a_name(stage: Stage) -> None:
    made = stage_job(job(), stage, 2, defaults=DEFAULTS)
    assert made["metadata"]["name"] == config_map(job(), stage, 2)["metadata"]["name"]


def test_files_that_no_config_map_takes_are_told_with_what_to_shorten() -> None:
    """Of all fields together: each is as long as it may be."""
    source = {"url": {"url": "s3://b/" + "支" * 2000}}
    sets = [
        {"name": f"d{number}", "format": "alpaca", "source": source, "ignore": [f"{name:0128}" for name in range(32)]}
        for number in range(32)
    ]
    assert oversize(config_map(job(datasets=sets), Stage.PREPARE, 1)) is None
    longest = [each | {"ignore": ["\U000e0001" * 126 + f"{name:02}" for name in range(32)]} for each in sets]
    made = config_map(job(datasets=longest), Stage.PREPARE, 1)
    assert "spec.datasets" in str(oversize(made))


def test_labels_fit_their_limit() -> None:
    for manifest in manifests(job(name=LONGEST), 999):
        assert all(len(value) <= HOST_NAME_LIMIT for value in manifest["metadata"]["labels"].values())


@pytest.mark.parametrize("case", SPECS)
def test_nothing_claims_to_come_from_an_application_of_the_jobs_name(case: str) -> None:
    """Argo CD takes app.kubernetes.io/instance for its own mark, and prunes what carries it and is not in Git."""
    made = manifests(job(case))
    pods = [m["spec"]["template"] for m in made if m["kind"] == "Job"]
    assert pods
    assert not any("app.kubernetes.io/instance" in m["metadata"]["labels"] for m in (*made, *pods))


# Owners.


def owners(manifest: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = manifest["metadata"].get("ownerReferences", [])
    return found


@pytest.mark.parametrize("case", SPECS)
def test_what_is_owned_names_the_run_and_blocks_no_deletion(case: str) -> None:
    owned = [m for m in manifests(job(case)) if m["kind"] != "PersistentVolumeClaim"]
    expected = {
        "apiVersion": "qwensft.io/v1alpha1",
        "kind": "QwenSFTJob",
        "name": "support",
        "uid": UID,
        "controller": True,
    }
    assert all(owners(m) == [expected] for m in owned)


def test_a_claim_outlives_its_run_unless_it_is_not_to_be_retained() -> None:
    assert owners(claim(job("lora-1-gpu-hub"))) == []
    assert len(owners(claim(job("lora-2-nodes-cpu")))) == 1


def test_a_retained_claim_still_tells_whose_it_is() -> None:
    assert claim(job())["metadata"]["labels"]["qwensft.io/job"] == "support"


@pytest.mark.parametrize("case", SPECS)
def test_all_that_goes_with_a_run_carries_its_uid_and_what_outlives_it_does_not(case: str) -> None:
    for made in manifests(job(case)):
        assert made["metadata"]["labels"].get("qwensft.io/job-uid") == (UID if owners(made) else None)
        if made["kind"] == "Job":
            assert made["spec"]["template"]["metadata"]["labels"]["qwensft.io/job-uid"] == UID


def test_a_claim_that_outlives_its_run_is_kept_by_argo_cd_too() -> None:
    kept = claim(job("lora-1-gpu-hub"))["metadata"]["annotations"]["argocd.argoproj.io/sync-options"]
    assert set(kept.split(",")) == {"Prune=false", "Delete=false"}
    assert "annotations" not in claim(job("lora-2-nodes-cpu"))["metadata"]


def test_an_existing_claim_is_never_rendered() -> None:
    with pytest.raises(ValueError, match="existing claim"):
        claim(job("model-and-data-on-a-volume"))


def test_a_claim_asks_for_what_the_template_says() -> None:
    template = {"size": "1.5Ti", "storageClassName": "fast", "accessModes": ["ReadWriteOncePod"]}
    spec = claim(job(storage={"volume": {"claimTemplate": template}}))["spec"]
    assert spec == {
        "accessModes": ["ReadWriteOncePod"],
        "resources": {"requests": {"storage": "1.5Ti"}},
        "storageClassName": "fast",
    }


def test_a_claim_without_a_class_takes_the_clusters_default() -> None:
    assert "storageClassName" not in claim(job())["spec"]


# Jobs.


def test_a_training_is_one_indexed_gang() -> None:
    spec = rendered_job("train", distribution={"nodes": 4}, merge={"enabled": False})
    assert (spec["completionMode"], spec["completions"], spec["parallelism"]) == ("Indexed", 4, 4)


@pytest.mark.parametrize("stage", ["prepare", "merge"])
def test_the_other_stages_are_one_pod(stage: str) -> None:
    spec = rendered_job(stage, distribution={"nodes": 4})
    assert (spec["completionMode"], spec["completions"], spec["parallelism"]) == ("NonIndexed", 1, 1)


@pytest.mark.parametrize("stage", STAGES)
def test_kubernetes_never_restarts_anything_itself(stage: Stage) -> None:
    spec = rendered_job(stage)
    assert (spec["backoffLimit"], spec["podReplacementPolicy"]) == (0, "Failed")
    assert spec["template"]["spec"]["restartPolicy"] == "Never"
    assert "ttlSecondsAfterFinished" not in spec
    assert "suspend" not in spec


@pytest.mark.parametrize("stage", STAGES)
def test_exit_code_78_and_disruptions_fail_the_job_at_once(stage: Stage) -> None:
    assert rendered_job(stage)["podFailurePolicy"]["rules"] == [
        {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [78]}},
        {"action": "FailJob", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
    ]


def test_only_prepare_has_a_deadline_of_its_own() -> None:
    prepare = {"activeDeadlineSeconds": 3600}
    assert [rendered_job(s, prepare=prepare).get("activeDeadlineSeconds") for s in STAGES] == [3600, None, None]


def test_a_training_pod_has_time_to_save_a_checkpoint() -> None:
    graces = [rendered_job(s)["template"]["spec"]["terminationGracePeriodSeconds"] for s in STAGES]
    assert graces == [30, 300, 30]


def test_a_pod_that_cannot_report_leaves_the_end_of_its_log() -> None:
    (trainer,) = rendered_job("train")["template"]["spec"]["containers"]
    assert (trainer["name"], trainer["args"]) == ("trainer", ["train"])
    assert trainer["terminationMessagePolicy"] == "FallbackToLogsOnError"


# Service.


def test_the_service_names_pods_that_are_not_ready_yet() -> None:
    spec = service(job())["spec"]
    assert (spec["clusterIP"], spec["publishNotReadyAddresses"]) == ("None", True)
    assert {port["port"] for port in spec["ports"]} == {29500, METRICS_PORT}


def test_the_service_selects_the_training_pods_of_every_attempt() -> None:
    selector = service(job())["spec"]["selector"]
    for attempt in (1, 2):
        assert selector.items() <= pod_labels("train", attempt).items()
    assert not selector.items() <= pod_labels("prepare", 1).items()


def test_the_subdomain_of_training_pods_is_the_service() -> None:
    spec = rendered_job("train")["template"]["spec"]
    assert spec["subdomain"] == service(job())["metadata"]["name"]
    assert "subdomain" not in rendered_job("merge")["template"]["spec"]


def test_two_runs_of_one_name_have_no_pod_in_common_with_the_others_service() -> None:
    other = job().replace(metadata=job().metadata.replace(uid="another"))
    assert not service(other)["spec"]["selector"].items() <= pod_labels("train", 1).items()


def test_pods_that_began_without_the_uid_are_found_by_a_service_without_it() -> None:
    older = {key: value for key, value in pod_labels("train", 1).items() if key != "qwensft.io/job-uid"}
    made = service(job(), by_uid=False)
    assert made["spec"]["selector"].items() <= older.items()
    assert "qwensft.io/job-uid" not in made["metadata"]["labels"], "the next attempt would take it for a new one"


def pod_labels(stage: str, attempt: int) -> dict[str, str]:
    labels: dict[str, str] = rendered_job(stage, attempt)["template"]["metadata"]["labels"]
    return labels


# ConfigMaps.


@pytest.mark.parametrize("stage", STAGES)
def test_a_config_map_never_changes(stage: Stage) -> None:
    assert config_map(job(), stage, 1)["immutable"] is True


@pytest.mark.parametrize("case", SPECS)
def test_every_attempt_trains_by_the_same_configuration(case: str) -> None:
    first, second = (config_map(job(case), Stage.TRAIN, attempt)["data"] for attempt in (1, 2))
    assert first == second


def test_prepare_tokenises_what_training_reads() -> None:
    rendered: QwenSFTJob = job("model-and-data-on-a-volume")
    assert config_map(rendered, Stage.PREPARE, 1)["data"] == config_map(rendered, Stage.TRAIN, 1)["data"]


def test_rendering_twice_gives_the_same() -> None:
    assert manifests(job()) == manifests(job())
