"""What the matrix's jobs find in their namespace: models, data, hub servers, credentials and volumes."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from typing import Any

import yaml
from quickstart import inputs
from quickstart.cluster import Cluster
from quickstart.images import TINY_MODEL
from quickstart.pods import RESTRICTED, USER, run_script
from quickstart.setup import Ready
from quickstart.shell import REPOSITORY, Kubectl
from quickstart.steps import Begin, Task, together
from tests.e2e.runs import Job
from tests.matrix.rows import DATA, DIRECTORY

NAMESPACE = "qwensft-matrix"
MODELS, DATA_CLAIM, RUNS, CACHE = inputs.MODEL_CLAIM, "matrix-data", "matrix-runs", "matrix-cache"
# The models of rows.yaml: how trainer-image/tools/make_tiny_model.py is told to write each.
TINY_MODELS = {
    "qwen3": "",
    "qwen2": "--architecture qwen2",
    "qwen3_moe": "--architecture qwen3_moe",
    "qwen2_5_vl": "--architecture qwen2_5_vl",
    "qwen3_vl": "--architecture qwen3_vl",
    "qwen3_base": "--base --stored-head --shards 3",
    "qwen2_yarn": "--architecture qwen2 --yarn --mtp --dtype bfloat16 --shards 3",
}
HUBS = REPOSITORY / "tests" / "hubs"
PORTS = {"huggingface": 8001, "modelscope": 8002, "s3": 8003, "files": 8004}
# Dataset repositories of the hubs: the file that each consists of.
REPOSITORIES = {"manual": "manual.json", "faq": "faq.parquet"}
S3_KEYS = {"AWS_ACCESS_KEY_ID": "matrix", "AWS_SECRET_ACCESS_KEY": "not-a-secret", "AWS_REGION": "eu-north-1"}


@dataclass(frozen=True)
class Setting:
    """The namespace as `provide` left it."""

    kubectl: Kubectl
    model_image: str

    def bytes_sent(self, server: str, repository: str, file: str) -> int:
        """Bytes of a repository's file that a hub server has sent so far, by its log: `GET /path 200 123`."""
        log = self.kubectl("logs", "hubs", "-c", server, "-n", NAMESPACE, "--tail", "-1")
        sent = re.compile(rf"^GET \S*{re.escape(repository)}\S*{re.escape(file)}\S* 20\d (\d+)$", re.MULTILINE)
        return sum(int(count) for count in sent.findall(log))

    def size_of(self, model: str, file: str) -> int:
        """Bytes of a model's file on the volume that the hub servers offer."""
        path = f"/serve/huggingface/models/tiny/{model}/{file}"
        return int(self.kubectl("exec", "hubs", "-c", "huggingface", "-n", NAMESPACE, "--", "stat", "-c", "%s", path))


def base() -> Job:
    """The document that every row is laid over, in the matrix's namespace."""
    document: Job = yaml.safe_load((DIRECTORY / "rows.yaml").read_text())["base"]
    document["metadata"]["namespace"] = NAMESPACE
    document["spec"] = {}
    return document


def provide(ready: Ready, cluster: Cluster) -> Setting:
    """Make the namespace and all that stands in it. It must not exist yet."""
    kubectl = ready.kubectl
    inputs.make_namespace(kubectl, NAMESPACE)
    kubectl.apply(*(_claim(name) for name in (DATA_CLAIM, RUNS, CACHE)))
    texts = {path.name: path.read_text() for path in sorted(DATA.iterdir())}
    kubectl.apply(inputs.rows("matrix-data", NAMESPACE, texts), _secret("s3", S3_KEYS))
    images: list[str] = []
    models = {f"model {name}": functools.partial(_model, ready, name) for name in TINY_MODELS}
    together(
        {
            "data": lambda _: _data(ready, texts),
            "image": lambda begin: images.append(_model_image(cluster, begin)),
            **models,
        },
        lambda name: Task(name, lambda text: None),
    )
    _hubs(ready)
    return Setting(kubectl, images[0])


def _model(ready: Ready, name: str, _: Begin) -> None:
    options = TINY_MODELS[name].split()
    inputs.make_model(ready.kubectl, NAMESPACE, ready.images.tiny_model, path=name, options=options)


