"""Records this version for the upgrades of later ones: `python -m tests.upgrades.record`, a few minutes.

Needs what `make setup` has built, and no cluster. The operator of the working tree runs against an etcd and an API
server of its own; a hand plays scheduler, kubelet and Job controller, and each pod is the trainer's command line, with
LLaMA-Factory stood in for. Six runs are brought to a moment each, and left there.
ADR 0167 says why.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.control_plane.api import Api
from benchmarks.control_plane.contestants import RUNS, Ours, documents, install_kind
from benchmarks.control_plane.hands import Figures, now
from benchmarks.control_plane.plane import REPOSITORY, control_plane

from qwensft.api.v1alpha1 import METRICS_PORT
from qwensft_operator import __version__

from .facts import facts
from .node import Node, node
from .pods import Pods
from .records import NAMESPACE, Manifest

FOLDER = Path(__file__).parent / f"v{__version__}"
CHART = REPOSITORY / "charts" / "qwen-sft-operator"
_CRD = REPOSITORY / "crds" / "qwensft.io_qwensftjobs.yaml"
_SETTINGS = {"QWENSFT_SCRAPE_INTERVAL_SECONDS": "1", "QWENSFT_PROGRESS_INTERVAL_SECONDS": "1"}
_PATIENCE = 600.0
_READERS = ("__init__.py", "base", "contract")  # of the trainer: all that reading run.yaml imports
_LARGEST = 64 * 1024  # bytes of a file of the volume that is kept
_COLLECTIONS = {
    "QwenSFTJob": RUNS.format(NAMESPACE),
    "ConfigMap": f"/api/v1/namespaces/{NAMESPACE}/configmaps",
    "Service": f"/api/v1/namespaces/{NAMESPACE}/services",
    "PersistentVolumeClaim": f"/api/v1/namespaces/{NAMESPACE}/persistentvolumeclaims",
    "Job": f"/apis/batch/v1/namespaces/{NAMESPACE}/jobs",
    "Pod": f"/api/v1/namespaces/{NAMESPACE}/pods",
}
SPEC: Manifest = {
    "model": {"name": "Qwen/Qwen3-0.6B", "source": {"volume": {"claimName": "models"}}},
    "datasets": [{"name": "facts", "format": "alpaca", "source": {"configMap": {"name": "facts", "key": "f.json"}}}],
    "tuning": {"lora": {"rank": 16, "targets": ["all"]}},
    "training": {"epochs": 3, "learningRate": 1.0e-4},
    "worker": {"accelerator": {"count": 0}},
    "storage": {"volume": {"claimTemplate": {"size": "20Gi"}}},
}


class Recorder:
    """Brings runs to their moments, and writes them down."""

    def __init__(self, api: Api, pods: Pods, node: Node) -> None:
        self._api, self._pods, self._node = api, pods, node

    async def all_moments(self) -> None:
        """One after the other: the pods are this process."""
        await self._preparing()
        await self._queued()
        await self._training()
        await self._merging()
        await self._succeeded()
        await self._failed()

    async def _preparing(self) -> None:
        await self._create("preparing")
        await self._pods.start("preparing-prepare-1")
        await self._keep("preparing", phase="Preparing", reason="Running")

    async def _queued(self) -> None:
        """A training that a queue holds, as Kueue does it."""
        await self._create("queued")
        await self._pods.through("queued-prepare-1")
        await self._pods.hold("queued-train-1")
        await self._keep("queued", reason="Queued")

    async def _training(self) -> None:
        """One that has a checkpoint, and tells of the steps after it."""
        await self._create("training")
        await self._pods.through("training-prepare-1")
        self._node.next_training(dies=True)
        job, _ = await self._pods.start("training-train-1")
        await self._pods.ran(job)  # what it has written by now; that it has died is told to nobody
        self._node.next_training(dies=False)
        async with Figures(METRICS_PORT):
            await self._keep("training", holds=_has_figures, phase="Training", reason="Running")

    async def _merging(self) -> None:
        await self._create("merging")
        for job in ("merging-prepare-1", "merging-train-1"):
            await self._pods.through(job)
        await self._pods.start("merging-merge-1")
        await self._keep("merging", phase="Merging", reason="Running")

    async def _succeeded(self) -> None:
        await self._create("succeeded")
        for job in ("succeeded-prepare-1", "succeeded-train-1", "succeeded-merge-1"):
            await self._pods.through(job)
        await self._keep("succeeded", phase="Succeeded")

    async def _failed(self) -> None:
        rows = self._node.root / "datasets" / "facts" / "f.json"
        good = rows.read_text(encoding="utf-8")
        rows.write_text('[{"instruction": "Hi"}]', encoding="utf-8")
        await self._create("failed")
        await self._pods.through("failed-prepare-1")
        await self._keep("failed", phase="Failed", reason="InvalidDataset")
        rows.write_text(good, encoding="utf-8")

    async def _create(self, name: str) -> None:
        run = {"apiVersion": "qwensft.io/v1alpha1", "kind": "QwenSFTJob", "metadata": {"name": name}, "spec": SPEC}
        await self._api.create(_COLLECTIONS["QwenSFTJob"], run)

    async def _keep(self, name: str, holds: Callable[[Manifest], bool] = lambda run: True, **wanted: str) -> None:
        """Wait until a run has this `phase` and `reason` (of Succeeded) and `holds` is true; write it down."""
        run: Manifest = {}
        async with asyncio.timeout(_PATIENCE):
            while not run or not holds(run) or any(_said(run).get(what) != value for what, value in wanted.items()):
                await asyncio.sleep(0.5)
                run = await self._api.get(f"{_COLLECTIONS['QwenSFTJob']}/{name}")
        objects = [
            {"apiVersion": listed["apiVersion"], "kind": kind, **one}
            for kind, collection in _COLLECTIONS.items()
            for listed in [await self._api.get(collection)]
            for one in listed["items"]
            if name in (one["metadata"]["name"], (one["metadata"].get("labels") or {}).get("qwensft.io/job"))
        ]
        for one in objects:
            one["metadata"].pop("managedFields", None)
        text = json.dumps({"recordedAt": now(), "objects": objects}, indent=1, ensure_ascii=False)
        (FOLDER / f"{name}.json").write_text(text + "\n", encoding="utf-8")
        for directory in self._node.workspace.glob(f"{name}-*"):
            shutil.copytree(directory, FOLDER / "volume" / directory.name, ignore=_large)
        print(f"recorded {name}: {len(objects)} objects", flush=True)  # noqa: T201


def _said(run: Manifest) -> dict[str, Any]:
    status = run.get("status") or {}
    reason = next((c["reason"] for c in status.get("conditions") or () if c["type"] == "Succeeded"), None)
    return {"phase": status.get("phase"), "reason": reason}


def _has_figures(run: Manifest) -> bool:
    return bool(((run.get("status") or {}).get("progress") or {}).get("step"))


def _large(folder: str, names: list[str]) -> set[str]:
    files = (Path(folder) / name for name in names)
    return {path.name for path in files if path.is_file() and path.stat().st_size > _LARGEST}


def _write_what_is_rendered() -> None:
    """The definition, the chart, and what reads run.yaml."""
    shutil.copyfile(_CRD, FOLDER / "crd.yaml")
    versions = json.dumps(facts(), indent=1, ensure_ascii=False)
    (FOLDER / "versions.json").write_text(versions + "\n", encoding="utf-8")
    with tempfile.TemporaryDirectory() as packed:
        subprocess.run(["helm", "package", "-d", packed, CHART], check=True, capture_output=True)
        (chart,) = Path(packed).iterdir()
        shutil.copyfile(chart, FOLDER / "chart.tgz")
    package = REPOSITORY / "trainer-image" / "qwensft_trainer"
    files = [path for name in _READERS for path in sorted((package / name).rglob("*.py")) or [package / name]]
    with zipfile.ZipFile(FOLDER / "trainer.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in files:
            archive.write(path, path.relative_to(package.parent))
        # By this it knows its own version.
        about = f"Metadata-Version: 2.1\nName: qwensft-trainer\nVersion: {__version__}\n"
        archive.writestr(f"qwensft_trainer-{__version__}.dist-info/METADATA", about)


async def _record(directory: Path) -> None:
    with node(directory / "node") as machine:
        async with control_plane(directory) as plane, plane.api() as api:
            await install_kind(api, documents(_CRD)[0])
            await api.create("/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})
            facts = {"metadata": {"name": "facts"}, "data": {"f.json": "[]"}}
            await api.create(_COLLECTIONS["ConfigMap"], facts)
            claim = {"accessModes": ["ReadOnlyMany"], "resources": {"requests": {"storage": "1Gi"}}}
            await api.create(_COLLECTIONS["PersistentVolumeClaim"], {"metadata": {"name": "models"}, "spec": claim})
            try:
                async with Ours(plane, image=f"qwensft/trainer:{__version__}").running():
                    await Recorder(api, Pods(api, machine), machine).all_moments()
            except BaseException:
                print((directory / "operator.log").read_text()[-6000:])  # noqa: T201
                raise


def main() -> None:
    """Run the program."""
    os.environ.update(_SETTINGS)
    if FOLDER.exists():
        sys.exit(f"{FOLDER} is there: a release is recorded once; delete it if this version is not released yet")
    FOLDER.mkdir()
    with tempfile.TemporaryDirectory(prefix="qwensft-record-") as directory:
        (Path(directory) / "node").mkdir()
        _write_what_is_rendered()
        asyncio.run(_record(Path(directory)))


if __name__ == "__main__":
    main()
