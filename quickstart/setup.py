"""Cluster, images and operator: the part that the quickstart and the end-to-end tests share.

Everything here may be repeated at any time; what is up to date is left alone.
"""

from __future__ import annotations

import functools
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from quickstart import images
from quickstart.cluster import Cluster
from quickstart.images import Published
from quickstart.shell import REPOSITORY, Kubectl, run
from quickstart.steps import Steps, together

STEPS = 5
CHART = REPOSITORY / "charts" / "qwen-sft-operator"
RELEASE = "qwen-sft-operator"
SYSTEM_NAMESPACE = "qwen-sft-system"
# What the last setup made, for the end-to-end tests.
STATE = REPOSITORY / "build" / "setup.json"


@dataclass(frozen=True)
class Ready:
    """A cluster with the operator on it."""

    kubectl: Kubectl
    images: Published


def setup(cluster: Cluster, steps: Steps) -> Ready:
    """Go from nothing to a running operator, in five steps."""
    with steps.step("looking for the tools needed") as step:
        cluster.install_tools(step.task().begin)
    with steps.step("building the images, and Kubernetes beside them") as step:
        together(
            {"images": functools.partial(images.build, cluster), "Kubernetes": cluster.build_kubernetes}, step.task
        )
    with steps.step(f"starting {cluster.title}") as step:
        cluster.start(step.task().begin)
    with steps.step("handing the images to the cluster") as step:
        published = images.publish(cluster, step.task().begin)
    with steps.step("installing the operator with Helm"):
        install(cluster, published)
    STATE.parent.mkdir(exist_ok=True)
    STATE.write_text(json.dumps(asdict(published), indent=2) + "\n")
    return Ready(kubectl=cluster.kubectl(), images=published)


def existing(cluster: Cluster) -> Ready:
    """Return what an earlier `setup` made, without changing anything."""
    return Ready(kubectl=cluster.kubectl(), images=Published(**json.loads(STATE.read_text())))


def install(cluster: Cluster, published: Published, chart: Path = CHART) -> None:
    """Install or upgrade the chart and wait until the operator is ready."""
    repository, _, tag = published.operator.rpartition(":")
    values = {
        "image": {"repository": repository, "tag": tag},
        "trainerImage": published.trainer,
        # Short runs: look at the progress, and show it, more often than usual.
        "scrapeIntervalSeconds": 2,
        "progressIntervalSeconds": 2,
    }
    run(
        ["helm", "upgrade", "--install", RELEASE, chart, "--namespace", SYSTEM_NAMESPACE, "--create-namespace",
         "--wait", "--timeout", "10m", "--take-ownership", "--force-conflicts", "--values", "-"],
        env=cluster.environment(),
        stdin=json.dumps(values),
    )  # fmt: skip
