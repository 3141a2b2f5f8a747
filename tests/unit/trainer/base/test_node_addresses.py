"""While something is downloaded, no connection is made to the addresses at which a node gives its credentials away."""

from __future__ import annotations

import asyncio
import socket
import sys
from ipaddress import ip_network
from pathlib import Path

import pytest
import yaml

from qwensft_trainer.base import node_addresses
from qwensft_trainer.base.node_addresses import NodeAddressError, kept_away

from ..elsewhere import elsewhere

CHART = Path(__file__).parents[4] / "charts" / "qwen-sft-operator" / "values.yaml"
METADATA = (
    *("169.254.169.254", "169.254.170.2", "169.254.170.23", "169.254.0.23", "100.100.100.200", "168.63.129.16"),
    *("fe80::a9fe:a9fe", "fe80::1%lo", "fd00:ec2::254", "fd00:ec2::23", "fd20:ce::254"),
    *("::ffff:169.254.169.254", "::ffff:100.100.100.200"),
)


@pytest.mark.parametrize("address", METADATA)
def test_no_connection_is_made(address: str) -> None:
    with kept_away() as refused, pytest.raises(NodeAddressError):
        socket.create_connection((address, 80), timeout=1)
    assert refused
    assert refused[0].partition("%")[0] == address.partition("%")[0]


@pytest.mark.parametrize("written", ["0xA9FEA9FE", "2852039166", "169.254.43518", "0251.0376.0251.0376"])
def test_an_address_is_the_same_however_it_is_written(written: str) -> None:
    with kept_away() as refused, pytest.raises(NodeAddressError):
        socket.create_connection((written, 80), timeout=1)
    assert refused == ["169.254.169.254"]


def test_a_name_counts_as_what_it_is_resolved_to_for_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([[("127.0.0.1", 9)], [("169.254.169.254", 9)]])  # as a server of names answers that changes its mind
    monkeypatch.setattr(
        "socket.getaddrinfo", lambda *_, **__: [(socket.AF_INET, socket.SOCK_STREAM, 6, "", a) for a in next(answers)]
    )
    with kept_away() as refused:
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("rebinding.example", 9), timeout=1)
        with pytest.raises(NodeAddressError):
            socket.create_connection(("rebinding.example", 9), timeout=1)
    assert refused == ["169.254.169.254"]


def test_a_name_that_the_kernel_would_resolve_is_refused_unseen() -> None:
    with kept_away(), socket.socket() as own, pytest.raises(NodeAddressError, match="localhost"):
        own.connect(("localhost", 9))


def test_clients_with_an_event_loop_are_kept_away_too() -> None:
    async def connect() -> None:
        await asyncio.open_connection("169.254.169.254", 80)

    with kept_away(), pytest.raises(NodeAddressError):
        asyncio.run(connect())


def test_a_server_at_such_an_address_is_not_heard_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node_addresses, "REFUSED", (ip_network("127.0.0.2/32"),))
    with elsewhere(b"secret", host="127.0.0.2") as node, elsewhere(b"rows") as other:
        with kept_away():
            with pytest.raises(NodeAddressError):
                socket.create_connection(("127.0.0.2", node.port), timeout=1)
            socket.create_connection(("127.0.0.1", other.port), timeout=1).close()
        socket.create_connection(("127.0.0.2", node.port), timeout=1).close()  # nothing is being downloaded


def test_what_the_environment_asks_for_is_let_through_and_nothing_beside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node_addresses, "REFUSED", (ip_network("127.0.0.0/8"),))
    with elsewhere(b"role", host="127.0.0.2") as node:
        with kept_away(but={"127.0.0.2"}) as refused:
            socket.create_connection(("127.0.0.2", node.port), timeout=1).close()
            with pytest.raises(NodeAddressError):
                socket.create_connection(("127.0.0.1", 9), timeout=1)
            with kept_away(), pytest.raises(NodeAddressError):  # two downloads at a time: the stricter rule counts
                socket.create_connection(("127.0.0.2", node.port), timeout=1)
        assert refused == ["127.0.0.1"]


def test_a_link_local_service_that_the_installation_names_is_let_through(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QWENSFT_LINK_LOCAL_SERVICES", "169.254.0.47, 169.254.0.48")
    with kept_away() as refused, socket.socket() as own:
        for address in ("169.254.0.47", "169.254.0.48", "::ffff:169.254.0.47"):
            sys.audit(
                "socket.connect", own, (address, 443)
            )  # as Python announces a connection; there is no such server
        with pytest.raises(NodeAddressError):
            sys.audit("socket.connect", own, ("169.254.0.46", 443))
    assert refused == ["169.254.0.46"]


@pytest.mark.parametrize("address", METADATA)
def test_what_gives_credentials_is_no_service_whoever_names_it(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if address.startswith("169.254."):
        monkeypatch.setenv("QWENSFT_LINK_LOCAL_SERVICES", f"169.254.0.47,{address}")
    with kept_away(), socket.socket() as own, pytest.raises(NodeAddressError):
        sys.audit("socket.connect", own, (address, 80))


def test_sockets_of_files_are_no_business_of_it(tmp_path: Path) -> None:
    with kept_away(), socket.socket(socket.AF_UNIX) as own, pytest.raises(FileNotFoundError):
        own.connect(str(tmp_path / "socket"))


def test_the_charts_network_policies_leave_out_the_same_addresses() -> None:
    (rule,) = yaml.safe_load(CHART.read_text())["networkPolicies"]["runs"]["prepareEgress"]
    left_out = {ip_network(one) for block in rule["to"] for one in block["ipBlock"]["except"]}
    assert left_out == set(node_addresses.REFUSED)
