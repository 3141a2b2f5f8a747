"""Commands that ask a cluster, against an API server on this machine: what they change, and how they end."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.unit.client.api_server import Answer, Request, Server, recorded

from qwensft.cli import volume_pod, volumes
from qwensft.client import commands, transfer

from .conftest import RECORDED, Cli

Document = dict[str, Any]
JOB: Document = {
    "apiVersion": "qwensft.io/v1alpha1",
    "kind": "QwenSFTJob",
    "metadata": {"name": "demo"},
    "spec": {
        "model": {"name": "Qwen/Qwen3-8B"},
        "datasets": [{"name": "rows", "format": "alpaca", "source": {"configMap": {"name": "r", "key": "r.jsonl"}}}],
        "storage": {"volume": {"claimTemplate": {"size": "10Gi"}}},
    },
}


@pytest.fixture
def job_file(tmp_path: Path) -> Callable[..., str]:
    def write(**spec: Any) -> str:
        path = tmp_path / "job.yaml"
        path.write_text(yaml.safe_dump({**JOB, "spec": JOB["spec"] | spec}))
        return str(path)

    return write


def writes(server: Server) -> list[Request]:
    return [request for request in server.asked if request.method != "GET"]


def test_a_dry_run_asks_for_what_submit_would_do(cli: Cli, server: Server, job_file: Callable[..., str]) -> None:
    assert cli("submit", job_file(), "--dry-run").out == "demo: the cluster would take it\n"
    assert cli("submit", job_file()).out == "demo: submitted in namespace team\n"
    assert cli("submit", job_file(), "--dry-run").out == "demo: the cluster would take it, its spec as it was\n"
    edit = job_file(runPolicy={"suspend": True})
    assert cli("submit", edit, "--dry-run").out == "demo: the cluster would take it, an edit\n"
    assert "runPolicy" not in server.objects["qwensftjobs"]["demo"]["spec"]
    assert cli("submit", edit).out == "demo: edited in namespace team\n"


def test_a_field_that_another_has_set_is_told_with_the_way_out(
    cli: Cli, server: Server, job_file: Callable[..., str]
) -> None:
    def conflicts(request: Request) -> Answer | None:
        return recorded("applied by two others") if request.first("force") == "false" else None

    server.rules.append(conflicts)
    ended = cli("submit", job_file())
    assert ended.code == 3
    assert "ana has set spec.runPolicy.suspend" in ended.err
    assert "kubectl-patch has set spec.runPolicy.maxRestarts" in ended.err
    assert "take them over: qwensft submit --force" in ended.err
    assert ended.err.count("\n") == 1
    assert cli("submit", job_file(), "--force").code == 0
    assert writes(server)[-1].first("force") == "true"


def claim(name: str, **metadata: Any) -> Document:
    labels = {"app.kubernetes.io/managed-by": "qwen-sft-operator", "qwensft.io/job": name}
    return {
        "metadata": {"name": f"{name}-workspace", "labels": labels, **metadata},
        "spec": {"resources": {"requests": {"storage": "20Gi"}}},
    }


def test_claims_are_looked_at_again_after_the_answer(cli: Cli, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("gone", "back", "mounted", "anew"):
        server.put("persistentvolumeclaims", claim(name))
    server.put("persistentvolumeclaims", claim("going", deletionTimestamp="2026-11-30T03:00:00Z"))

    def while_it_was_asked(*_: object) -> bool:
        server.put("qwensftjobs", {**JOB, "metadata": {"name": "back"}})
        volume = {"persistentVolumeClaim": {"claimName": "mounted-workspace"}}
        server.put("pods", {"metadata": {"name": "p"}, "spec": {"volumes": [volume]}})
        del server.objects["persistentvolumeclaims"]["anew-workspace"]
        server.put("persistentvolumeclaims", claim("anew"))
        return True

    monkeypatch.setattr(volumes, "is_terminal", lambda _: True)
    monkeypatch.setattr("typer.confirm", while_it_was_asked)
    ended = cli("clean", "--claims")
    assert "going-workspace" not in ended.out
    assert ended.out.endswith("removed\n")
    assert sorted(line.split()[0] for line in ended.err.splitlines()) == [
        "anew-workspace",
        "back-workspace",
        "mounted-workspace",
    ]
    assert ended.code == 1
    assert sorted(server.objects["persistentvolumeclaims"]) == [
        "anew-workspace",
        "back-workspace",
        "going-workspace",
        "mounted-workspace",
    ]
    (deleted,) = [request for request in server.asked if request.method == "DELETE"]
    assert set(deleted.body["preconditions"]) == {"uid", "resourceVersion"}


def test_a_claim_that_changes_while_it_is_deleted_stays(cli: Cli, server: Server) -> None:
    server.put("persistentvolumeclaims", claim("gone"))

    def changes(request: Request) -> Answer | None:
        if request.method == "DELETE":
            server.put("persistentvolumeclaims", server.objects["persistentvolumeclaims"]["gone-workspace"])
        return None

    server.rules.append(changes)
    ended = cli("clean", "--claims", "--yes")
    assert (ended.code, "gone-workspace was changed" in ended.err) == (1, True)
    assert ended.out.endswith("nothing was removed\n")
    assert "gone-workspace" in server.objects["persistentvolumeclaims"]


@pytest.fixture
def trained(server: Server) -> Path:
    """A run that has succeeded, and the folder of its merged model on the volume."""
    folder = server.root / "run" / "merged"
    folder.mkdir(parents=True)
    files = {"config.json": b"{}", "model.safetensors": os.urandom(3 * 2**20)}
    for name, content in files.items():
        (folder / name).write_bytes(content)
    listed = {
        name: {"sha256": hashlib.sha256(content).hexdigest(), "sizeBytes": len(content)}
        for name, content in files.items()
    }
    manifest = json.dumps(listed).encode()
    (folder / "qwensft-manifest.json").write_bytes(manifest)
    document = yaml.safe_load((RECORDED / "succeeded.yaml").read_text())
    document["metadata"] = {"name": "demo", "uid": "u", "generation": 1}
    document["status"]["outputs"]["merged"]["digest"] = f"sha256:{hashlib.sha256(manifest).hexdigest()}"
    document["spec"]["worker"] = {"image": "trainer:1"}
    server.put("qwensftjobs", document)
    server.put("persistentvolumeclaims", {"metadata": {"name": "demo-workspace"}})
    return folder


def test_a_pull_goes_on_in_the_middle_of_a_file(
    cli: Cli, server: Server, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(volume_pod, "_RANGE", 2**20)
    server.breaks_after = 2 * 2**20 + 2**19  # in the middle of a range of the large file
    ended = cli("pull", "demo", "--to", "model")
    assert ended.code == 0, ended.err
    assert "each as the run has told it" in ended.out
    for path in trained.iterdir():
        assert (tmp_path / "model" / path.name).read_bytes() == path.read_bytes()
    offsets = [int(command[4]) for command in server.commands if command[3].endswith("model.safetensors")]
    assert offsets == sorted(set(offsets)), "something was fetched twice"
    assert any(offset % 2**20 for offset in offsets), "it went on where a range begins, not where it broke"
    assert server.objects["pods"] == {}


def test_a_pull_that_is_given_up_keeps_its_part_and_no_file(
    cli: Cli, server: Server, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "TRIES", 1)
    server.breaks_after = 2**20
    ended = cli("pull", "demo", "--to", "model")
    assert (ended.code, "try again: it goes on" in ended.err) == (3, True)
    assert not (tmp_path / "model" / "model.safetensors").exists()
    assert (tmp_path / "model" / "model.safetensors.part").stat().st_size > 0
    assert server.objects["pods"] == {}
    server.breaks_after = None
    assert cli("pull", "demo", "--to", "model").code == 0
    assert (tmp_path / "model" / "model.safetensors").read_bytes() == (trained / "model.safetensors").read_bytes()


def test_bytes_that_a_connection_loses_are_fetched_again(
    cli: Cli, server: Server, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kubernetes is known to drop the end of what a command prints, and to say that all went well."""
    cut = volume_pod._READ.replace("out.flush()", "os._exit(0)")  # what is in its buffer is lost
    scripts = [cut, volume_pod._READ, volume_pod._READ, cut]
    monkeypatch.setattr(volume_pod, "_RANGE", 2**20 + 1)

    def start(connection: Any, pod: str, container: str, command: list[str], *, stdin: bool = False) -> Any:
        if command[2] == volume_pod._READ and scripts:
            command = [*command[:2], scripts.pop(), *command[3:]]
        return original(connection, pod, container, command, stdin=stdin)

    original = commands.start
    monkeypatch.setattr(commands, "start", start)
    ended = cli("pull", "demo", "--to", "model")
    assert ended.code == 0, ended.err
    assert not scripts
    for path in trained.iterdir():
        assert (tmp_path / "model" / path.name).read_bytes() == path.read_bytes()


