"""`submit`: ConfigMaps first, then the jobs that read them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from qwensft.api.v1alpha1 import parse_job
from qwensft.cli.documents import Manifests, metadata_of
from qwensft.cli.failures import CommandError
from qwensft.client.errors import NotFoundError
from qwensft.client.jobs import FIELD_MANAGER

if TYPE_CHECKING:
    from qwensft.client import Client

_WOULD = "the cluster would take it"
_ROWS = "rows"  # what the client calls a dataset that it brings


def namespace_of(manifests: Manifests) -> str:
    """Return the namespace that the jobs of a file name; "" where they name none.

    Raises:
        CommandError: they name several.
    """
    names = {str(metadata_of(job).get("namespace") or "") for job in manifests.jobs}
    if len(names) > 1:
        raise CommandError(f"{manifests.path} has jobs for several namespaces: submit them one by one")
    return names.pop()


def bring(client: Client, manifests: Manifests, rows: Mapping[str, Path]) -> str:
    """Create the job of a file and bring the rows of its one dataset; say so in a line. A break is gone on with.

    Raises:
        CommandError: the file has more than that.
        ClientError: the rows have not arrived, or the cluster refuses.
    """
    name, path = next(iter(rows.items()))
    raw = manifests.jobs[0]
    job = parse_job(raw)
    datasets = raw["spec"]["datasets"]
    kept = {"name", "format", "source", "columns", "tags"}
    if len(manifests.documents) != 1 or len(datasets) != 1 or len(rows) != 1 or job.spec.evaluation_sets:
        raise CommandError(f"{manifests.path}: rows are brought for a job alone in its file that has one dataset")
    if datasets[0]["name"] != name or name != _ROWS:
        raise CommandError(
            f"--rows {name}=…: the dataset of rows that are brought is called {_ROWS}; call it so in the job"
        )
    if more := datasets[0].keys() - kept:
        raise CommandError(f"{manifests.path}: datasets[{name}].{min(more)} cannot be set for rows that are brought")
    metadata, spec = raw["metadata"], raw["spec"]
    client.train(
        metadata["name"],
        rows=path,
        format=datasets[0]["format"],
        columns=datasets[0].get("columns"),
        tags=datasets[0].get("tags"),
        labels=metadata.get("labels"),
        annotations=metadata.get("annotations"),
        progress=True,
        **{block: value for block, value in spec.items() if block != "datasets"},
    )
    return f"{metadata['name']}: submitted in namespace {client.namespace}, with the rows of {path.name}"


def submit(client: Client, manifests: Manifests, *, dry_run: bool, force: bool = False) -> Iterator[str]:
    """Send the objects of a file, and yield a line for each.

    Args:
        client: Where to.
        manifests: The file.
        dry_run: Ask the cluster alone whether it would take them: to create what is not there, to edit what is.
        force: Take over fields that someone else has set.

    Raises:
        CommandError: the file has other objects.
        InvalidJobError: a job breaks a rule; nothing was sent.
        ConflictError: someone else has set fields to other values.
    """
    for document in manifests.others:
        if document.get("kind") != "ConfigMap":
            raise CommandError(
                f"{manifests.path} has a {document.get('kind') or 'document without a kind'}: submit sends QwenSFTJobs "
                "and ConfigMaps; send the rest with kubectl apply"
            )
        if not metadata_of(document).get("name"):
            raise CommandError(f"{manifests.path} has a ConfigMap without metadata.name: give it one")
    for raw in manifests.jobs:
        parse_job(raw)
    for document in manifests.others:
        stored = client.connection.apply("configmaps", document, manager=FIELD_MANAGER, force=force, dry_run=dry_run)
        yield f"ConfigMap {stored['metadata']['name']}: {_WOULD if dry_run else 'sent'}"
    for raw in manifests.jobs:
        before = _generation(client, raw["metadata"]["name"])
        job = client.apply_job(raw, force=force, dry_run=dry_run)
        change = {0: "", job.metadata.generation: "its spec as it was"}.get(before, "an edit")
        if dry_run:
            yield f"{job.metadata.name}: {_WOULD}" + (f", {change}" if change else "")
        else:
            done = {"": "submitted", "an edit": "edited"}.get(change, change)
            yield f"{job.metadata.name}: {done} in namespace {job.metadata.namespace}"


def _generation(client: Client, name: str) -> int:
    """Of the job that is there: it grows with every edit of the spec; 0 where there is none."""
    try:
        return client.get_job(name).metadata.generation
    except NotFoundError:
        return 0
