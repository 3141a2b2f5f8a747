"""Keeps downloads away from the addresses at which clouds give a node's credentials to any pod that asks.

Names and redirects of others may lead there. So a connection is judged when it is made, by the address that it is made
to: no second answer of DNS comes in between. Python announces every one (the audit event `socket.connect`), so the rule
is one for all clients, and for what they import. ADR 0134 says what it does not reach.
"""

from __future__ import annotations

import errno
import os
import socket
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any

REFUSED = tuple(
    map(
        ip_network,
        (
            *("169.254.0.0/16", "fe80::/10"),  # link-local: AWS, Azure, Google Cloud, Tencent Cloud, OpenStack, Oracle
            *("fd00:ec2::254/128", "fd00:ec2::23/128"),  # AWS by IPv6, and its pod identities
            "fd20:ce::254/128",  # Google Cloud by IPv6
            "100.100.100.200/32",  # Alibaba Cloud
            "168.63.129.16/32",  # Azure's wire server
        ),
    )
)
"""The chart's NetworkPolicies leave out the same ones by default; a test compares the two."""

METADATA = ("169.254.169.0/24", "169.254.170.0/24", "169.254.0.23/32", "169.254.42.42/32")
"""Of the link-local addresses those that give credentials: they stay refused, whatever the installation says.

Most clouds, pods of AWS, Tencent Cloud, Scaleway.
"""


@dataclass(eq=False)
class _Guard:
    but: frozenset[str]
    refused: list[str] = field(default_factory=list)


_guards: list[_Guard] = []  # of each kept_away() that is under way


class NodeAddressError(OSError):
    """A connection that was not made."""

    def __init__(self, address: str) -> None:
        super().__init__(errno.ENETUNREACH, f"no connection is made to {address}, which belongs to the node")


@contextmanager
def kept_away(*, but: Collection[str] = ()) -> Iterator[list[str]]:
    """Meanwhile, whoever in this process connects to such an address gets NodeAddressError, unless it is in `but`.

    Gives the list of the addresses that were refused so far: clients wrap the error beyond recognition.
    """
    _listen()
    guard = _Guard(_services() | frozenset(but))
    _guards.append(guard)
    try:
        yield guard.refused
    finally:
        _guards.remove(guard)


def _services() -> frozenset[str]:
    """The addresses at which the installation says that a store answers (ADR 0170)."""
    named = os.environ.get("QWENSFT_LINK_LOCAL_SERVICES", "").split(",")
    return frozenset(
        str(address)
        for address in (IPv4Address(part.strip()) for part in named if part.strip())
        if address.is_link_local and not any(address in ip_network(network) for network in METADATA)
    )


@cache
def _listen() -> None:
    """Once: a hook cannot be taken off again."""
    sys.addaudithook(_judge)


def _judge(event: str, arguments: tuple[Any, ...]) -> None:
    if event != "socket.connect" or not _guards or not isinstance(arguments[1], tuple):
        return
    if arguments[0].family not in (socket.AF_INET, socket.AF_INET6):
        return
    host = str(arguments[1][0])
    try:
        address = _plain(host)
    except ValueError:  # a name: what it is resolved to could not be judged; the clients resolve before they connect
        address = None
    if address is not None and not any(address in network for network in REFUSED):
        return
    if guards := [guard for guard in _guards if str(address) not in guard.but]:
        for guard in guards:
            guard.refused.append(host)
        raise NodeAddressError(host)


def _plain(host: str) -> IPv4Address | IPv6Address:
    """The address, without the form in which sockets of IPv6 write those of IPv4. Raises ValueError for a name."""
    address = ip_address(host.partition("%")[0])
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address
