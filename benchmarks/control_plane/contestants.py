"""The operators that are compared: ours, and Kubeflow Trainer with JobSet. Each starts as often as it is asked to."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import copy
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Protocol

import aiohttp
import yaml
from benchmarks.control_plane.api import Api, ApiError, Manifest
from benchmarks.control_plane.plane import REPOSITORY, Plane, free_port
from benchmarks.control_plane.programs import Program

_MODULES = Path(__file__).parent / "modules"  # one each: JobSet 0.11.1 does not compile beside what Trainer 2.2.0 needs
RUNS = "/apis/qwensft.io/v1alpha1/namespaces/{}/qwensftjobs"
_PATIENCE = 120.0
_LEASES = "/apis/coordination.k8s.io/v1/namespaces/default/leases"


class Controller(Protocol):
    """An operator under test: runs are objects of its kind, for each of which it makes a Job."""

    name: str
    users: tuple[str, ...]
    runs: str
    """Path of its runs' collection; {} stands for the namespace."""
    kinds: tuple[str, ...]
    """Of its own, in which something is left when it has ended: runs first."""

    def manifest(self, name: str) -> Manifest:
        """A run."""

    def job(self, name: str) -> str:
        """Name of the Job that a run gets first."""

    def told(self, run: Manifest) -> bool:
        """Whether a run's status tells of that Job."""

    def ended(self, run: Manifest) -> bool:
        """Whether a run's status tells that this Job has succeeded."""

    def running(self) -> contextlib.AbstractAsyncContextManager[Sequence[Program]]:
        """Run its processes, ready to work."""


class Ours:
    """The operator of the working tree, as installed by default but for what a machine without a cluster needs."""

    name = "operator"
    runs = RUNS
    kinds: tuple[str, ...] = (RUNS,)

    def __init__(self, plane: Plane, user: str = "operator", image: str = "qwensft/trainer:bench") -> None:
        self._plane, self._image = plane, image
        self.users: tuple[str, ...] = (user,)
        example = documents(REPOSITORY / "examples" / "minimal.yaml")
        self._example = next(document for document in example if document["kind"] == "QwenSFTJob")

    def manifest(self, name: str, nodes: int = 1) -> Manifest:
        """The smallest job of the examples, on so many nodes."""
        job = copy.deepcopy(self._example)
        job["metadata"] = {"name": name}
        if nodes > 1:
            job["spec"] |= {"distribution": {"nodes": nodes}}
            job["spec"]["storage"]["volume"]["claimTemplate"]["accessModes"] = ["ReadWriteMany"]
        return job

    def job(self, name: str) -> str:
        """Name of the prepare Job."""
        return f"{name}-prepare-1"

    def told(self, run: Manifest) -> bool:
        """Whether the status names the prepare Job."""
        stages = (run.get("status") or {}).get("stages") or {}
        return bool((stages.get("prepare") or {}).get("jobName"))

    def ended(self, run: Manifest) -> bool:
        """Whether the run is prepared."""
        return _condition(run, "Prepared")

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Sequence[Program]]:
        """Run the operator until it is ready."""
        port = free_port()
        environment = {
            "KUBECONFIG": str(self._plane.kubeconfig(self.users[0])),
            "PYTHONPATH": os.pathsep.join(str(REPOSITORY / folder) for folder in ("client", "operator")),
            "QWENSFT_TRAINER_IMAGE": self._image,
            "QWENSFT_HEALTH_PORT": str(port),
        }
        command = [sys.executable, "-m", "qwensft_operator"]
        await _vacate(self._plane)
        with Program("operator", command, self._plane.directory / "operator.log", environment) as program:
            await _until_ready(program, f"http://127.0.0.1:{port}/readyz")
            await _until_leading(self._plane, "qwen-sft-operator")
            yield [program]


