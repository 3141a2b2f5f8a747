"""Rows onto a claim through a pod, whose commands run here: breaks, changed files, names, and what is left behind."""

from __future__ import annotations

import hashlib
import os
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from tests.unit.client.api_server import Answer, Request, Server, recorded

from qwensft import Client
from qwensft.client import pods, transfer
from qwensft.client.errors import RowsError, TransferError

PART = 2**16
JOB: dict[str, Any] = {"model": "Qwen/Qwen3-8B", "storage": "10Gi", "format": "alpaca"}


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """More than a ConfigMap holds."""
    path = tmp_path / "many.jsonl"
    path.write_bytes(b'{"instruction": "a", "output": "b"}\n' * 30_000)
    return path


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(transfer.send.__kwdefaults__ or {}, "part", PART)


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def trained(client: Client, rows: Path, name: str | None = "demo") -> None:
    client._image = "trainer:1"
    client.train(name, rows=rows, **JOB)


def test_rows_arrive_whole_over_a_connection_that_breaks(client: Client, server: Server, rows: Path) -> None:
    server.breaks_after = 5 * PART + 100
    trained(client, rows)
    assert sha256(server.root / "rows.jsonl") == sha256(rows)
    assert [path.name for path in server.root.iterdir() if path.suffix == ".part"] == []
    assert server.objects["pods"] == {}
    assert server.objects["qwensftjobs"]["demo"]["spec"]["runPolicy"]["suspend"] is False


def test_what_does_not_arrive_names_its_run(client: Client, server: Server, rows: Path) -> None:
    def away(request: Request) -> Answer | None:
        return Answer(500, b"error dialing backend") if request.path.endswith("/exec") else None

    server.rules.append(away)
    with pytest.raises(TransferError, match="error dialing backend") as failed:
        trained(client, rows, None)
    (run,) = server.objects["qwensftjobs"]
    assert f"the rows of run {run} in namespace team have not arrived: " in str(failed.value)
    assert f"; the run is held: call again with the name {run}" in str(failed.value)
    assert server.objects["pods"] == {}, "a pod was left"


def test_what_is_interrupted_leaves_no_pod_and_names_its_run(client: Client, server: Server, rows: Path) -> None:
    original = transfer.send

    def send(*positional: Any, tell: Any, **named: Any) -> None:
        def stop(done: int, size: int) -> None:
            raise KeyboardInterrupt

        original(*positional, tell=stop, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transfer, "send", send)
        with pytest.raises(KeyboardInterrupt) as interrupt:
            trained(client, rows)
    assert interrupt.value.__notes__ == ["run demo is held: call again with this name to go on, or delete it"]
    assert server.objects["pods"] == {}
    trained(client, rows)
    assert sha256(server.root / "rows.jsonl") == sha256(rows)


def test_rows_that_change_while_they_are_sent_are_told(client: Client, server: Server, rows: Path) -> None:
    digest = sha256(rows)
    with rows.open("r+b") as file:
        file.write(b" ")
    with pytest.raises(RowsError, match=r"many\.jsonl was changed while it was sent: call again"):
        transfer.send(client.connection, "p", rows, f"{pods.MOUNT}/rows.jsonl", sha256=digest)
    assert list(server.root.glob("*.part")) == []


def test_a_long_check_at_the_end_is_not_silent(client: Client, server: Server, rows: Path) -> None:
    """It keeps the pod alive, and says something, so that nothing between takes the connection for dead."""
    transfer.send(client.connection, "p", rows, f"{pods.MOUNT}/rows.jsonl", sha256=sha256(rows))
    script = next(command[2] for command in server.commands if "rename" in command[2])
    assert "print(file=sys.stderr, flush=True)" in script
    os.rename(server.root / "rows.jsonl", server.root / "again.part")
    (server.root / "alive").unlink()
    hurried = next(command for command in server.commands if "rename" in command[2])[:]
    hurried[2] = hurried[2].replace("> 20", ">= 0")
    hurried[3] = str(server.root / "again.part")
    ended = subprocess.run(hurried, check=True, capture_output=True)
    assert ended.stderr.count(b"\n") >= 2
    assert (server.root / "alive").exists()


def test_a_pod_is_kept_alive_while_nothing_is_sent(
    client: Client, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pods, "_TOUCHED_EVERY", 0.1)
    manifest = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "ownerReferences": []}, "spec": {}}
    with pods.held(client.connection, manifest):
        time.sleep(1.5)
        touched = (server.root / "alive").stat().st_mtime
        assert time.time() - touched < 1
    assert server.objects["pods"] == {}
    count = len(server.commands)
    time.sleep(0.5)
    assert len(server.commands) <= count + 1


def test_what_went_wrong_is_told_and_not_that_a_pod_could_not_be_deleted(client: Client, server: Server) -> None:
    manifest = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "ownerReferences": []}, "spec": {}}
    server.rules.append(lambda request: recorded("not permitted") if request.method == "DELETE" else None)
    with pytest.raises(ZeroDivisionError), pods.held(client.connection, manifest):
        raise ZeroDivisionError
