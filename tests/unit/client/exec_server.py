"""The other end of an exec: a command that really runs, on this machine, behind a websocket."""

from __future__ import annotations

import base64
import hashlib
import json
import socket
import struct
import subprocess
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .api_server import Document, Server

_UPGRADE = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455


class Exec:
    """A command that runs on this machine, at the other end of a websocket."""

    def __init__(self, handler: BaseHTTPRequestHandler, content: Server, command: list[str]) -> None:
        self.handler, self.content, self.sending = handler, content, threading.Lock()
        self.command = [
            part.replace("/tmp/alive", str(content.root / "alive")).replace("/workspace", str(content.root))  # noqa: S108
            for part in command
        ]
        content.commands.append(self.command)

    def serve(self) -> None:
        key = self.handler.headers["Sec-WebSocket-Key"] + _UPGRADE
        accept = base64.b64encode(hashlib.sha1(key.encode()).digest()).decode()  # noqa: S324 - RFC 6455
        self.handler.send_response(101)
        for name, value in (("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Accept", accept)):
            self.handler.send_header(name, value)
        self.handler.send_header("Sec-WebSocket-Protocol", self.handler.headers["Sec-WebSocket-Protocol"])
        self.handler.end_headers()
        self.handler.close_connection = True
        pipe = subprocess.PIPE
        with subprocess.Popen(self.command, stdin=pipe, stdout=pipe, stderr=pipe) as process:
            threads = [
                threading.Thread(target=self._copy, args=(channel, stream), daemon=True)
                for channel, stream in ((1, process.stdout), (2, process.stderr))
            ]
            threads.append(threading.Thread(target=self._feed, args=(process,), daemon=True))
            for thread in threads:
                thread.start()
            process.wait()
            for thread in threads[:2]:
                thread.join()
            self._end(process.returncode)

    def _copy(self, channel: int, stream: Any) -> None:
        with suppress(OSError):
            while block := stream.read1(2**15):
                self._count(len(block))
                self._send(2, bytes([channel]) + block)

    def _feed(self, process: subprocess.Popen[bytes]) -> None:
        """Give the command what the client sends; answer its pings."""
        assert process.stdin is not None
        with suppress(OSError, struct.error, ValueError):
            while True:
                opcode, content = self._frame()
                if opcode == 9:
                    self._send(10, content)
                elif opcode == 8:
                    return
                elif content[:1] == b"\0":
                    self._count(len(content) - 1)
                    process.stdin.write(content[1:])
                    process.stdin.flush()
        process.kill()

    def _count(self, length: int) -> None:
        if self.content.breaks_after is None:
            return
        self.content.breaks_after -= length
        if self.content.breaks_after <= 0:
            self.content.breaks_after = None
            self.handler.connection.shutdown(socket.SHUT_RDWR)
            raise ConnectionResetError

    def _frame(self) -> tuple[int, bytes]:
        read = self.handler.rfile.read
        first, second = struct.unpack("!BB", read(2))
        length = second & 127
        if length > 125:
            (length,) = struct.unpack("!H" if length == 126 else "!Q", read(2 if length == 126 else 8))
        mask, content = read(4), read(length)
        key = (mask * (length // 4 + 1))[:length]
        return first & 15, (int.from_bytes(content, "big") ^ int.from_bytes(key, "big")).to_bytes(length, "big")

    def _send(self, opcode: int, content: bytes) -> None:
        length = len(content)
        head = (
            struct.pack("!BB", 128 | opcode, length) if length < 126 else struct.pack("!BBH", 128 | opcode, 126, length)
        )
        with self.sending:
            self.handler.wfile.write(head + content)

    def _end(self, code: int) -> None:
        status: Document = {"metadata": {}, "status": "Success"}
        if code:
            cause = {"reason": "ExitCode", "message": str(code)}
            message = f"command terminated with non-zero exit code: exit status {code}"
            status = {"metadata": {}, "status": "Failure", "message": message, "reason": "NonZeroExitCode"}
            status["details"] = {"causes": [cause]}
        with suppress(OSError):
            self._send(2, b"\3" + json.dumps(status).encode())
            self._send(8, struct.pack("!H", 1000))
