"""A run as it is observed: the objects of its cluster, and what was asked for to see them."""

import itertools
from datetime import UTC, datetime
from typing import Any

from qwensft_operator.plan.types import Look, Observed, Scrape
from qwensft_operator.runtime.kube import Manifest
from qwensft_operator.runtime.observe import Observation
from qwensft_operator.runtime.scrape import Scraper

from .fakes import FakeKube, make_observer, make_store

KEY = ("team", "demo")
UID = "11111111-aaaa"
LABELS = {"app.kubernetes.io/managed-by": "qwen-sft-operator", "qwensft.io/job": "demo"}
_KINDS = {"job": "Job", "pod": "Pod"}  # by the beginnings of UIDs
NOW = datetime(2026, 1, 1, 1, tzinfo=UTC)


class FakeScraper(Scraper):
    def __init__(self, answers: dict[str, Scrape]) -> None:
        self.answers, self.asked = answers, list[str]()

    async def scrape(self, address: str) -> Scrape | None:
        self.asked.append(address)
        return self.answers.get(address)


class World:
    """A cluster that is watched: what it holds is in the store already."""

    def __init__(self) -> None:
        self.kube = FakeKube()
        self.store = make_store(self.kube)
        self.scraper = FakeScraper({"10.0.0.1": Scrape(step=5)})
        self.clock = itertools.count(0.0, 60.0)  # of the memory of events: one minute from question to question
        self.observer = make_observer(self.kube, self.store, scraper=self.scraper, clock=lambda: next(self.clock))

    async def observe(self, now: datetime = NOW, *, live: bool = False) -> Observation:
        manifest = await self.observer.manifest(KEY, live=live)
        assert manifest is not None
        return await self.observer.observe(manifest, now, live=live)

    async def look(self, *config_maps: str, leftovers: bool = False) -> Observed:
        """Observe, and read what a decision may ask for."""
        look = Look(config_maps=config_maps, leftovers=leftovers)
        return (await self.observer.look(await self.observe(), look)).observed

    def reads(self) -> set[tuple[str, str]]:
        return {(verb, plural) for verb, plural, _ in self.kube.calls}


def claim(**metadata: Any) -> Manifest:
    return {"metadata": {"name": "demo-workspace", **metadata}, "spec": {"accessModes": ["ReadWriteOnce"]}}


def child(stage: str, attempt: int, *, owner: str = UID, uid: str = "job-uid", **status: Any) -> Manifest:
    return {
        "metadata": {
            "name": f"demo-{stage}-{attempt}",
            "uid": uid,
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "labels": LABELS | {"qwensft.io/stage": stage, "qwensft.io/attempt": str(attempt)},
            "ownerReferences": [{"kind": "QwenSFTJob", "name": "demo", "uid": owner, "controller": True}],
        },
        "status": status,
    }


def pod(uid: str = "job-uid", index: str = "0", node: str = "", **status: Any) -> Manifest:
    labels = {"batch.kubernetes.io/controller-uid": uid, "batch.kubernetes.io/job-completion-index": index}
    metadata = {"name": f"pod-{index}", "uid": f"pod-uid-{index}", "labels": LABELS | labels}
    return {"metadata": metadata, "spec": {"nodeName": node}, "status": status}


def event(about: str, reason: str, message: str) -> Manifest:
    return {
        "metadata": {"name": f"{about}.{reason}"},
        "involvedObject": {"uid": about, "kind": _KINDS.get(about.partition("-")[0], "PersistentVolumeClaim")},
        "reason": reason,
        "message": message,
        "firstTimestamp": "2026-01-01T00:00:00Z",
        "lastTimestamp": "2026-01-01T00:05:00Z",
    }


def training(**more: Any) -> dict[str, Any]:
    prepare = {"attempt": 1, "jobName": "demo-prepare-1", "completionTime": "2026-01-01T00:00:00Z"}
    stages = {"prepare": prepare, "train": {"attempt": 1, "jobName": "demo-train-1"}}
    return {"status": {"stages": stages, **more}}


def merging() -> dict[str, Any]:
    done = {"attempt": 1, "completionTime": "2026-01-01T00:00:00Z"}
    return training(stages={"prepare": done, "train": done, "merge": {"attempt": 1, "jobName": "demo-merge-1"}})