class KubeflowTrainer:
    """Kubeflow Trainer and JobSet as their manifests configure them; their webhooks are reached by URL.

    Only Trainer's log tells less than there, which makes it no slower.
    """

    name = "trainer"
    users: tuple[str, ...] = ("trainer", "jobset")
    runs = "/apis/trainer.kubeflow.org/v1alpha1/namespaces/{}/trainjobs"
    kinds: tuple[str, ...] = (runs, "/apis/jobset.x-k8s.io/v1alpha2/namespaces/{}/jobsets")

    def __init__(self, plane: Plane) -> None:
        self._plane, self._binaries = plane, plane.directory / "trainer-bin"
        self._webhooks = {name: free_port() for name in self.users}
        self._probes = {name: free_port() for name in self.users}

    async def install(self, api: Api) -> None:
        """Build both, and create their kinds, webhooks and the runtime for PyTorch."""
        await asyncio.to_thread(self._build)
        trainer = _sources("trainer", "github.com/kubeflow/trainer/v2") / "manifests" / "base"
        jobset = _sources("jobset", "sigs.k8s.io/jobset") / "config" / "components"
        for path in [*(trainer / "crds").glob("trainer*.yaml"), *(jobset / "crd" / "bases").glob("*.yaml")]:
            await install_kind(api, *documents(path))
        await self._install_webhooks(api, "trainer", trainer / "webhook" / "manifests.yaml")
        await self._install_webhooks(api, "jobset", jobset / "webhook" / "manifests.yaml")
        async with self.running():
            (runtime,) = documents(trainer / "runtimes" / "torch_distributed.yaml")
            await api.create("/apis/trainer.kubeflow.org/v1alpha1/clustertrainingruntimes", runtime)

    def manifest(self, name: str) -> Manifest:
        """A TrainJob of one node that takes every default."""
        return {
            "apiVersion": "trainer.kubeflow.org/v1alpha1",
            "kind": "TrainJob",
            "metadata": {"name": name},
            "spec": {"runtimeRef": {"name": "torch-distributed"}},
        }

    def job(self, name: str) -> str:
        """Name of the Job that JobSet makes."""
        return f"{name}-node-0"

    def told(self, run: Manifest) -> bool:
        """Whether the status tells of any Job."""
        return bool((run.get("status") or {}).get("jobsStatus"))

    def ended(self, run: Manifest) -> bool:
        """Whether the TrainJob is complete."""
        return _condition(run, "Complete")

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Sequence[Program]]:
        """Run both until they are ready."""
        await _vacate(self._plane)
        with contextlib.ExitStack() as running:
            programs = [
                running.enter_context(self._program("jobset", "jobset", self._jobset_configuration)),
                running.enter_context(self._program("trainer", "trainer-controller-manager", self._configuration)),
            ]
            for program in programs:
                await _until_ready(program, f"http://127.0.0.1:{self._probes[program.name]}/readyz")
            await _until_leading(self._plane, "6d4f6a47.jobset.x-k8s.io", "trainer.kubeflow.org")
            yield programs

    def _build(self) -> None:
        self._binaries.mkdir()
        command = ["go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", f"-o={self._binaries}/", "tool"]
        for name in self.users:
            subprocess.run(command, cwd=_MODULES / name, env={**os.environ, "CGO_ENABLED": "0"}, check=True)

    def _program(self, name: str, binary: str, configuration: Callable[[Path], Manifest]) -> Program:
        directory = self._plane.directory / name
        # Where controller-runtime looks for them by default, below TMPDIR.
        certificates = directory / "k8s-webhook-server" / "serving-certs"
        certificates.mkdir(parents=True, exist_ok=True)
        for source, target in (("serving.crt", "tls.crt"), ("serving.key", "tls.key")):
            (certificates / target).write_bytes((self._plane.directory / source).read_bytes())
        (directory / "config.yaml").write_text(json.dumps(configuration(certificates)))
        environment = {"KUBECONFIG": str(self._plane.kubeconfig(name)), "TMPDIR": str(directory)}
        command: list[str | Path] = [self._binaries / binary, f"--config={directory}/config.yaml"]
        return Program(name, command, directory / "log", environment)

    def _configuration(self, _: Path) -> Manifest:
        # All else as in manifests/base/manager/controller_manager_config.yaml of Trainer.
        return {
            "apiVersion": "config.trainer.kubeflow.org/v1alpha1",
            "kind": "Configuration",
            "health": {"healthProbeBindAddress": f"127.0.0.1:{self._probes['trainer']}"},
            "metrics": {"bindAddress": "0"},
            "webhook": {"port": self._webhooks["trainer"], "host": "127.0.0.1"},
            "leaderElection": {
                "leaderElect": True,
                "resourceName": "trainer.kubeflow.org",
                "resourceNamespace": "default",
                "leaseDuration": "15s",
                "renewDeadline": "10s",
                "retryPeriod": "2s",
            },
            "controller": {
                "groupKindConcurrency": {
                    "TrainJob.trainer.kubeflow.org": 5,
                    "TrainingRuntime.trainer.kubeflow.org": 1,
                    "ClusterTrainingRuntime.trainer.kubeflow.org": 1,
                }
            },
            "certManagement": {"enable": False},
            "clientConnection": {"qps": 50, "burst": 100},
        }

    def _jobset_configuration(self, certificates: Path) -> Manifest:
        return {
            "apiVersion": "config.jobset.x-k8s.io/v1alpha1",
            "kind": "Configuration",
            "health": {"healthProbeBindAddress": f"127.0.0.1:{self._probes['jobset']}"},
            "metrics": {"bindAddress": "0", "certDir": str(certificates)},
            "webhook": {"port": self._webhooks["jobset"], "host": "127.0.0.1", "certDir": str(certificates)},
            "leaderElection": {"leaderElect": True, "resourceNamespace": "default"},
            "internalCertManagement": {"enable": False},
        }

    async def _install_webhooks(self, api: Api, name: str, manifests: Path) -> None:
        for document in documents(manifests):
            document["metadata"]["name"] = f"{name}-{document['metadata']['name']}"
            for webhook in document["webhooks"]:
                service = webhook["clientConfig"].pop("service")
                webhook["clientConfig"] = {
                    "url": f"https://127.0.0.1:{self._webhooks[name]}{service['path']}",
                    "caBundle": _base64(self._plane.authority),
                }
                if webhook["name"] in ("mpod.kb.io", "vpod.kb.io"):  # as JobSet's own patches of these manifests do
                    exists = {"key": "jobset.sigs.k8s.io/jobset-name", "operator": "Exists"}
                    webhook["objectSelector"] = {"matchExpressions": [exists]}
            await api.create(f"/apis/admissionregistration.k8s.io/v1/{document['kind'].lower()}s", document)


