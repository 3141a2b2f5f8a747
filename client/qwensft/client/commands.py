"""A command in a container, over the websocket of `exec`: bytes in, bytes out as they come, the verdict at the end.

kubernetes' own client of this keeps all that a command prints until it has ended, and waits for ever where nobody
answers. This one takes one message after the other: what is not taken yet stays with the sender (ADR 0183).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, suppress
from typing import Any, Final

from qwensft.client.connection import Connection
from qwensft.client.errors import NotFoundError, RefusedError, ServerError, TransferError, UnreachableError

_SILENCE: Final = 300.0  # seconds for which a command may neither read nor write
_LAST_WORDS: Final = 5.0  # seconds for what a command has said that took no more
_PING: Final = 20.0  # seconds of silence until the other side is asked, which also tells what is between: it is in use
_BLOCK: Final = 2**15  # bytes of a message, as kubectl has it
_SAID: Final = 2**14  # bytes of the standard error that are kept: its end
_STDIN, _STDOUT, _STDERR, _VERDICT = range(4)  # channels: the first byte of a message


class CommandFailedError(TransferError):
    """A command has ended by itself, and not well: another try would end alike."""


class Command:
    """A command that runs."""

    def __init__(self, socket: Any, pod: str) -> None:
        self._socket, self._pod = socket, pod
        self._verdict = b""
        self.said = b""
        """The end of what it has written to its standard error."""
        socket.settimeout(_PING)

    def write(self, block: bytes, sent: Callable[[int], None] = lambda _: None) -> None:
        """Write to its standard input; `sent` is told the bytes of each message.

        Raises:
            TransferError: it takes no more.
        """
        from websocket import WebSocketException  # noqa: PLC0415 - kubernetes' own

        self._socket.settimeout(_SILENCE)
        try:
            for begin in range(0, len(block), _BLOCK):
                message = block[begin : begin + _BLOCK]
                self._socket.send_binary(bytes([_STDIN]) + message)
                sent(len(message))
        except (WebSocketException, OSError) as error:
            raise TransferError(f"the connection to Pod {self._pod} broke: {error}") from error
        finally:
            self._socket.settimeout(_PING)

    def output(self, *, silence: float = _SILENCE) -> Iterator[bytes]:
        """Yield what it prints, as it comes, until it has ended.

        Args:
            silence: Seconds for which it may say nothing.

        Raises:
            CommandFailedError: it has failed; the text has the end of what it said.
            TransferError: the connection broke.
        """
        from websocket import ABNF, WebSocketException, WebSocketTimeoutException  # noqa: PLC0415

        heard = time.monotonic()
        while True:
            try:
                opcode, frame = self._socket.recv_data_frame(control_frame=True)
            except WebSocketTimeoutException:
                if time.monotonic() - heard >= silence:
                    raise TransferError(f"a command in Pod {self._pod} has said nothing for {silence:.0f} s") from None
                with suppress(WebSocketException, OSError):  # reading tells
                    self._socket.ping()
                continue
            except (WebSocketException, OSError) as error:
                if self._verdict:
                    break
                raise TransferError(f"the connection to Pod {self._pod} broke: {error}") from error
            if opcode == ABNF.OPCODE_CLOSE:
                break
            if opcode not in (ABNF.OPCODE_BINARY, ABNF.OPCODE_TEXT):
                continue
            heard = time.monotonic()
            if printed := self._take(frame.data):
                yield printed
        self._judge()

    def last_words(self) -> None:
        """Let it say why it takes no more.

        Raises:
            CommandFailedError: that is why.
        """
        self._socket.settimeout(_LAST_WORDS)
        try:
            for _ in self.output(silence=_LAST_WORDS):
                pass
        except CommandFailedError:
            raise
        except TransferError:
            return  # whoever asks knows as much

    def close(self) -> None:
        """Hang up."""
        self._socket.shutdown()

    def _take(self, message: bytes) -> bytes:
        """Take a message: return it if it was printed, and keep what it says otherwise."""
        channel, content = message[:1], message[1:]
        if channel == bytes([_STDERR]):
            self.said = (self.said + content)[-_SAID:]
        elif channel == bytes([_VERDICT]):
            self._verdict += content
        return content if channel == bytes([_STDOUT]) else b""

    def _judge(self) -> None:
        try:
            verdict = json.loads(self._verdict)
        except ValueError:
            raise TransferError(f"the connection to Pod {self._pod} broke before the command had ended") from None
        if verdict.get("status") != "Success":
            last = self.said.decode(errors="replace").strip().rpartition("\n")[2]
            raise CommandFailedError(f"a command in Pod {self._pod} failed: {last or verdict.get('message')}")


def start(connection: Connection, pod: str, container: str, command: list[str], *, stdin: bool = False) -> Command:
    """Start a command in a container.

    Raises:
        TransferError: it does not start; the pod may be gone.
        NotPermittedError: no right to do so.
    """
    try:
        return Command(connection.exec(pod, container, command, stdin=stdin), pod)
    except (NotFoundError, RefusedError, ServerError, UnreachableError) as error:
        raise TransferError(str(error)) from error


def run(
    connection: Connection,
    pod: str,
    container: str,
    command: list[str],
    *,
    stdin: Iterable[bytes] = (),
    sent: Callable[[int], None] = lambda _: None,
) -> bytes:
    """Run a command in a container and return what it prints, which should be little.

    Args:
        connection: Where the pod is.
        pod: Its name.
        container: Name of the container.
        command: Program and arguments.
        stdin: What is written to it; its end is not told: the command must know how much it reads.
        sent: Is told the bytes of each message that was sent.

    Raises:
        TransferError: the connection broke, or the command failed; the text has the end of what it said.
    """
    with closing(start(connection, pod, container, command, stdin=stdin != ())) as running:
        for block in stdin:
            try:
                running.write(block, sent)
            except TransferError:
                running.last_words()
                raise
        return b"".join(running.output())
