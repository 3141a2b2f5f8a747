"""Builds the three images and hands them to the cluster under a tag that names their content.

A content tag makes an unchanged image a no-op for Helm and nodes, and a changed one a new pod.
ADR 0031 says why.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from quickstart.cluster import Cluster
from quickstart.shell import REPOSITORY
from quickstart.steps import Begin


@dataclass(frozen=True)
class Image:
    """How one image is built."""

    repository: str
    context: Path
    target: str | None = None

    @property
    def local_name(self) -> str:
        """The name it is built under."""
        return f"localhost/qwensft/{self.repository}:dev"


OPERATOR = Image("operator", REPOSITORY)
TRAINER = Image("trainer", REPOSITORY / "trainer-image")
# The trainer with a tool that writes a tiny model: next to nothing on top of its layers.
TINY_MODEL = Image("tiny-model", REPOSITORY / "trainer-image", target="tiny-model")


@dataclass(frozen=True)
class Published:
    """The names that pods pull the images by."""

    operator: str
    trainer: str
    tiny_model: str


def build(cluster: Cluster, begin: Begin) -> None:
    """Build all images, one after the other: they share base layers, and one build uses the whole machine."""
    for image in (OPERATOR, TRAINER, TINY_MODEL):
        target = ["--target", image.target] if image.target else []
        arguments = ["--file", str(image.context / "Dockerfile"), *target]
        begin(image.repository)
        cluster.build_image(image.local_name, image.context, arguments, _prefixed(begin, image.repository))


def _prefixed(begin: Begin, name: str) -> Begin:
    return lambda part: begin(f"{name}: {part}")


def publish(cluster: Cluster, begin: Begin) -> Published:
    """Make the built images available to the cluster's nodes."""

    def name(image: Image) -> str:
        begin(f"image {image.repository}")
        tag = cluster.image_id(image.local_name)[:12]
        return cluster.publish(image.local_name, image.repository, tag)

    return Published(operator=name(OPERATOR), trainer=name(TRAINER), tiny_model=name(TINY_MODEL))
