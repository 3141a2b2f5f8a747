"""Commands in containers: what they print is taken as it comes, what ends them is told."""

from __future__ import annotations

import sys
import tracemalloc
from contextlib import closing

import pytest
from tests.unit.client.api_server import Answer, Server, recorded

from qwensft import Client
from qwensft.client import commands
from qwensft.client.commands import CommandFailedError
from qwensft.client.errors import NotPermittedError, TransferError

MANY = 64 * 2**20


def python(script: str, *arguments: str) -> list[str]:
    return [sys.executable, "-c", script, *arguments]


def test_what_is_printed_is_never_whole_in_memory(client: Client, server: Server) -> None:
    script = "import os, sys\nblock = bytes(1 << 20)\nfor _ in range(64): os.write(1, block)"
    tracemalloc.start()
    with closing(commands.start(client.connection, "p", "files", python(script))) as running:
        assert sum(map(len, running.output())) == MANY
    assert tracemalloc.get_traced_memory()[1] < 20 * 2**20
    tracemalloc.stop()


def test_a_command_that_fails_says_its_last_words(client: Client, server: Server) -> None:
    with pytest.raises(CommandFailedError, match="a command in Pod p failed: no such thing"):
        commands.run(client.connection, "p", "files", python("import sys; sys.exit('at first\\nno such thing')"))


def test_a_command_that_takes_no_more_says_why(client: Client, server: Server) -> None:
    script = "import sys; sys.stdin.buffer.read(9); sys.exit('the disk is full')"
    with pytest.raises(CommandFailedError, match="the disk is full"):
        commands.run(client.connection, "p", "files", python(script), stdin=(bytes(2**20) for _ in range(64)))


def test_a_silent_command_is_asked_after_and_in_the_end_given_up(
    client: Client, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "_PING", 0.1)
    assert commands.run(client.connection, "p", "files", ["sh", "-c", "sleep 1; echo late"]) == b"late\n"
    running = commands.start(client.connection, "p", "files", ["sleep", "60"])
    with closing(running), pytest.raises(TransferError, match="has said nothing for 0 s"):
        list(running.output(silence=0.4))


def test_a_connection_that_breaks_is_told(client: Client, server: Server) -> None:
    server.breaks_after = 10
    with pytest.raises(TransferError, match="the connection to Pod p broke") as broken:
        commands.run(client.connection, "p", "files", ["echo", "more than ten bytes"])
    assert not isinstance(broken.value, CommandFailedError)


def test_a_pod_that_is_gone_is_a_transfer_that_fails_and_a_missing_right_is_one(client: Client, server: Server) -> None:
    server.rules.append(lambda _: recorded("no such run"))
    with pytest.raises(TransferError, match="it does not exist"):
        commands.run(client.connection, "p", "files", ["true"])
    server.rules[:] = [lambda _: Answer(500, b"error dialing backend: connection refused")]
    with pytest.raises(TransferError, match="error dialing backend"):
        commands.run(client.connection, "p", "files", ["true"])
    server.rules[:] = [lambda _: recorded("not permitted")]
    with pytest.raises(NotPermittedError, match="ana may not"):
        commands.run(client.connection, "p", "files", ["true"])
