"""A control plane of its own for the benchmark: etcd and an API server on 127.0.0.1, and nothing else.

No controller runs, so no pod is created and nothing is collected: what is measured is the operators' own path. Every
contestant is a user, and the API server's audit log has each of its requests; the benchmark's own are not logged.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import socket
import subprocess
import uuid
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml
from benchmarks.control_plane.api import Api, ApiError
from benchmarks.control_plane.programs import Program

REPOSITORY = Path(__file__).parents[2]
BENCH = "bench"
RECORDED = "recorded"
"""The user whose requests are logged with their bodies."""
USERS = ("floor", "operator", "trainer", "jobset")
_API_SERVER = os.environ.get("QWENSFT_KUBE_APISERVER", "")  # a binary in the place of the local cluster's
_MORE_FLAGS = os.environ.get("QWENSFT_KUBE_APISERVER_FLAGS", "").split()
_PATIENCE = 300.0
_PORTS = range(20_000, 30_000)  # below those that outgoing connections get


@dataclass(frozen=True)
class Plane:
    """The running pair, and how to reach it."""

    directory: Path
    url: str
    tokens: dict[str, str]
    etcd: Program
    apiserver: Program
    storage: str
    """Address of etcd."""

    @property
    def authority(self) -> Path:
        """Certificate of the authority that has signed the API server's."""
        return self.directory / "ca.crt"

    @property
    def audit_log(self) -> Path:
        """The API server's audit log, a JSON object a line."""
        return self.directory / "audit.log"

    def api(self, user: str = BENCH) -> Api:
        """A client with that user's token."""
        return Api(self.url, self.authority, self.tokens[user])

    def kubeconfig(self, user: str) -> Path:
        """Write a kubeconfig for a user; return its path."""
        path = self.directory / f"{user}.kubeconfig"
        cluster = {"server": self.url, "certificate-authority": str(self.authority)}
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "bench",
            "contexts": [{"name": "bench", "context": {"cluster": "bench", "user": user}}],
            "clusters": [{"name": "bench", "cluster": cluster}],
            "users": [{"name": user, "user": {"token": self.tokens[user]}}],
        }
        path.write_text(yaml.safe_dump(document))
        return path


@contextlib.asynccontextmanager
async def control_plane(directory: Path, flags: Sequence[str] = ()) -> AsyncIterator[Plane]:
    """Start etcd and the API server from the local cluster's binaries, below an empty directory.

    `flags`: further ones of the API server.
    """
    binaries = local_binaries()
    tokens = {user: uuid.uuid4().hex for user in (BENCH, RECORDED, *USERS)}
    _write_certificates(directory)
    _write_authentication(directory, tokens)
    client, peer, secure = (free_port() for _ in range(3))
    etcd_url = f"http://127.0.0.1:{client}"
    peer_url = f"http://127.0.0.1:{peer}"
    # As the local cluster starts it: what fsync costs is the disk's, not a contestant's.
    etcd_command: list[str | Path] = [
        binaries / "etcd", "--name", "bench", "--data-dir", directory / "etcd", "--unsafe-no-fsync",
        "--log-level", "warn", "--listen-client-urls", etcd_url, "--advertise-client-urls", etcd_url,
        "--listen-peer-urls", peer_url, "--initial-advertise-peer-urls", peer_url,
        "--initial-cluster", f"bench={peer_url}", "--quota-backend-bytes", str(8 << 30),
    ]  # fmt: skip
    apiserver_command: list[str | Path] = [
        _API_SERVER or binaries / "kube-apiserver", "--bind-address", "127.0.0.1", "--advertise-address", "127.0.0.1",
        "--secure-port", str(secure), "--endpoint-reconciler-type", "none", "--etcd-servers", etcd_url,
        "--service-cluster-ip-range", "10.96.0.0/16", "--authorization-mode", "RBAC",
        "--token-auth-file", directory / "tokens.csv",
        "--tls-cert-file", directory / "serving.crt", "--tls-private-key-file", directory / "serving.key",
        "--service-account-key-file", directory / "account.key",
        "--service-account-signing-key-file", directory / "account.key",
        "--service-account-issuer", "https://kubernetes.default.svc",
        # Without controllers nobody makes service accounts or takes finalizers away.
        "--disable-admission-plugins", "ServiceAccount,StorageObjectInUseProtection",
        "--delete-collection-workers", "8", "--shutdown-delay-duration", "0s",
        "--audit-policy-file", directory / "audit.yaml", "--audit-log-path", directory / "audit.log",
        "--audit-log-maxsize", "100000", *_MORE_FLAGS, *flags,
    ]  # fmt: skip
    with contextlib.ExitStack() as running:
        etcd = Program("etcd", etcd_command, directory / "etcd.log", {})
        running.callback(etcd.kill)
        apiserver = Program("apiserver", apiserver_command, directory / "apiserver.log", {})
        running.callback(apiserver.kill)  # asked, it would drain open watches for a minute
        plane = Plane(directory, f"https://127.0.0.1:{secure}", tokens, etcd, apiserver, etcd_url)
        await _wait_until_ready(plane)
        yield plane


def free_port() -> int:
    """A port of 127.0.0.1 that nobody has now, and that the system gives to nobody who does not ask for it."""
    for port in random.sample(_PORTS, len(_PORTS)):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise SystemExit("no port is free")


async def _wait_until_ready(plane: Plane) -> None:
    async with plane.api() as api, asyncio.timeout(_PATIENCE):
        while True:
            plane.etcd.check()
            plane.apiserver.check()
            with contextlib.suppress(ApiError):
                await api.text("/readyz")
                return
            await asyncio.sleep(0.2)


def local_binaries() -> Path:
    """The folder with the local cluster's binaries, which are built first when they are not there."""
    asked = subprocess.run(
        [REPOSITORY / "local-cluster" / "cluster", "bin"], stdout=subprocess.PIPE, text=True, check=True
    )
    return Path(asked.stdout.strip())


def _write_certificates(directory: Path) -> None:
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=directory, check=True, capture_output=True)

    (directory / "extensions").write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\nextendedKeyUsage=serverAuth\n")
    openssl("req", "-x509", *curve, "-days", "30", "-subj", "/CN=bench-ca", "-keyout", "ca.key", "-out", "ca.crt")
    openssl("req", *curve, "-subj", "/CN=bench", "-keyout", "serving.key", "-out", "serving.csr")
    signing = ["-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "30", "-extfile", "extensions"]
    openssl("x509", "-req", "-in", "serving.csr", *signing, "-out", "serving.crt")
    openssl("genrsa", "-out", "account.key", "2048")


def _write_authentication(directory: Path, tokens: dict[str, str]) -> None:
    lines = [f'{token},{user},{user},"system:masters"' for user, token in tokens.items()]
    (directory / "tokens.csv").write_text("\n".join(lines) + "\n")
    policy = {
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived"],
        "rules": [
            # Who renews a Lease says nothing of the work.
            {"level": "None", "resources": [{"group": "coordination.k8s.io"}]},
            {"level": "Request", "users": [RECORDED]},
            {"level": "Metadata", "users": list(USERS)},
            {"level": "None"},
        ],
    }
    (directory / "audit.yaml").write_text(json.dumps(policy))
