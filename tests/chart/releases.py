"""Releases of the chart on an API server of their own, where no installed operator and no other definition stands."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from benchmarks.control_plane.plane import BENCH, Plane, control_plane, free_port
from benchmarks.control_plane.programs import Program

from .conftest import CHART

REPOSITORY = CHART.parents[1]
KIND = "qwensftjobs.qwensft.io"
_ROWS = {"name": "rows", "key": "rows.json"}
# As the first release knew it already.
_RUN = {
    "apiVersion": "qwensft.io/v1alpha1",
    "kind": "QwenSFTJob",
    "metadata": {"name": "demo"},
    "spec": {
        "model": {"name": "Qwen/Qwen3-0.6B"},
        "datasets": [
            {"name": "rows", "format": "alpaca", "source": {"configMap": {"name": "rows", "key": "rows.json"}}}
        ],
        "storage": {"volume": {"claimTemplate": {"size": "10Gi"}}},
    },
}
_PATIENCE = 120.0  # seconds


@contextmanager
def api_server(directory: Path, flags: Sequence[str] = ()) -> Iterator[Api]:
    """An API server with etcd, and nothing that acts on what it stores. `flags`: further ones of the API server."""
    with asyncio.Runner() as runner:
        manager = control_plane(directory, flags)
        plane = runner.run(manager.__aenter__())
        try:
            yield Api(plane)
        finally:
            runner.run(manager.__aexit__(None, None, None))


@dataclass
class Api:
    """The API server as helm and kubectl see it."""

    plane: Plane
    environment: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        self.environment = {**os.environ, "KUBECONFIG": str(self.plane.kubeconfig(BENCH))}

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """Run kubectl; return what it prints. Fails with its words."""
        return self._run("kubectl", *arguments, stdin=stdin)

    def helm(self, *arguments: str | Path) -> str:
        """Run helm; return what it prints. Fails with its words."""
        return self._run("helm", *map(str, arguments))

    def refused(self, *arguments: str | Path) -> str:
        """Run helm, which must fail; return its words."""
        done = subprocess.run(
            ["helm", *map(str, arguments)], env=self.environment, capture_output=True, text=True, check=False
        )
        assert done.returncode != 0
        return done.stderr

    def get(self, *arguments: str) -> Any:
        """Return an object; None where there is none."""
        text = self.kubectl("get", *arguments, "--ignore-not-found", "-o", "json")
        return json.loads(text) if text.strip() else None

    def items(self, *arguments: str) -> list[Any]:
        """Return the objects of a list."""
        return list(json.loads(self.kubectl("get", *arguments, "-o", "json"))["items"])

    def clear(self) -> None:
        """Uninstall all releases, and delete the definition with all runs; namespaces, which nobody could end, stay."""
        for release in json.loads(self.helm("list", "--all-namespaces", "-o", "json")):
            self.helm("uninstall", release["name"], "--namespace", release["namespace"])
        self.kubectl("delete", "crd", KIND, "--ignore-not-found")

    def create_run(self) -> str:
        """Create a run with its rows, `demo` in a new namespace; return that."""
        namespace = f"team-{uuid.uuid4().hex[:8]}"
        self.kubectl("create", "namespace", namespace)
        self.kubectl("create", "configmap", "rows", "-n", namespace, "--from-literal=rows.json=[]")
        self.kubectl("create", "-n", namespace, "-f", "-", stdin=json.dumps(_RUN))
        return namespace

    def run(self, namespace: str) -> Any:
        """Return that run, as it is stored."""
        return self.get(KIND, "demo", "-n", namespace)

    def may(self, account: str, *question: str) -> bool:
        """Whether an account of a release, given as namespace:name, may do something."""
        command = ["kubectl", "auth", "can-i", *question, "--as", f"system:serviceaccount:{account}"]
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False)
        return done.stdout.strip() == "yes"

    @contextmanager
    def operator(self, release: str, namespace: str) -> Iterator[Program]:
        """Run a release's operator from the working tree: with its settings, under its account, outside of a pod."""
        pod = self.get("deployment", release, "-n", namespace)["spec"]["template"]["spec"]
        variables = {v["name"]: v["value"] for v in pod["containers"][0]["env"] if "value" in v}
        token = self.kubectl("create", "token", pod["serviceAccountName"], "-n", namespace).strip()
        config = yaml.safe_load(self.plane.kubeconfig(BENCH).read_text())
        config["users"] = [{"name": BENCH, "user": {"token": token}}]
        path = self.plane.directory / f"{namespace}-{release}.kubeconfig"
        path.write_text(yaml.safe_dump(config))
        environment = variables | {
            "KUBECONFIG": str(path),
            "PYTHONPATH": os.pathsep.join(str(REPOSITORY / folder) for folder in ("client", "operator")),
            "QWENSFT_HEALTH_PORT": str(free_port()),
            "QWENSFT_LEASE_NAMESPACE": namespace,
        }
        log = self.plane.directory / f"{namespace}-{release}.log"
        with Program(release, [sys.executable, "-m", "qwensft_operator"], log, environment) as program:
            yield program

    def _run(self, *command: str, stdin: str | None = None) -> str:
        done = subprocess.run(command, env=self.environment, input=stdin, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{' '.join(command)}\n{done.stderr}"
        return done.stdout


def eventually(look: Callable[[], Any], what: str) -> Any:
    """Return the first true value; fails when none comes."""
    end = time.monotonic() + _PATIENCE
    while not (found := look()):
        assert time.monotonic() < end, f"waited in vain for {what}"
        time.sleep(0.5)
    return found
