"""A watch that the API server ends and does not grant again: the operator says so, and goes on when it is back."""

import asyncio
import contextlib
import json
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from qwensft_operator.runtime.kube import JOBS, Manifest, Resource

from .cluster import PATIENCE, Cluster, Operator

ROLES = Resource("rbac.authorization.k8s.io", "v1", "roles")
BINDINGS = Resource("rbac.authorization.k8s.io", "v1", "rolebindings")
ACCOUNTS = Resource("", "v1", "serviceaccounts")


class Relay:
    """Passes connections on to the API server until they are cut: an open watch is not asked for its rights again."""

    def __init__(self, host: str) -> None:
        self._upstream = urlsplit(host)
        self._writers: set[asyncio.StreamWriter] = set()

    async def relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answers, requests = await asyncio.open_connection(self._upstream.hostname, self._upstream.port or 443)
        self._writers |= {writer, requests}
        await asyncio.gather(self._copy(reader, requests), self._copy(answers, writer))
        self._writers -= {writer, requests}

    def cut(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    @staticmethod
    async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()


class Limited:
    """An operator whose rights can be taken away."""

    def __init__(self, cluster: Cluster, relay: Relay, kubeconfig: Path) -> None:
        self.cluster, self.kubeconfig, self._relay = cluster, kubeconfig, relay

    def start(self, **settings: str) -> Operator:
        return self.cluster.start_operator(KUBECONFIG=str(self.kubeconfig), QWENSFT_READ_NODES="false", **settings)

    async def grant(self) -> None:
        subject = {"kind": "ServiceAccount", "name": "limited", "namespace": self.cluster.namespace}
        role = {"apiGroup": ROLES.group, "kind": "Role", "name": "limited"}
        await self._create(BINDINGS, "RoleBinding", {"roleRef": role, "subjects": [subject]})

    async def revoke(self) -> None:
        await self.cluster.delete(BINDINGS, "limited")
        await self.cluster.gone(BINDINGS, "limited")
        self._relay.cut()

    async def prepare(self) -> None:
        """Create the account and its role."""
        everything = {"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}
        await self._create(ACCOUNTS, "ServiceAccount", {})
        await self._create(ROLES, "Role", {"rules": [everything]})

    async def _create(self, resource: Resource, kind: str, more: Manifest) -> None:
        version = f"{resource.group}/v1" if resource.group else "v1"
        body = {"apiVersion": version, "kind": kind, "metadata": {"name": "limited"}, **more}
        await self.cluster.kube.create(resource, self.cluster.namespace, body)


@pytest.fixture
async def limited(lone_cluster: Cluster, tmp_path: Path) -> AsyncIterator[Limited]:
    relay = Relay(lone_cluster.kube.configuration.host)
    server = await asyncio.start_server(relay.relay, "127.0.0.1", 0)
    made = Limited(lone_cluster, relay, tmp_path / "kubeconfig")
    await made.prepare()
    await made.grant()
    command = ["kubectl", "-n", lone_cluster.namespace, "create", "token", "limited"]
    asked = await asyncio.to_thread(subprocess.run, command, check=True, capture_output=True, text=True)
    address = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    kubeconfig = {
        "current-context": "limited",
        "contexts": [{"name": "limited", "context": {"cluster": "relay", "user": "limited"}}],
        "clusters": [{"name": "relay", "cluster": {"server": address, "insecure-skip-tls-verify": True}}],
        "users": [{"name": "limited", "user": {"token": asked.stdout.strip()}}],
    }
    made.kubeconfig.write_text(json.dumps(kubeconfig))
    yield made
    relay.cut()
    server.close()


async def answers(operator: Operator, status: int, probe: str = "/readyz") -> None:
    """Wait until a probe has this status."""
    async with asyncio.timeout(PATIENCE):
        while await asyncio.to_thread(operator.probe, probe) != status:  # noqa: ASYNC110 - a process
            await asyncio.sleep(0.2)


async def test_rights_that_are_gone_make_the_operator_unready_until_they_are_back(limited: Limited) -> None:
    operator = limited.start(QWENSFT_DEAF_AFTER_SECONDS=str(PATIENCE))
    await answers(operator, 200)
    await limited.revoke()
    await answers(operator, 503)
    assert "403 Forbidden" in operator.log()
    await limited.cluster.apply()
    await limited.grant()
    await answers(operator, 200)
    await limited.cluster.exists(JOBS, "demo-prepare-1")
    assert operator.process.poll() is None


async def test_rights_that_stay_away_make_the_operator_no_longer_alive(limited: Limited) -> None:
    operator = limited.start(QWENSFT_DEAF_AFTER_SECONDS="3")
    await answers(operator, 200)
    assert await asyncio.to_thread(operator.probe, "/livez") == 200
    await limited.revoke()
    await answers(operator, 503, "/livez")
    assert operator.process.poll() is None, "whether it is started again is for the kubelet to say"


async def test_a_namespace_that_does_not_exist_holds_up_no_other(limited: Limited) -> None:
    namespaces = f"no-such-namespace,{limited.cluster.namespace}"
    operator = limited.start(QWENSFT_NAMESPACES=namespaces)
    await limited.cluster.apply()
    await limited.cluster.exists(JOBS, "demo-prepare-1")
    await answers(operator, 200)
    assert "/namespaces/no-such-namespace/qwensftjobs" in operator.log()
