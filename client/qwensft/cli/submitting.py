"""`submit`: ConfigMaps first, then the jobs that read them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from qwensft.api.v1alpha1 import parse_job
from qwensft.cli.documents import Manifests
from qwensft.cli.failures import CommandError

if TYPE_CHECKING:
    from qwensft.client import Client

_MANAGER = "qwensft-client"


def namespace_of(manifests: Manifests) -> str:
    """Return the namespace that the jobs of a file name; "" where they name none.

    Raises:
        CommandError: they name several.
    """
    names = {str(job.get("metadata", {}).get("namespace") or "") for job in manifests.jobs}
    if len(names) > 1:
        raise CommandError(f"{manifests.path} has jobs for several namespaces: submit them one by one")
    return names.pop()


def submit(client: Client, manifests: Manifests, *, dry_run: bool) -> Iterator[str]:
    """Send the objects of a file, and yield a line for each.

    Raises:
        CommandError: the file has other objects.
        InvalidJobError: a job breaks a rule; nothing was sent.
    """
    for document in manifests.others:
        if document.get("kind") != "ConfigMap":
            raise CommandError(
                f"{manifests.path} has a {document.get('kind') or 'document without a kind'}: submit sends QwenSFTJobs "
                "and ConfigMaps; send the rest with kubectl apply"
            )
    for raw in manifests.jobs:
        parse_job(raw)
    if dry_run:
        for raw in manifests.jobs:
            client.create_job(raw, dry_run=True)
            yield f"{raw['metadata']['name']}: the cluster would take it"
        return
    for document in manifests.others:
        stored = client.connection.apply("configmaps", document, manager=_MANAGER)
        yield f"ConfigMap {stored['metadata']['name']}: sent"
    for raw in manifests.jobs:
        job = client.apply_job(raw)
        edited = job.metadata.generation > 1
        yield f"{job.metadata.name}: {'edited' if edited else 'submitted'} in namespace {job.metadata.namespace}"
