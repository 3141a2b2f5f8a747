"""Rows that are too many for a ConfigMap, onto a claim of the real cluster: broken off, gone on with, compared."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from quickstart.setup import Ready

from qwensft import Client
from qwensft.api.v1alpha1 import ANNOTATION_ROWS
from qwensft.client import commands, pods, transfer

MEGABYTE = 10**6
ROW = {"instruction": "How long is the warranty on the frame?", "output": "The frame has a ten-year warranty."}


class BrokenOffError(Exception):
    """What a test throws in the middle of a transfer, as Ctrl-C would."""


def rows_of(path: Path, size: int) -> Path:
    """Write at least so many bytes of rows, no two alike."""
    with path.open("w") as file:
        while file.tell() < size:
            file.write(json.dumps(ROW | {"input": os.urandom(2**15).hex()}) + "\n")
    return path


@pytest.mark.timeout(1800)
def test_a_gigabyte_of_rows_arrives_although_it_is_broken_off(
    client: Client, ready: Ready, spec: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = rows_of(tmp_path / "many.jsonl", 1000 * MEGABYTE)
    arguments = {"name": "gigabyte", "rows": rows, "format": "alpaca", **spec, "run_policy": {"suspend": True}}
    reached: list[int] = []
    send = transfer.send

    def broken_off(*positional: Any, tell: Any, **named: Any) -> None:
        def stop_halfway(done: int, size: int) -> None:
            if done > size / 2:
                raise BrokenOffError
            tell(done, size)

        send(*positional, tell=stop_halfway, **named)

    monkeypatch.setattr(transfer, "send", broken_off)
    with pytest.raises(BrokenOffError):
        client.train(**arguments)
    held = client.get_job("gigabyte")
    assert held.spec.run_policy.suspend
    assert ANNOTATION_ROWS in held.metadata.annotations

    def told(*positional: Any, tell: Any, **named: Any) -> None:
        send(*positional, tell=lambda done, size: reached.append(done), **named)

    monkeypatch.setattr(transfer, "send", told)
    began = time.monotonic()
    client.train(**arguments)
    sys.stdout.write(f"the second half of {rows.stat().st_size / 1e9:.2f} GB in {time.monotonic() - began:.0f} s\n")
    assert reached[0] > 0.3 * rows.stat().st_size
    assert reached[0] % transfer.PART == 0

    there = client.get_job("gigabyte")
    assert ANNOTATION_ROWS not in there.metadata.annotations
    pod = ready.kubectl.get("pod", "rows-gigabyte", "-n", client.namespace)
    assert not pod or "deletionTimestamp" in pod["metadata"]
    digest = hashlib.file_digest(rows.open("rb"), "sha256").hexdigest()
    look = pods.manifest(there, "gigabyte-look", "rows-gigabyte", client.image_for(there), writable=False)
    pods.start(client.connection, look)
    said = commands.run(client.connection, "gigabyte-look", pods.CONTAINER, ["sha256sum", f"{pods.MOUNT}/rows.jsonl"])
    assert said.decode().split()[0] == digest
    listed = commands.run(client.connection, "gigabyte-look", pods.CONTAINER, ["ls", pods.MOUNT])
    assert listed.split() == [b"rows.jsonl"]

    client.delete_job("gigabyte")
    deadline = time.monotonic() + 120
    while left := [
        kind
        for kind in ("pods", "persistentvolumeclaims", "configmaps")
        for item in ready.kubectl.items(kind, "-n", client.namespace)
        if "gigabyte" in item["metadata"]["name"]
    ]:
        assert time.monotonic() < deadline, left
        time.sleep(1)
