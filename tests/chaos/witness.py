"""Looks at a namespace all the time, from outside, and remembers what must not have been.

It reads what any user can read. While the API server is down it sees nothing, and goes on afterwards.
"""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field

from quickstart.shell import Kubectl

from qwensft_operator.runtime.kube import Manifest

SECONDS_BETWEEN_LOOKS = 1.0


@dataclass
class Witness:
    """What was seen since `__enter__`."""

    kubectl: Kubectl
    namespace: str
    uids: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))  # of each Job's name
    side_by_side: set[frozenset[str]] = field(default_factory=set)  # Jobs of one run whose pods ran at once
    looks: int = 0
    blind: int = 0

    def __enter__(self) -> Witness:
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(60)

    def check(self) -> None:
        """Nothing of what must never be has been seen."""
        assert self.looks, "nothing was seen at all"
        twice = {name: uids for name, uids in self.uids.items() if len(uids) > 1}
        assert not twice, f"Jobs that were made twice: {twice}"
        assert not self.side_by_side, f"pods of two attempts at once: {self.side_by_side}"

    def _watch(self) -> None:
        command = ["kubectl", "get", "jobs,pods", "-n", self.namespace, "-l", "qwensft.io/job", "-o", "json"]
        while not self._over.wait(SECONDS_BETWEEN_LOOKS):
            asked = [*command, "--request-timeout=5s"]
            done = subprocess.run(asked, env=self.kubectl.env, capture_output=True, text=True, check=False)
            if done.returncode == 0:
                self.looks += 1
                self._look(json.loads(done.stdout)["items"])
            else:
                self.blind += 1

    def _look(self, objects: list[Manifest]) -> None:
        running: dict[str, set[str]] = defaultdict(set)
        for seen in objects:
            meta, labels = seen["metadata"], seen["metadata"]["labels"]
            if seen["kind"] == "Job":
                self.uids[meta["name"]].add(meta["uid"])
            elif _container_runs(seen):
                running[labels["qwensft.io/job"]].add(labels["batch.kubernetes.io/controller-uid"])
        self.side_by_side |= {frozenset(jobs) for jobs in running.values() if len(jobs) > 1}


def _container_runs(pod: Manifest) -> bool:
    states = [status["state"] for status in pod["status"].get("containerStatuses", [])]
    return any("running" in state for state in states)


def wait_until(what: str, true: object, timeout: float = 120.0, *, pause: float = 0.2) -> float:
    """Ask until it is true, with so many seconds in between; return how many that took."""
    assert callable(true)
    began = time.monotonic()
    while not true():
        assert time.monotonic() - began < timeout, f"not within {timeout:.0f} s: {what}"
        time.sleep(pause)
    return time.monotonic() - began