def test_a_reader_ends_only_once_all_has_arrived(server: Server, trained: Path) -> None:
    """However slow its client is: what is on its way when it ends is given up after a while."""
    reading = subprocess.Popen(
        [sys.executable, "-c", volume_pod._READ, str(trained / "config.json"), "1", "9"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert reading.stdout is not None
    assert reading.stdout.read(9) == (1).to_bytes(8, "big") + b"}"
    with pytest.raises(subprocess.TimeoutExpired):
        reading.wait(0.5)
    assert reading.communicate(b"\n")[0] == b""
    assert reading.returncode == 0


FULL = pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")


def test_a_folder_that_cannot_be_made_is_told_as_that(cli: Cli, server: Server, trained: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    ended = cli("pull", "demo", "--to", "file/model")
    assert ended.code == 2
    assert ended.err.splitlines()[-1] == "error: file/model: Not a directory; correct the path, or try again"
    assert server.objects["pods"] == {}


@FULL
def test_a_full_disk_is_told_with_the_file(cli: Cli, server: Server, trained: Path, tmp_path: Path) -> None:
    target = tmp_path / "model"
    target.mkdir()
    (target / "model.safetensors.part").symlink_to("/dev/full")
    ended = cli("pull", "demo", "--to", str(target))
    assert ended.code == 2
    said = f"error: {target}/model.safetensors.part: No space left on device; make room, then call again"
    assert ended.err.splitlines()[-1] == said


@FULL
def test_init_leaves_no_half_file(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "rows.jsonl").write_text('{"instruction": "a", "output": "b"}\n')
    options = ("--rows", "rows.jsonl", "--model", "Qwen/Qwen3-8B", "--gpu", "24Gi", "--format", "alpaca")

    def full(path: Path, text: str, encoding: str) -> None:
        path.touch()
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(Path, "write_text", full)
    ended = cli("init", *options)
    assert (ended.code, "job.yaml: No space left on device" in ended.err) == (2, True)
    assert not (tmp_path / "job.yaml").exists()
    assert cli("init", *options, "--file", "nowhere/job.yaml").code == 2


def program(*arguments: str, **options: Any) -> subprocess.Popen[str]:
    code = "from qwensft.cli.main import main; main()"
    return subprocess.Popen([sys.executable, "-c", code, *arguments], text=True, stderr=subprocess.PIPE, **options)


ESTIMATE = ("estimate", "--model", "Qwen/Qwen3-8B", "--gpu", "H100")


@FULL
def test_an_output_that_is_full_is_told_as_that() -> None:
    with Path("/dev/full").open("w") as full:
        ended = program(*ESTIMATE, stdout=full)
        assert ended.communicate()[1] == "error: No space left on device; make room, then call again\n"
    assert ended.returncode == 2


def test_a_reader_that_has_seen_enough_is_no_failure() -> None:
    read, write = os.pipe()
    os.close(read)
    ended = program(*ESTIMATE, stdout=write)
    os.close(write)
    assert (ended.communicate()[1], ended.returncode) == ("", 0)


def test_an_output_without_the_signs_is_written_all_the_same(server: Server) -> None:
    server.put("qwensftjobs", {**JOB, "status": {"phase": "Training", "stages": {}}})
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    shown = program("status", "demo", stdout=subprocess.PIPE, env=environment)
    out, err = shown.communicate()
    assert (shown.returncode, err) == (0, "")
    assert "? prepare" in out


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_what_ends_the_program_ends_its_pod(server: Server, trained: Path, tmp_path: Path, how: signal.Signals) -> None:
    def stalls(request: Request) -> Answer | None:
        if request.path.endswith("/exec"):
            time.sleep(10)
        return None

    server.rules.append(stalls)
    before = signal.signal(how, signal.SIG_DFL)  # under nohup it is ignored, and what is ignored is inherited
    try:
        pulling = program("pull", "demo", "--to", str(tmp_path / "model"), stdout=subprocess.PIPE)
    finally:
        signal.signal(how, before)
    deadline = time.monotonic() + 30
    while not any(request.path.endswith("/exec") for request in server.asked):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert len(server.objects["pods"]) == 1
    pulling.send_signal(how)
    pulling.communicate()
    assert pulling.returncode == 130
    assert server.objects["pods"] == {}


def test_rows_that_cannot_be_sent_are_no_matter_of_the_cluster(
    cli: Cli, server: Server, job_file: Callable[..., str], tmp_path: Path
) -> None:
    (tmp_path / "rows.jsonl").write_text("")
    ended = cli("submit", job_file(), "--rows", "rows=rows.jsonl")
    assert (ended.code, "rows.jsonl is empty" in ended.err) == (1, True)


def test_a_bad_context_is_no_fault_of_the_program(cli: Cli, server: Server) -> None:
    ended = cli("list", "--context", "elsewhere")
    assert (ended.code, ended.err) == (3, "error: the kubeconfig has no context elsewhere; there are here\n")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("metadata: null", (1, "metadata")),
        ("metadata: [a]", (1, "metadata")),
        ("---\nkind: ConfigMap\nmetadata: null", (2, "a ConfigMap without metadata.name")),
        ("---\nkind: ConfigMap", (2, "a ConfigMap without metadata.name")),
    ],
)
def test_a_file_without_names_is_no_fault_of_the_program(
    cli: Cli, server: Server, tmp_path: Path, change: str, expected: tuple[int, str]
) -> None:
    job = {**JOB} if change.startswith("---") else {key: value for key, value in JOB.items() if key != "metadata"}
    (tmp_path / "job.yaml").write_text(f"{yaml.safe_dump(job)}{change}\n")
    for options in ((), ("--dry-run",)):
        ended = cli("submit", "job.yaml", *options)
        assert (ended.code, expected[1] in ended.err) == (expected[0], True), ended.err
    assert writes(server) == []
