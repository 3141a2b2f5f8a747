"""Newer images: the installed ones with another version in them, as a layer of one file on top."""

from __future__ import annotations

import re
from pathlib import Path
from tempfile import TemporaryDirectory

from quickstart.cluster import Cluster
from quickstart.images import Published
from quickstart.shell import REPOSITORY

VERSION = "999.0.0+chaos"
_OPERATOR = "/app/qwensft_operator/__init__.py"
_TRAINER = "/opt/qwensft/lib/python3.11/site-packages/qwensft_trainer/__init__.py"


def newer(cluster: Cluster, installed: Published) -> Published:
    """Make both images anew, and hand them to the cluster's nodes; some seconds."""
    source = (REPOSITORY / "operator" / "qwensft_operator" / "__init__.py").read_text()
    version = f'__version__ = "{VERSION}"\n'
    operator = re.sub(r"^__version__ = .*\n", version, source, count=1, flags=re.MULTILINE)
    assert operator != source
    return Published(
        operator=_with(cluster, installed.operator, "operator", _OPERATOR, operator),
        trainer=_with(cluster, installed.trainer, "trainer", _TRAINER, version),
        tiny_model=installed.tiny_model,
    )


def _with(cluster: Cluster, image: str, repository: str, path: str, text: str) -> str:
    """Return the name of an image that is another one, but for that file in it the same."""
    name = f"localhost/qwensft/{repository}:newer"
    with TemporaryDirectory() as folder:
        (Path(folder) / "Dockerfile").write_text(f"FROM {image}\nCOPY file {path}\n")
        (Path(folder) / "file").write_text(text)
        (Path(folder) / "file").chmod(0o644)  # whatever this machine's umask is
        cluster.build_image(name, Path(folder), [], lambda _: None)
    return cluster.publish(name, repository, cluster.image_id(name)[:12])
