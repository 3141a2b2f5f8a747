"""Rows where the cluster can read them: a ConfigMap where they are small, else a claim that is filled through a pod.

The run is made first, held: the API server has judged it before anything is sent, and what is made for its rows has it
as owner and goes with it. An annotation says which rows it waits for, so that a call that was broken off can be made
again (ADR 0173).
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any, Final

from qwensft.api.v1alpha1 import ANNOTATION_ROWS, PLURAL, QwenSFTJob
from qwensft.client import pods, transfer
from qwensft.client.connection import Connection
from qwensft.client.errors import NameExistsError, TransferError
from qwensft.client.reading import Document, read_job
from qwensft.client.rows import RowsFile

SMALL: Final = 900_000  # bytes in a ConfigMap, which holds 1 MiB with its metadata
_SPARE: Final = 64 * 2**20  # bytes of a claim beside the rows: a file system's own


def name_of(run: str) -> str:
    """Return the name of what holds a run's rows: ConfigMap, or claim and pod.

    It begins alike for all, so that an installation that limits claims can allow these: rows-*.
    """
    return f"rows-{run}"


def source(run: str, rows: RowsFile) -> Document:
    """Return the source of a dataset of these rows, as it stands in the spec."""
    if rows.size <= SMALL:
        return {"configMap": {"name": name_of(run), "key": rows.name}}
    return {"volume": {"claimName": name_of(run), "path": rows.name}}


def reserve(connection: Connection, document: Document, rows: RowsFile) -> QwenSFTJob:
    """Create a run that is held until its rows are there, or return the one that an earlier call has left so.

    Raises:
        NameExistsError: another run, or one with other rows or another spec, has the name.
        RefusedError: the API server refuses it.
    """
    annotations = {**document["metadata"].get("annotations", {}), ANNOTATION_ROWS: rows.sha256}
    spec = {**document["spec"], "runPolicy": {**document["spec"].get("runPolicy", {}), "suspend": True}}
    held = {**document, "metadata": {**document["metadata"], "annotations": annotations}, "spec": spec}
    try:
        return read_job(connection.create(PLURAL, held))
    except NameExistsError:
        found = connection.get(PLURAL, document["metadata"]["name"])
        waits = (found["metadata"].get("annotations") or {}).get(ANNOTATION_ROWS)
        if waits != rows.sha256 or found["spec"] != spec:
            raise
        return read_job(found)


def place(
    connection: Connection,
    job: QwenSFTJob,
    rows: RowsFile,
    *,
    image: Callable[[], str],
    tell: Callable[[int, int], None],
) -> None:
    """Bring the rows of a held run to the cluster; what is there already is not sent again.

    Args:
        connection: Where the run is.
        job: The run, as `reserve` returns it.
        rows: Its rows.
        image: Is asked for the image of a pod, if one has to be made.
        tell: Is told the bytes that are there, and all of them.

    Raises:
        TransferError: they have not arrived; another call goes on.
        RefusedError: a quota or policy refuses what is made for them.
    """
    if rows.size <= SMALL:
        _create(connection, "configmaps", _config_map(job, rows))
        return
    _create(connection, "persistentvolumeclaims", _claim(job, rows))
    run = job.metadata.name
    name, target = name_of(run), f"{pods.MOUNT}/{rows.name}"
    try:
        # The pod goes before the run goes on: a ReadWriteOncePod claim is free once it is gone.
        with pods.held(connection, pods.manifest(job, name, name, image(), writable=True)):
            transfer.send(connection, name, rows.path, target, sha256=rows.sha256, tell=tell)
    except TransferError as error:
        raise TransferError(
            f"the rows of run {run} in namespace {connection.namespace} have not arrived: {error}; the run is held: "
            f"call again with the name {run}, which goes on with what has arrived, or delete it"
        ) from error


def release(connection: Connection, job: QwenSFTJob, *, suspend: bool) -> QwenSFTJob:
    """Let a run go on whose rows are there; `suspend` is what its user wants."""
    patch = {"metadata": {"annotations": {ANNOTATION_ROWS: None}}, "spec": {"runPolicy": {"suspend": suspend}}}
    return read_job(connection.merge(PLURAL, job.metadata.name, patch))


def _create(connection: Connection, kind: str, document: Document) -> None:
    """Create what holds the rows. What an earlier call has made for the same run stays as it is.

    Raises:
        NameExistsError: something else has the name.
    """
    try:
        connection.create(kind, document)
    except NameExistsError:
        name = document["metadata"]["name"]
        owners = connection.get(kind, name)["metadata"].get("ownerReferences")
        if owners != document["metadata"]["ownerReferences"]:
            raise NameExistsError(
                f"{document['kind']} {name} is there already, and not of this run: delete it, or name the run otherwise"
            ) from None


def _metadata(job: QwenSFTJob) -> dict[str, Any]:
    labels = {"app.kubernetes.io/name": "qwensft-client"}
    return {"name": name_of(job.metadata.name), "labels": labels, "ownerReferences": [pods.owner(job)]}


def _config_map(job: QwenSFTJob, rows: RowsFile) -> Document:
    content = rows.path.read_bytes()
    try:
        data: Document = {"data": {rows.name: content.decode()}}
    except UnicodeDecodeError:
        data = {"binaryData": {rows.name: base64.b64encode(content).decode()}}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": _metadata(job), **data}


def _claim(job: QwenSFTJob, rows: RowsFile) -> Document:
    template = job.spec.storage.volume.claim_template
    mebibytes = -(-(rows.size * 11 // 10 + _SPARE) // 2**20)
    spec: Document = {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": f"{mebibytes}Mi"}},
    }
    if template and template.storage_class_name:
        spec["storageClassName"] = template.storage_class_name
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": _metadata(job), "spec": spec}