def _data(ready: Ready, texts: dict[str, str]) -> None:
    script = DIRECTORY / "scripts" / "make_data.py"
    arguments = ["/scripts", "/data", *(f"{name}={file}" for name, file in REPOSITORIES.items())]
    run_script(
        ready.kubectl,
        NAMESPACE,
        script,
        arguments,
        image=ready.images.trainer,
        claims={"/data": DATA_CLAIM},
        files=texts,
        writable=True,
    )


def _model_image(cluster: Cluster, begin: Begin) -> str:
    """Build an image that holds nothing but a model, and hand it to the cluster."""
    context = DIRECTORY / "oci"
    local = "localhost/qwensft/model-image:dev"
    arguments = ["--file", str(context / "Dockerfile"), "--build-arg", f"TINY_MODEL={TINY_MODEL.local_name}"]
    cluster.build_image(local, context, arguments, begin)
    return cluster.publish(local, "model-image", cluster.image_id(local)[:12])


def _hubs(ready: Ready) -> None:
    """Run the hub servers of tests/hubs in one pod, behind the name `hubs`."""
    kubectl = ready.kubectl
    sources = {path.name: path.read_text() for path in sorted(HUBS.glob("*.py"))}
    kubectl.apply(inputs.rows("hubs", NAMESPACE, sources), _hub_service(), hub_pod(ready.images.trainer))
    kubectl("wait", "pod/hubs", "-n", NAMESPACE, "--for=condition=Ready", "--timeout=300s", timeout=330)


def hub_pod(image: str) -> dict[str, Any]:
    """Return the pod of the hub servers: one container for each, all reading the same volumes."""
    mounts = [{"name": "hubs", "mountPath": "/hubs", "readOnly": True}]
    for hub in ("huggingface", "modelscope"):
        mounts += [_part("models", f"/serve/{hub}/models/tiny/{name}", name) for name in TINY_MODELS]
        mounts += [_part("data", f"/serve/{hub}/datasets/tiny/{name}", f"repositories/{name}") for name in REPOSITORIES]
    mounts += [_part("data", "/serve/s3/matrix", ""), _part("data", "/serve/files", "")]
    containers = [
        {
            "name": name,
            "image": image,
            "command": ["python3", "-m", f"hubs.{name}", "--root", f"/serve/{name}", "--port", str(port)],
            "workingDir": "/",
            "env": [{"name": "PYTHONUNBUFFERED", "value": "1"}, *_from_secret("s3")],
            "ports": [{"containerPort": port}],
            "readinessProbe": {"tcpSocket": {"port": port}, "periodSeconds": 1},
            "securityContext": RESTRICTED,
            "volumeMounts": mounts,
        }
        for name, port in PORTS.items()
    ]
    claims = {"models": MODELS, "data": DATA_CLAIM}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "hubs", "namespace": NAMESPACE, "labels": {"app": "hubs"}},
        "spec": {
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 1,
            "securityContext": {"runAsUser": USER, "runAsGroup": USER, "fsGroup": USER},
            "containers": containers,
            "volumes": [
                {"name": "hubs", "configMap": {"name": "hubs"}},
                *({"name": name, "persistentVolumeClaim": {"claimName": claim}} for name, claim in claims.items()),
            ],
        },
    }


def _part(volume: str, path: str, folder: str) -> dict[str, Any]:
    return {"name": volume, "mountPath": path, "subPath": folder, "readOnly": True}


def _from_secret(name: str) -> list[dict[str, Any]]:
    return [{"name": key, "valueFrom": {"secretKeyRef": {"name": name, "key": key}}} for key in S3_KEYS]


def _hub_service() -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "hubs", "namespace": NAMESPACE},
        "spec": {
            "selector": {"app": "hubs"},
            "ports": [{"name": name, "port": port} for name, port in PORTS.items()],
        },
    }


def _claim(name: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "4Gi"}}},
    }


def _secret(name: str, values: dict[str, str]) -> dict[str, Any]:
    metadata = {"name": name, "namespace": NAMESPACE}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": values}
