"""Where the quickstart runs: the local one-node cluster, or the cluster of the current kube context.

Chosen by the environment variable CLUSTER (`local`, the default, or `current`).
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Protocol

from quickstart.shell import REPOSITORY, Kubectl, run, run_logged
from quickstart.steps import Begin, QuickstartError

LOGS = REPOSITORY / "build" / "logs"
LOCAL = REPOSITORY / "local-cluster" / "cluster"


class Cluster(Protocol):
    """What the setup needs to know of a cluster. What takes long calls `begin` for each part of its work."""

    title: str

    def install_tools(self, begin: Begin) -> None:
        """Install or look for the programs needed."""

    def build_kubernetes(self, begin: Begin) -> None:
        """Build what the cluster itself consists of."""

    def start(self, begin: Begin) -> None:
        """Make the cluster answer."""

    def build_image(self, name: str, context: Path, arguments: list[str], begin: Begin) -> None:
        """Build an image under a name."""

    def image_id(self, name: str) -> str:
        """Return the identity of an image that was built: 64 hexadecimal digits."""

    def publish(self, name: str, repository: str, tag: str) -> str:
        """Make an image available to pods as `…repository:tag` and return its full name."""

    def environment(self) -> dict[str, str]:
        """Return the environment for kubectl and helm."""

    def kubectl(self) -> Kubectl:
        """Return kubectl for this cluster."""


class LocalCluster:
    """The Kubernetes of local-cluster/, images by buildah."""

    title = "the local Kubernetes"

    def install_tools(self, begin: Begin) -> None:
        """Install Debian's runc, buildah and so on."""
        run_logged([LOCAL, "install-deps"], LOGS / "install-deps.log", begin)

    def build_kubernetes(self, begin: Begin) -> None:
        """Build Kubernetes, etcd, containerd, CoreDNS and Helm; done once."""
        run_logged([LOCAL, "build"], LOGS / "kubernetes.log", begin)

    def start(self, begin: Begin) -> None:
        """Start the cluster or mend it; does nothing when it is healthy."""
        run_logged([LOCAL, "up"], LOGS / "cluster-up.log", begin)

    def build_image(self, name: str, context: Path, arguments: list[str], begin: Begin) -> None:
        """Build with buildah on the local base image."""
        run_logged([LOCAL, "build-image", name, context, *arguments], _image_log(name), begin)

    def image_id(self, name: str) -> str:
        """Return buildah's image ID."""
        return run(["buildah", "inspect", "--type", "image", "--format", "{{.FromImageID}}", name]).strip()

    def publish(self, name: str, repository: str, tag: str) -> str:
        """Load the image into containerd."""
        full = f"localhost/qwensft/{repository}:{tag}"
        run(["buildah", "tag", name, full])
        run([LOCAL, "load-image", full])
        return full

    def environment(self) -> dict[str, str]:
        """Return this process's environment with the exports of `cluster env`."""
        script = f'eval "$({LOCAL} env)" && env -0'
        done = subprocess.run(["bash", "-euc", script], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise QuickstartError(
                f"the local cluster does not run; start it with `make cluster-up`\n{done.stderr.strip()}"
            )
        return dict(line.split("=", 1) for line in done.stdout.split("\0") if "=" in line)

    def kubectl(self) -> Kubectl:
        """Return kubectl with the administrator's kubeconfig."""
        return Kubectl(self.environment())


class CurrentCluster:
    """The cluster of the current kube context. Images go to the registry that REGISTRY names."""

    title = "the current kube context"

    def __init__(self) -> None:
        self.registry = os.environ.get("REGISTRY", "").rstrip("/")
        self.builder = next((name for name in ("docker", "podman", "buildah") if shutil.which(name)), "")

    def install_tools(self, begin: Begin) -> None:
        """Check that all that is needed is here; nothing is installed."""
        missing = [name for name in ("kubectl", "helm") if not shutil.which(name)]
        if missing:
            raise QuickstartError(f"CLUSTER=current needs {' and '.join(missing)} in PATH")
        if not self.registry:
            raise QuickstartError(
                "CLUSTER=current needs REGISTRY, a repository prefix that you may push to and the cluster may pull "
                "from, for example: make quickstart CLUSTER=current REGISTRY=registry.example.com/team"
            )
        if not self.builder:
            raise QuickstartError("CLUSTER=current needs docker, podman or buildah to build and push the images")

    def build_kubernetes(self, begin: Begin) -> None:
        """Nothing: the cluster exists."""

    def start(self, begin: Begin) -> None:
        """Check that the cluster answers and that we may ask it."""
        Kubectl()("version", "--request-timeout=15s")

    def build_image(self, name: str, context: Path, arguments: list[str], begin: Begin) -> None:
        """Build with docker, podman or buildah, whichever is installed."""
        run_logged([self.builder, "build", *arguments, "--tag", name, context], _image_log(name), begin)

    def image_id(self, name: str) -> str:
        """Return the image's ID."""
        if self.builder == "buildah":
            return run(["buildah", "inspect", "--type", "image", "--format", "{{.FromImageID}}", name]).strip()
        inspected = run([self.builder, "image", "inspect", "--format", "{{.Id}}", name]).strip()
        return inspected.removeprefix("sha256:")

    def publish(self, name: str, repository: str, tag: str) -> str:
        """Push the image to the registry."""
        full = f"{self.registry}/{repository}:{tag}"
        run([self.builder, "tag", name, full])
        run_logged([self.builder, "push", full], LOGS / f"push-{repository}.log")
        return full

    def environment(self) -> dict[str, str]:
        """Return this process's environment."""
        return dict(os.environ)

    def kubectl(self) -> Kubectl:
        """Return kubectl as the user has it."""
        return Kubectl()


def _image_log(name: str) -> Path:
    return LOGS / f"image-{name.rpartition('/')[2].replace(':', '-')}.log"


def choose() -> Cluster:
    """Return the cluster that CLUSTER names; raises QuickstartError for an unknown word."""
    wanted = os.environ.get("CLUSTER", "local")
    if wanted == "local":
        return LocalCluster()
    if wanted == "current":
        return CurrentCluster()
    raise QuickstartError(f"CLUSTER is `{wanted}`; it must be `local` or `current`")