async def install_kind(api: Api, definition: Manifest) -> None:
    """Create a CustomResourceDefinition and wait until it is served."""
    collection = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    await api.create(collection, definition)
    async with asyncio.timeout(_PATIENCE):
        while True:
            if _condition(await api.get(f"{collection}/{definition['metadata']['name']}"), "Established"):
                return
            await asyncio.sleep(0.1)


def documents(path: Path) -> list[Manifest]:
    """The objects in a YAML file."""
    return [document for document in yaml.safe_load_all(path.read_text()) if document]


def _condition(manifest: Manifest, type_: str) -> bool:
    conditions = (manifest.get("status") or {}).get("conditions") or ()
    return any(condition["type"] == type_ and condition["status"] == "True" for condition in conditions)


async def _vacate(plane: Plane) -> None:
    """Delete the Leases: not everybody gives one back at its end, and the next would wait."""
    async with plane.api() as api:
        await api.delete_all(_LEASES)


async def _until_leading(plane: Plane, *leases: str) -> None:
    async with plane.api() as api, asyncio.timeout(_PATIENCE):
        for name in leases:
            while True:
                with contextlib.suppress(ApiError):
                    await api.get(f"{_LEASES}/{name}")
                    break
                await asyncio.sleep(0.1)


async def _until_ready(program: Program, url: str) -> None:
    async with aiohttp.ClientSession() as session, asyncio.timeout(_PATIENCE):
        while True:
            program.check()
            with contextlib.suppress(aiohttp.ClientError):
                async with session.get(url) as answer:
                    if answer.status == 200:
                        return
            await asyncio.sleep(0.1)


def _sources(module: str, path: str) -> Path:
    """Where Go keeps the sources of a module that another one requires."""
    command = ["go", "list", "-m", "-f", "{{.Dir}}", path]
    asked = subprocess.run(command, cwd=_MODULES / module, capture_output=True, text=True, check=True)
    return Path(asked.stdout.strip())


def _base64(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()
