"""A websocket to the API server, by the way that other requests take: same certificates, same proxy, a time limit.

kubernetes' own is opened without a limit, and by the proxy that the environment names, whatever the kubeconfig says.
"""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import urlsplit

from qwensft.client.errors import UnreachableError, from_answer

_PROTOCOL: Final = "v4.channel.k8s.io"  # each message begins with its channel, and the verdict is a Status


def opened(pool: Any, url: str, headers: list[tuple[str, str]], doing: str, *, timeout: float) -> Any:
    """Open a websocket.

    Args:
        pool: urllib3's pool that other requests are sent through.
        url: Where to, as they have it: http or https.
        headers: Who asks.
        doing: What for, as "run a command in Pod a in namespace b".
        timeout: Seconds for each step.

    Raises:
        UnreachableError: nobody answers.
        ClientError: the API server says no.
    """
    from urllib3.exceptions import HTTPError  # noqa: PLC0415 - kubernetes' own
    from websocket import WebSocket, WebSocketBadStatusException, WebSocketException  # noqa: PLC0415

    socket: Any = WebSocket(skip_utf8_validation=True)
    lines = [f"{name}: {value}" for name, value in [*headers, ("User-Agent", "qwensft")]]
    try:
        connected = _connected(pool, url, timeout)
        socket.connect(url.replace("http", "ws", 1), socket=connected, header=lines, subprotocols=[_PROTOCOL])
    except WebSocketBadStatusException as error:
        raise from_answer(error.status_code, (error.resp_body or b"").decode(errors="replace"), doing) from error
    except (HTTPError, WebSocketException, OSError) as error:
        raise UnreachableError(f"cannot {doing}: the connection was not opened: {error}") from error
    return socket


def _connected(pool: Any, url: str, timeout: float) -> Any:
    """A socket that is connected as the pool connects: by its proxy, with its certificates."""
    of_host = pool.connection_from_url(url)
    connection = of_host._new_conn()
    connection.timeout = timeout
    if of_host.proxy is None:
        connection.connect()
    elif url.startswith("https"):
        of_host._prepare_proxy(connection)
    else:  # other requests are sent to the proxy itself, which may not know what an upgrade is
        target = urlsplit(url)
        connection.set_tunnel(target.hostname, target.port or 80)
        connection.connect()
    connection.sock.settimeout(timeout)
    return connection.sock
