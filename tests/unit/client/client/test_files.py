"""Files of a run, read in a pod whose commands run here."""

from __future__ import annotations

import pytest
from tests.unit.client.api_server import Server

from qwensft import Client
from qwensft.client import commands, pods
from qwensft.client.errors import TransferError
from qwensft.client.files import RunFiles

FILES = {
    "train/1/log.jsonl": b"{}\n[]\n" * 3,
    "train/[2]/log.jsonl": bytes(range(256)) * 5000,
    "train/3/log.jsonl": b"",
}


@pytest.fixture
def files(client: Client, server: Server) -> RunFiles:
    for name, content in FILES.items():
        path = server.root / "run" / name
        path.parent.mkdir(parents=True)
        path.write_bytes(content)
    return RunFiles(client.connection, "p", pods.CONTAINER, f"{pods.MOUNT}/run")


def test_files_are_read_as_they_are(files: RunFiles) -> None:
    assert files.read("train/*/log.jsonl") == FILES
    assert files.read("nothing/*") == {}


def test_an_answer_that_was_cut_off_is_no_file(files: RunFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    run = commands.run
    for lost in (1, 4, 100, 20_000):
        monkeypatch.setattr(commands, "run", lambda *asked, lost=lost: run(*asked)[:-lost])
        with pytest.raises(TransferError, match="has lost bytes"):
            files.read("train/*/log.jsonl")
