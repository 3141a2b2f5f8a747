"""The pods of each stage: environment, resources, identity and network."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from qwensft.api.v1alpha1 import LABEL_QUEUE, LABEL_QUEUE_PRIORITY, Stage, editable_digest, parse_worker_defaults
from qwensft_operator.render import stage_job

from .jobs import DEFAULTS, SPECS, STAGES, container, environment, job, pod_spec

EVERYTHING = "every-worker-field"
SOURCES = "every-source"
RDMA = "host-network-and-rdma"
NOT_TO_BE_MOVED = {"cluster-autoscaler.kubernetes.io/safe-to-evict": "false", "karpenter.sh/do-not-disrupt": "true"}


# Environment.


def test_training_pods_know_exactly_what_torchrun_needs() -> None:
    assert environment(job("lora-2-nodes-cpu"), "train", attempt=3) == {
        "QWENSFT_STAGE": "train",
        "QWENSFT_ATTEMPT": "3",
        "QWENSFT_POD_UID": {"fieldRef": {"fieldPath": "metadata.uid"}},
        "NNODES": "2",
        "NODE_RANK": {"fieldRef": {"fieldPath": "metadata.annotations['batch.kubernetes.io/job-completion-index']"}},
        "NPROC_PER_NODE": "1",
        "MASTER_ADDR": "support-train-3-0.support-train",
        "MASTER_PORT": "29400",
    }


@pytest.mark.parametrize("stage", ["prepare", "merge"])
def test_other_pods_know_only_their_stage_and_attempt(stage: str) -> None:
    assert environment(job("lora-2-nodes-cpu"), stage) == {"QWENSFT_STAGE": stage, "QWENSFT_ATTEMPT": "1"}


def test_link_local_services_are_told_by_the_installation_alone_to_pods_that_download() -> None:
    defaults = replace(DEFAULTS, link_local_services=("169.254.0.47", "169.254.0.48"))
    told = {}
    for stage in STAGES:
        (pod,) = stage_job(job(), stage, 1, defaults=defaults)["spec"]["template"]["spec"]["containers"]
        told[stage] = [
            variable["value"] for variable in pod["env"] if variable["name"] == "QWENSFT_LINK_LOCAL_SERVICES"
        ]
    assert told == {Stage.PREPARE: ["169.254.0.47,169.254.0.48"], Stage.TRAIN: [], Stage.MERGE: []}


@pytest.mark.parametrize(
    ("worker", "processes", "expected"), [({"count": 8}, None, "8"), ({"count": 8}, 2, "2"), ({"count": 0}, None, "1")]
)
def test_each_accelerator_gets_a_process(worker: dict[str, int], processes: int | None, expected: str) -> None:
    distribution = {} if processes is None else {"processesPerNode": processes}
    rendered = job(worker={"accelerator": worker}, distribution=distribution, training={"precision": "bf16"})
    assert environment(rendered, "train")["NPROC_PER_NODE"] == expected


@pytest.mark.parametrize(("hub", "name"), [("huggingFace", "HF_TOKEN"), ("modelScope", "MODELSCOPE_API_TOKEN")])
def test_only_prepare_sees_the_hubs_token(hub: str, name: str) -> None:
    source = {hub: {"tokenSecretRef": {"name": "hub", "key": "token"}}}
    rendered = job(model={"name": "Qwen/Qwen3-8B", "source": source})
    assert environment(rendered, "prepare")[name] == {"secretKeyRef": {"name": "hub", "key": "token"}}
    assert not any(name in environment(rendered, stage) for stage in ("train", "merge"))


@pytest.mark.parametrize("stage", STAGES)
def test_the_operators_variables_stand_after_the_users(stage: Stage) -> None:
    names = [e["name"] for e in container(job(EVERYTHING), stage)["env"]]
    assert names[:4] == ["NCCL_DEBUG", "WANDB_API_KEY", "QWENSFT_STAGE", "QWENSFT_ATTEMPT"]


# Resources and placement.


def test_quantities_reach_the_pod_as_they_were_written() -> None:
    assert container(job(EVERYTHING), "train")["resources"] == {
        "requests": {"cpu": "1500m", "memory": "0.5Ti"},
        "limits": {"memory": "1e12", "rdma/hca": "1", "amd.com/gpu": "4"},
    }


def test_a_training_on_cpus_asks_for_no_device() -> None:
    assert container(job("lora-2-nodes-cpu"), "train")["resources"] == {"requests": {"cpu": "1", "memory": "2Gi"}}


def test_preparing_never_holds_an_accelerator() -> None:
    assert container(job(EVERYTHING), "prepare")["resources"] == {"requests": {"cpu": "4"}}
    inherited = container(job("full-1-node-2-gpus"), "prepare")["resources"]
    assert inherited == {"requests": {"memory": "8Gi"}, "limits": {"memory": "128Gi"}}


def test_a_merge_asks_for_what_streaming_and_its_verification_need() -> None:
    worker = {"resources": {"limits": {"memory": "64Gi"}}}
    assert container(job(), "merge")["resources"] == {"requests": {"cpu": "1", "memory": "8Gi"}}
    tensors = container(job(worker=worker, merge={"verify": "tensors"}), "merge")["resources"]["requests"]
    assert tensors == {"cpu": "1", "memory": "7Gi"}
    assert container(job(EVERYTHING), "merge")["resources"] == {"limits": {"memory": "32Gi"}}


@pytest.mark.parametrize(("limit", "taken"), [("64Gi", {"memory": "64Gi"}), ("4Gi", None)])
def test_a_merge_may_take_as_much_memory_as_a_worker(limit: str, taken: Any) -> None:
    worker = {"resources": {"limits": {"memory": limit}}}
    assert container(job(worker=worker), "merge")["resources"].get("limits") == taken


def test_a_merge_by_llamafactory_takes_the_workers_resources_without_the_accelerator() -> None:
    worker = {"resources": {"limits": {"memory": "64Gi"}}}
    merge = {"engine": "llamafactory"}
    assert container(job(worker=worker, merge=merge), "merge")["resources"] == {"limits": {"memory": "64Gi"}}


def test_a_merge_on_the_accelerator_asks_for_one() -> None:
    limits = container(job("full-1-node-2-gpus"), "merge")["resources"]["limits"]
    assert limits == {"memory": "128Gi", "nvidia.com/gpu": "1"}


def test_a_merge_on_the_accelerator_takes_as_many_as_were_asked_for() -> None:
    merge = {"engine": "llamafactory", "device": "auto", "resources": {"limits": {"nvidia.com/gpu": 2}}}
    assert container(job(merge=merge), "merge")["resources"]["limits"] == {"nvidia.com/gpu": "2"}


def test_a_merge_without_accelerators_in_the_job_asks_for_none() -> None:
    merge = {"engine": "llamafactory", "device": "auto"}
    assert "resources" not in container(job(merge=merge, worker={"accelerator": {"count": 0}}), "merge")


@pytest.mark.parametrize(
    ("worker", "prepare"),
    [
        (
            {"requests": {"cpu": "64", "memory": "512Gi"}, "limits": {"rdma/hca": "1"}},
            {"requests": {"cpu": "4", "memory": "8Gi"}},
        ),
        ({"limits": {"memory": "512Gi"}}, {"requests": {"memory": "8Gi"}, "limits": {"memory": "512Gi"}}),
        (
            {"requests": {"cpu": "100m"}, "limits": {"cpu": "2", "memory": "1Gi"}},
            {"requests": {"cpu": "100m", "memory": "1Gi"}, "limits": {"cpu": "2", "memory": "1Gi"}},
        ),
    ],
)
def test_prepare_has_the_workers_cpu_and_memory_and_asks_for_no_more_than_it_uses(
    worker: dict[str, Any], prepare: dict[str, Any]
) -> None:
    assert container(job(worker={"resources": worker}), "prepare")["resources"] == prepare
    assert container(job(worker={"resources": worker}, prepare={"resources": {}}), "prepare").get("resources") is None
    assert "resources" not in container(job(), "prepare")


def test_prepare_runs_where_its_workers_run_unless_it_is_told_otherwise() -> None:
    spec = SPECS[EVERYTHING]["worker"]
    inherited = pod_spec(job(EVERYTHING, prepare={}), "prepare")
    assert inherited["nodeSelector"] == spec["nodeSelector"]
    assert inherited["tolerations"] == spec["tolerations"]
    assert inherited["affinity"] == spec["affinity"]

    own = pod_spec(job(EVERYTHING), "prepare")
    assert own["nodeSelector"] == {"pool": "cpu"}
    assert "tolerations" not in own
    assert own["affinity"] == spec["affinity"]


def test_only_pods_with_accelerators_need_their_runtime() -> None:
    rendered = job(EVERYTHING)
    assert [pod_spec(rendered, stage).get("runtimeClassName") for stage in STAGES] == [None, "rocm", None]
    accelerated = job(EVERYTHING, merge={"engine": "llamafactory", "device": "auto"})
    assert pod_spec(accelerated, "merge")["runtimeClassName"] == "rocm"


@pytest.mark.parametrize("stage", STAGES)
def test_every_pod_has_the_runs_image_identity_and_priority(stage: Stage) -> None:
    spec, trainer = pod_spec(job(EVERYTHING), stage), container(job(EVERYTHING), stage)
    assert (trainer["image"], trainer["imagePullPolicy"]) == ("registry.example/team/trainer:2.0", "Always")
    assert spec["imagePullSecrets"] == [{"name": "pull"}]
    assert (spec["serviceAccountName"], spec["priorityClassName"]) == ("tuner", "training")


def test_the_installations_image_is_the_default() -> None:
    assert container(job(), "train")["image"] == DEFAULTS.trainer_image
    assert container(job(), "train")["imagePullPolicy"] == "IfNotPresent"


def test_the_users_labels_and_annotations_reach_the_pods_but_never_win() -> None:
    meta = stage_job(job(EVERYTHING), Stage.TRAIN, 1, defaults=DEFAULTS)["spec"]["template"]["metadata"]
    assert meta["labels"]["team"] == "support"
    assert meta["labels"]["qwensft.io/attempt"] == "1"
    assert meta["annotations"] == NOT_TO_BE_MOVED | {"sidecar.istio.io/inject": "false"}


@pytest.mark.parametrize("stage", STAGES)
def test_autoscalers_leave_a_pod_where_it_is_unless_its_user_says_otherwise(stage: str) -> None:
    def annotations(**worker: Any) -> dict[str, str]:
        manifest = stage_job(job(worker=worker), Stage(stage), 1, defaults=DEFAULTS)
        return dict(manifest["spec"]["template"]["metadata"]["annotations"])

    assert annotations() == NOT_TO_BE_MOVED
    packed = {"cluster-autoscaler.kubernetes.io/safe-to-evict": "true"}
    assert annotations(podAnnotations=packed) == NOT_TO_BE_MOVED | packed


def test_the_users_labels_and_annotations_reach_the_child_jobs_but_never_win() -> None:
    worker = {"jobLabels": {"kueue.x-k8s.io/queue-name": "team"}, "jobAnnotations": {"qwensft.io/made-from": "mine"}}
    for stage in STAGES:
        meta = stage_job(job(worker=worker), Stage(stage), 3, defaults=DEFAULTS)["metadata"]
        assert meta["labels"]["kueue.x-k8s.io/queue-name"] == "team"
        assert meta["labels"]["qwensft.io/attempt"] == "3"
        assert meta["annotations"] == {"qwensft.io/made-from": editable_digest(job(worker=worker).spec, Stage(stage))}


def test_a_queue_holds_the_training_alone() -> None:
    queued = job(runPolicy={"queueName": "gpus"})
    manifests = {stage: stage_job(queued, Stage(stage), 1, defaults=DEFAULTS) for stage in STAGES}
    assert {stage: one["spec"].get("suspend") for stage, one in manifests.items()} == {
        "prepare": None,
        "train": True,
        "merge": None,
    }
    queues = {stage: one["metadata"]["labels"].get(LABEL_QUEUE) for stage, one in manifests.items()}
    assert queues == {"prepare": None, "train": "gpus", "merge": None}


@pytest.mark.parametrize(
    ("policy", "labels", "expected"),
    [
        ({}, {LABEL_QUEUE: "team"}, {LABEL_QUEUE: "team"}),
        ({"queueName": "gpus"}, {LABEL_QUEUE: "team"}, {LABEL_QUEUE: "gpus"}),
        (
            {"queueName": "gpus"},
            {LABEL_QUEUE_PRIORITY: "urgent"},
            {LABEL_QUEUE: "gpus", LABEL_QUEUE_PRIORITY: "urgent"},
        ),
        ({}, {LABEL_QUEUE_PRIORITY: "urgent"}, {}),
        ({}, {LABEL_QUEUE: ""}, {}),
    ],
    ids=["label", "field wins", "priority", "priority without a queue", "empty label"],
)
def test_labels_of_kueue_on_the_job_go_to_its_training(
    policy: dict[str, Any], labels: dict[str, str], expected: dict[str, str]
) -> None:
    queued = job(runPolicy=policy)
    labelled = queued.replace(metadata=queued.metadata.replace(labels=labels))
    found = stage_job(labelled, Stage.TRAIN, 1, defaults=DEFAULTS)["metadata"]["labels"]
    assert {key: value for key, value in found.items() if key.startswith("kueue.x-k8s.io/")} == expected


@pytest.mark.parametrize("stage", STAGES)
def test_another_scheduler_places_the_pods_of_all_stages(stage: Stage) -> None:
    assert pod_spec(job(EVERYTHING), stage)["schedulerName"] == "gang-scheduler"
    assert "schedulerName" not in pod_spec(job(), stage)


def test_only_training_pods_are_spread_and_by_the_pods_of_their_attempt() -> None:
    (constraint,) = pod_spec(job(EVERYTHING), "train", attempt=4)["topologySpreadConstraints"]
    assert (constraint["maxSkew"], constraint["topologyKey"]) == (1, "topology.kubernetes.io/zone")
    assert constraint["labelSelector"]["matchLabels"]["qwensft.io/attempt"] == "4"
    assert constraint["labelSelector"]["matchLabels"]["qwensft.io/job"] == "support"
    assert "topologySpreadConstraints" not in pod_spec(job(EVERYTHING), "prepare")


# Network.


def test_a_pod_on_the_hosts_network_still_finds_the_service() -> None:
    spec = pod_spec(job(RDMA), "train")
    assert (spec["hostNetwork"], spec["dnsPolicy"]) == (True, "ClusterFirstWithHostNet")
    assert spec["subdomain"] == "support-train"
    assert {"hostNetwork", "dnsPolicy"}.isdisjoint(pod_spec(job(), "train"))


def test_the_network_interface_reaches_both_libraries() -> None:
    trained = environment(job(RDMA), "train")
    assert (trained["NCCL_SOCKET_IFNAME"], trained["GLOO_SOCKET_IFNAME"]) == ("ib0", "ib0")
    assert "NCCL_SOCKET_IFNAME" not in environment(job(RDMA), "merge")


# What the installation sets for jobs that do not.

INSTALLATION = {
    "imagePullSecrets": [{"name": "registry"}],
    "nodeSelector": {"pool": "gpu"},
    "priorityClassName": "training",
    "resources": {"requests": {"cpu": "4", "memory": "16Gi"}},
    "runtimeClassName": "nvidia",
    "schedulerName": "gangs",
    "securityContext": {"assignIds": False},
    "tolerations": [{"key": "gpu", "operator": "Exists"}],
}
INSTALLED = replace(DEFAULTS, worker=parse_worker_defaults(json.dumps(INSTALLATION)))


def installed(stage: Stage, **spec: Any) -> dict[str, Any]:
    """The pod of a stage where the installation has defaults."""
    manifest = stage_job(job(**spec), stage, 1, defaults=INSTALLED)
    pod: dict[str, Any] = manifest["spec"]["template"]["spec"]
    return pod


@pytest.mark.parametrize("stage", STAGES)
def test_defaults_of_the_installation_reach_the_pods_of_all_stages(stage: Stage) -> None:
    pod = installed(stage, worker={"accelerator": {"count": 2}})
    for name in ("imagePullSecrets", "nodeSelector", "priorityClassName", "schedulerName", "tolerations"):
        assert pod[name] == INSTALLATION[name], name
    assert "runAsUser" not in pod["securityContext"]
    assert pod.get("runtimeClassName") == ("nvidia" if stage is Stage.TRAIN else None)
    resources = pod["containers"][0]["resources"]
    assert resources["requests"]["cpu"] == ("1" if stage is Stage.MERGE else "4")
    assert resources.get("limits") == ({"nvidia.com/gpu": "2"} if stage is Stage.TRAIN else None)


@pytest.mark.parametrize("stage", STAGES)
def test_what_a_job_says_itself_is_rendered_as_without_defaults(stage: Stage) -> None:
    pod = installed(stage, worker={"nodeSelector": {"mine": "yes"}, "tolerations": [], "schedulerName": "mine"})
    assert (pod["nodeSelector"], pod["schedulerName"]) == ({"mine": "yes"}, "mine")
    assert "tolerations" not in pod


@pytest.mark.parametrize("stage", STAGES)
def test_a_default_is_no_edit_of_the_job(stage: Stage) -> None:
    rendered = stage_job(job(), stage, 1, defaults=INSTALLED)["metadata"]["annotations"]
    assert rendered == stage_job(job(), stage, 1, defaults=DEFAULTS)["metadata"]["annotations"]
