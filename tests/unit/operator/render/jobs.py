"""The QwenSFTJobs that the tests render, as a user would write them."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import yaml

from qwensft.api.v1alpha1 import QwenSFTJob, Stage, parse_job
from qwensft_operator.render import Defaults, claim, config_map, service, stage_job

UID = "0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0"
DEFAULTS = Defaults(trainer_image="registry.example/qwensft/trainer:1.0")
STAGES = tuple(Stage)
EXAMPLES = {path.stem: path for path in sorted((Path(__file__).parents[4] / "examples").glob("*.yaml"))}

_ROWS = {"name": "support", "format": "alpaca", "source": {"configMap": {"name": "rows", "key": "rows.json"}}}
_CLAIM = {"volume": {"claimTemplate": {"size": "200Gi"}}}
_CHATS = {
    "name": "chats",
    "format": "sharegpt",
    "source": {"volume": {"claimName": "team-data", "path": "sft/chats.jsonl"}},
    "columns": {"messages": "messages"},
    "tags": {"role": "role", "content": "content", "user": "user", "assistant": "assistant"},
    "sampleCount": 5000,
}
_EVERYTHING = {
    "image": "registry.example/team/trainer:2.0",
    "imagePullPolicy": "Always",
    "imagePullSecrets": [{"name": "pull"}],
    "accelerator": {"resource": "amd.com/gpu", "count": 4},
    "resources": {"requests": {"cpu": "1500m", "memory": "0.5Ti"}, "limits": {"memory": "1e12", "rdma/hca": 1}},
    "nodeSelector": {"pool": "gpu"},
    "tolerations": [{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}],
    "affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": []}},
    "priorityClassName": "training",
    "serviceAccountName": "tuner",
    "runtimeClassName": "rocm",
    "env": [
        {"name": "NCCL_DEBUG", "value": "INFO"},
        {"name": "WANDB_API_KEY", "valueFrom": {"secretKeyRef": {"name": "wandb", "key": "key"}}},
    ],
    "sharedMemory": "16Gi",
    "podLabels": {"team": "support"},
    "jobLabels": {"kueue.x-k8s.io/queue-name": "team"},
    "jobAnnotations": {"example.com/cost-centre": "4711"},
    "schedulerName": "gang-scheduler",
    "topologySpreadConstraints": [
        {"maxSkew": 1, "topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "ScheduleAnyway"}
    ],
    "caBundle": {"configMapKeyRef": {"name": "company-ca", "key": "bundle.pem"}},
    "podAnnotations": {"sidecar.istio.io/inject": "false"},
    "securityContext": {"runAsUser": 1000, "runAsGroup": 2000, "fsGroup": 3000, "supplementalGroups": [4000]},
}

_TOKEN = {"name": "hub", "key": "token"}


def _hub(kind: str, **source: Any) -> dict[str, Any]:
    name = f"{kind.lower()}-{'private' if 'token' in str(source) or 'Secret' in str(source) else 'public'}"
    return {"name": name, "format": "openai", "source": {kind: source}}


SPECS: dict[str, dict[str, Any]] = {
    "lora-2-nodes-cpu": {
        "model": {"name": "Qwen/Qwen2.5-0.5B-Instruct", "source": {"volume": {"claimName": "models", "path": "tiny"}}},
        "datasets": [_ROWS],
        "training": {"maxSteps": 60, "precision": "fp32", "learningRate": 1e-3, "warmupRatio": 0.1},
        "distribution": {"nodes": 2, "masterPort": 29400},
        "worker": {"accelerator": {"count": 0}, "resources": {"requests": {"cpu": 1, "memory": "2Gi"}}},
        "storage": _CLAIM | {"retain": False},
    },
    "lora-1-gpu-hub": {
        "model": {
            "name": "Qwen/Qwen3-8B",
            "source": {"huggingFace": {"revision": "main", "tokenSecretRef": {"name": "hub", "key": "token"}}},
            "enableThinking": False,
        },
        "datasets": [_ROWS],
        "storage": _CLAIM,
    },
    "full-1-node-2-gpus": {
        "model": {"name": "Qwen/Qwen3-1.7B"},
        "datasets": [_ROWS],
        "tuning": {"method": "full"},
        "worker": {"accelerator": {"count": 2}, "resources": {"limits": {"memory": "128Gi"}}},
        "storage": _CLAIM,
        "merge": {
            "engine": "llamafactory",
            "device": "auto",
            "verify": "tensors",
            "dtype": "bf16",
            "path": "export/hf",
        },
    },
    "model-and-data-on-a-volume": {
        "model": {"name": "Qwen/Qwen3-4B", "source": {"volume": {"claimName": "team-data", "path": "models/qwen3"}}},
        "datasets": [_CHATS, _ROWS],
        "tuning": {"lora": {"rank": 16, "targets": ["all"], "additionalTargets": ["embed_tokens"], "rslora": True}},
        "storage": {"volume": {"claimName": "runs"}, "path": "qwen/first", "onExisting": "Resume"},
        "extraArguments": {"neftune_noise_alpha": "5", "adam_epsilon": "1e-8", "lr_scheduler_kwargs": '{"min_lr": 1}'},
    },
    "trackers": {
        "model": {"name": "Qwen/Qwen3-8B"},
        "datasets": [_ROWS],
        "training": {
            "reportTo": {
                "group": "support",
                "tags": {"team": "support"},
                "tensorboard": {},
                "mlflow": {
                    "endpoint": "http://mlflow.mlflow.svc:5000",
                    "credentialsSecretRef": {"name": "mlflow"},
                },
                "wandb": {"project": "support", "apiKeySecretRef": {"name": "wandb", "key": "api-key"}},
            }
        },
        "storage": _CLAIM,
    },
    "every-worker-field": {
        "model": {"name": "Qwen/Qwen2.5-7B", "source": {"modelScope": {"repo": "qwen/Qwen2.5-7B"}}},
        "datasets": [_ROWS],
        "worker": _EVERYTHING,
        "prepare": {
            "resources": {"requests": {"cpu": "4"}}, "nodeSelector": {"pool": "cpu"}, "tolerations": [],
            "activeDeadlineSeconds": 3600,
        },
        "distribution": {"nodes": 2, "processesPerNode": 4},
        "runPolicy": {"stallTimeoutSeconds": 900},
        "storage": _CLAIM | {"onExisting": "Overwrite"},
        "merge": {"resources": {"limits": {"memory": "32Gi"}}},
    },
    "every-source": {
        "model": {
            "name": "example/odd-name",
            "source": {"modelScope": {"repo": "team/odd", "endpoint": "https://hub.example.com"}},
            "cache": {"claimName": "models", "path": "hubs"},
            "addTokens": ["<a>", "<b>"],
        },
        "datasets": [
            _ROWS | {"weight": 3},
            _CHATS | {"weight": 1},
            _hub("huggingFace", repo="team/rows", subset="de", split="train", tokenSecretRef=_TOKEN) | {"weight": 0.5},
            _hub("modelScope", repo="team/more", path="a.parquet", revision="v2", endpoint="http://h") | {"weight": 1},
            _hub("url", url="s3://rows/a.csv", credentialsSecretRef={"name": "s3"}, sha256="0" * 64) | {"weight": 2},
        ],
        "evaluation": {
            "datasets": [_ROWS | {"name": "held-out"}, _hub("url", url="https://data.example.com/b.json")],
            "everySteps": 50,
            "batchSize": 2,
        },
        "tuning": {"method": "lora", "lora": {"additionalTargets": ["norm", "lm_head"]}},
        "distribution": {"deepspeed": {"config": {"name": "zero", "key": "own.json"}}},
        "storage": _CLAIM,
    },
    "host-network-and-rdma": {
        "model": {"name": "Qwen/Qwen3-32B"},
        "datasets": [_ROWS],
        "tuning": {"method": "full"},
        "distribution": {"nodes": 2, "deepspeed": {"stage": 3, "offloadOptimizer": True, "offloadParameters": True}},
        "worker": {
            "accelerator": {"count": 8},
            "hostNetwork": True,
            "networkInterface": "ib0",
            "resources": {"limits": {"rdma/hca": 1}},
        },
        "storage": _CLAIM,
    },
}  # fmt: skip
RESTRICTED = [case for case in SPECS if case != "host-network-and-rdma"]


def job(case: str = "lora-1-gpu-hub", name: str = "support", **spec: Any) -> QwenSFTJob:
    """A job of one of the cases; keyword arguments replace parts of its spec."""
    document = {
        "apiVersion": "qwensft.io/v1alpha1",
        "kind": "QwenSFTJob",
        "metadata": {"name": name, "namespace": "team", "uid": UID},
        "spec": copy.deepcopy(SPECS[case]) | spec,
    }
    return parse_job(document)


def example_document(name: str) -> dict[str, Any]:
    """The job of an example, as it stands there; beside it there may be what it reads."""
    documents = yaml.load_all(EXAMPLES[name].read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
    (document,) = (document for document in documents if document["kind"] == "QwenSFTJob")
    return dict(document)


def example(name: str) -> QwenSFTJob:
    """One of the examples, as the apiserver would return it."""
    document = example_document(name)
    document["metadata"] = {"namespace": "team", "uid": UID} | document["metadata"]
    return parse_job(document)


def manifests(job: QwenSFTJob, attempt: int = 1) -> list[dict[str, Any]]:
    """Everything that is made for a run, in the order of its stages."""
    objects = [claim(job)] if job.spec.storage.volume.claim_template else []
    objects.append(service(job))
    for stage in STAGES:
        objects.append(config_map(job, stage, attempt))
        objects.append(stage_job(job, stage, attempt, defaults=DEFAULTS))
    return objects


def pod_spec(job: QwenSFTJob, stage: str, attempt: int = 1) -> dict[str, Any]:
    """The pod of a stage."""
    spec: dict[str, Any] = stage_job(job, Stage(stage), attempt, defaults=DEFAULTS)["spec"]["template"]["spec"]
    return spec


def container(job: QwenSFTJob, stage: str, attempt: int = 1) -> dict[str, Any]:
    """The trainer container of a stage."""
    only: dict[str, Any]
    (only,) = pod_spec(job, stage, attempt)["containers"]
    return only


def environment(job: QwenSFTJob, stage: str, attempt: int = 1) -> dict[str, Any]:
    """The environment of a stage: values, or where they come from."""
    return {e["name"]: e.get("value", e.get("valueFrom")) for e in container(job, stage, attempt)["env"]}


def files(case: str = "lora-1-gpu-hub", stage: str = "train", **spec: Any) -> dict[str, Any]:
    """The files of a stage's ConfigMap, as they are read."""
    data = config_map(job(case, **spec), Stage(stage), 1)["data"]
    return {name: load(text) for name, text in data.items()}


def load(text: str) -> Any:
    """A YAML document, read by libyaml: ten times as fast as yaml.safe_load."""
    return yaml.load(text, Loader=yaml.CSafeLoader)


def train(case: str = "lora-1-gpu-hub", **spec: Any) -> dict[str, Any]:
    """LLaMA-Factory's training arguments."""
    arguments: dict[str, Any] = files(case, **spec)["train.yaml"]
    return arguments


def export(case: str = "lora-1-gpu-hub", **spec: Any) -> dict[str, Any]:
    """LLaMA-Factory's arguments of the merge."""
    arguments: dict[str, Any] = files(case, "merge", **spec)["export.yaml"]
    return arguments


def run(case: str = "lora-1-gpu-hub", stage: str = "train", **spec: Any) -> dict[str, Any]:
    """The trainer's own configuration."""
    configuration: dict[str, Any] = files(case, stage, **spec)["run.yaml"]
    return configuration
