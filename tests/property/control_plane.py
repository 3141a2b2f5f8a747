"""An API server and a Job controller in memory: as much of both as the operator can tell from the real ones.

`request` answers what `Kube` asks over HTTP: preconditions, conflicts, subresources and selectors included. `settle` is
one move of the Job controller. Kubelets are the tests' part (`tests/faults/kubelet.py`).
"""

from __future__ import annotations

import copy
import functools
import itertools
import re
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from tests.faults.json_patch import patched

from qwensft_operator.runtime.kube import JOBS, PODS, QWENSFTJOBS, Manifest, Patch, classify

Key = tuple[str, str, str]  # plural, namespace, name

_HAVE_STATUS = (QWENSFTJOBS.plural, JOBS.plural, PODS.plural)


class ControlPlane:
    """Objects by plural, namespace and name."""

    def __init__(self, now: datetime) -> None:
        self.now = now
        self.objects: dict[Key, Manifest] = {}
        self.created: Counter[str] = Counter()  # Jobs that were ever created, by name
        self.on_create: Callable[[Manifest], None] = lambda manifest: None
        """Called with each Job before it exists; for what must hold at that moment."""
        self.refused: frozenset[str] = frozenset()  # parts of a run's status that its definition does not take
        self._numbers = itertools.count(1)

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Manifest | Patch | None = None,
        content_type: str = "",
        accept: str = "",
    ) -> Manifest:
        """Answer one request.

        Raises:
            KubeError: What the real API server would answer.
        """
        plural, namespace, name, subresource = _parsed(path)
        body = copy.deepcopy(body or {})
        if isinstance(body, list):
            body = patched(self._stored(plural, namespace, name), body)
        match method:
            case "GET" if name:
                answer = self._stored(plural, namespace, name)
            case "GET":
                answer = self._list(plural, namespace, query or {})
            case "POST":
                answer = self._create(plural, namespace, body)
            case "PUT":
                answer = self._replace(plural, namespace, name, body)
            case "PATCH":
                answer = self._patch(plural, namespace, name, subresource, body)
            case "DELETE":
                answer = self._delete(plural, namespace, name, body)
            case _:
                raise AssertionError(f"nobody is expected to {method} {path}")
        return copy.deepcopy(answer)

    def version(self) -> str:
        """The newest resourceVersion."""
        return str(next(self._numbers))

    def put(self, plural: str, namespace: str, manifest: Manifest) -> Manifest:
        """Store an object as somebody else would."""
        return self._create(plural, namespace, copy.deepcopy(manifest))

    def of(self, plural: str) -> list[Manifest]:
        """All objects of a type, the oldest first."""
        return [manifest for (kind, *_), manifest in self.objects.items() if kind == plural]

    def named(self, plural: str) -> list[str]:
        """The names of all objects of a type."""
        return sorted(manifest["metadata"]["name"] for manifest in self.of(plural))

    def pods_of(self, job: Manifest) -> list[Manifest]:
        """The pods of a Job, those included that are told to stop."""
        uid = job["metadata"]["uid"]
        return [p for p in self.of(PODS.plural) if p["metadata"]["labels"]["batch.kubernetes.io/controller-uid"] == uid]

    def live(self, job: Manifest) -> bool:
        """Whether the Job has pods that may still write, or will have some."""
        return "Complete" not in _conditions(job) and "Failed" not in _conditions(job)

    def stop(self, job: Manifest) -> None:
        """Delete a Job in the foreground."""
        job["metadata"].setdefault("deletionTimestamp", _time(self.now))
        self._changed(job)

    def settle(self) -> None:
        """Let the Job controller and the garbage collector act once."""
        runs = {run["metadata"]["uid"] for run in self.of(QWENSFTJOBS.plural)}
        jobs = self.of(JOBS.plural)
        for key, manifest in list(self.objects.items()):
            owners = {owner["uid"] for owner in manifest["metadata"].get("ownerReferences") or ()}
            if owners and not owners & runs:
                if key[0] != JOBS.plural:
                    del self.objects[key]
                elif "deletionTimestamp" not in manifest["metadata"]:
                    self.stop(manifest)
                    jobs.remove(manifest)
        for job in jobs:
            self._settle(job)

    def _settle(self, job: Manifest) -> None:
        pods, conditions = self.pods_of(job), _conditions(job)
        if "deletionTimestamp" in job["metadata"]:
            if self._stopped(pods):
                for gone in (*pods, job):
                    self._remove(gone)
            return
        if {"Complete", "Failed"} & conditions:
            return
        failed = [pod for pod in pods if pod["status"]["phase"] == "Failed"]
        if failed and "FailureTarget" not in conditions:
            self._condition(job, "FailureTarget", _failure(job, failed))
        elif failed and self._stopped(pods):
            self._condition(job, "Failed", _failure(job, failed))
            for pod in filter(_is_live, pods):
                self._remove(pod)
        elif not pods:
            for index in range(job["spec"].get("completions") or 1):
                self._create(PODS.plural, job["metadata"]["namespace"], _pod(job, index))
        self._count(job)

    def _stopped(self, pods: list[Manifest]) -> bool:
        """Tell live pods to stop; return whether all have been told before: a pod takes one move to stop."""
        news = [pod for pod in filter(_is_live, pods) if "deletionTimestamp" not in pod["metadata"]]
        for pod in news:
            pod["metadata"]["deletionTimestamp"] = _time(self.now + timedelta(seconds=30))
        return not news

    def _count(self, job: Manifest) -> None:
        pods = self.pods_of(job)
        ended_well = sum(pod["status"]["phase"] == "Succeeded" for pod in pods)
        if ended_well == (job["spec"].get("completions") or 1):
            self._condition(job, "Complete", {})
        live = list(filter(_is_live, pods))
        counted = {"active": len(live), "ready": sum(map(_is_ready, live)), "succeeded": ended_well}
        if {**job["status"], **counted} != job["status"]:
            job["status"].update(counted)
            self._changed(job)

    def _condition(self, job: Manifest, type_: str, more: dict[str, str]) -> None:
        condition = {"type": type_, "status": "True", "lastTransitionTime": _time(self.now), **more}
        job["status"].setdefault("conditions", []).append(condition)
        self._changed(job)

    def _stored(self, plural: str, namespace: str, name: str) -> Manifest:
        try:
            return self.objects[plural, namespace, name]
        except KeyError:
            raise classify(404, {"reason": "NotFound", "message": f"{plural} {name} not found"}) from None

    def _list(self, plural: str, namespace: str, query: Mapping[str, str]) -> Manifest:
        labels, fields = query.get("labelSelector", ""), query.get("fieldSelector", "")
        items = [
            manifest
            for (kind, where, _), manifest in self.objects.items()
            if (kind, where) == (plural, namespace)
            and _selects(labels, (manifest["metadata"].get("labels") or {}).get)
            and _selects(fields, functools.partial(_field, manifest))
        ]
        return {"metadata": {}, "items": items}

    def _create(self, plural: str, namespace: str, manifest: Manifest) -> Manifest:
        name = manifest["metadata"]["name"]
        if (plural, namespace, name) in self.objects:
            raise classify(409, {"reason": "AlreadyExists", "message": f"{plural} {name} already exists"})
        if plural == JOBS.plural:
            self.on_create(manifest)
            self.created[name] += 1
        manifest["metadata"] |= {
            "namespace": namespace,
            "uid": f"uid-{next(self._numbers)}",
            "creationTimestamp": _time(self.now),
            "generation": 1,
        }
        if plural in _HAVE_STATUS:
            manifest["status"] = {"phase": "Pending"} if plural == PODS.plural else {}
        self.objects[plural, namespace, name] = manifest
        self._changed(manifest)
        return manifest

    def _patch(self, plural: str, namespace: str, name: str, subresource: str, patch: Manifest) -> Manifest:
        stored = self._stored(plural, namespace, name)
        given = patch.get("metadata", {}).pop("resourceVersion", stored["metadata"]["resourceVersion"])
        if given != stored["metadata"]["resourceVersion"]:
            raise classify(409, {"reason": "Conflict", "message": "the object has been modified"})
        if subresource == "status":
            patch = {"status": patch["status"]}
            if plural == QWENSFTJOBS.plural and (refused := self.refused & patch["status"].keys()):
                message = f"QwenSFTJob is invalid: {sorted(refused)}"
                raise classify(422, {"reason": "Invalid", "message": message})
        elif plural in _HAVE_STATUS:
            patch = {key: value for key, value in patch.items() if key != "status"}
        changed: Manifest = _merged(stored, patch)
        if changed == stored:
            return stored
        if changed.get("spec") != stored.get("spec"):
            changed["metadata"]["generation"] += 1
        self.objects[plural, namespace, name] = changed
        self._changed(changed)
        return changed

    def _replace(self, plural: str, namespace: str, name: str, manifest: Manifest) -> Manifest:
        stored = self._stored(plural, namespace, name)
        if manifest["metadata"]["resourceVersion"] != stored["metadata"]["resourceVersion"]:
            raise classify(409, {"reason": "Conflict", "message": "the object has been modified"})
        self.objects[plural, namespace, name] = manifest
        self._changed(manifest)
        return manifest

    def _delete(self, plural: str, namespace: str, name: str, options: Manifest) -> Manifest:
        stored = self._stored(plural, namespace, name)
        uid = (options.get("preconditions") or {}).get("uid", stored["metadata"]["uid"])
        if uid != stored["metadata"]["uid"]:
            raise classify(409, {"reason": "Conflict", "message": "the UID in the precondition does not match"})
        if plural == JOBS.plural:
            self.stop(stored)
        else:
            self._remove(stored)
        return stored

    def _remove(self, manifest: Manifest) -> None:
        self.objects = {key: stored for key, stored in self.objects.items() if stored is not manifest}

    def _changed(self, manifest: Manifest) -> None:
        manifest["metadata"]["resourceVersion"] = str(next(self._numbers))


def _parsed(path: str) -> tuple[str, str, str, str]:
    """Split a URL's path: plural, namespace, name, subresource."""
    _, scoped, rest = path.partition("/namespaces/")
    if not scoped:
        return path.rpartition("/")[2], "", "", ""  # of all namespaces, or of none
    namespace, plural, name, subresource = [*rest.split("/"), "", ""][:4]
    return plural, namespace, name, subresource


def _pod(job: Manifest, index: int) -> Manifest:
    meta = job["metadata"]
    labels = {"batch.kubernetes.io/job-name": meta["name"], "batch.kubernetes.io/controller-uid": meta["uid"]}
    place = {"batch.kubernetes.io/job-completion-index": str(index)}
    containers = [{"name": container["name"]} for container in job["spec"]["template"]["spec"]["containers"]]
    return {
        "metadata": {
            "name": f"{meta['name']}-{index}",
            "labels": (job["spec"]["template"]["metadata"].get("labels") or {}) | labels | place,
            "annotations": place,
        },
        "spec": {"containers": containers},
    }


def _is_live(pod: Manifest) -> bool:
    return pod["status"]["phase"] not in ("Succeeded", "Failed")


def _is_ready(pod: Manifest) -> bool:
    ready = {c["type"]: c["status"] for c in pod["status"].get("conditions") or ()}
    return ready.get("Ready") == "True" and "deletionTimestamp" not in pod["metadata"]


def _failure(job: Manifest, failed: list[Manifest]) -> dict[str, str]:
    codes = [s["state"]["terminated"]["exitCode"] for pod in failed for s in pod["status"]["containerStatuses"]]
    if 78 in codes:
        message = (
            f"Container trainer for pod x/{job['metadata']['name']} failed with exit code 78 matching FailJob rule"
        )
        return {"reason": "PodFailurePolicy", "message": f"{message} at index 0"}
    return {"reason": "BackoffLimitExceeded", "message": "Job has reached the specified backoff limit"}


def _conditions(job: Manifest) -> set[str]:
    return {condition["type"] for condition in job["status"].get("conditions") or ()}


def _selects(selector: str, value_of: Callable[[str], Any]) -> bool:
    """Whether all parts of a selector hold: `key`, `key=value`, `key!=value` or `key in (one,two)`."""
    return all(_holds(part, value_of) for part in re.split(r",(?![^(]*\))", selector) if part)


def _holds(part: str, value_of: Callable[[str], Any]) -> bool:
    parsed = re.fullmatch(r"([\w./-]+)(?:(=|!=)([\w.-]*)| in \(([^)]*)\))?", part)
    assert parsed, f"nobody has taught this API server to select by {part!r}"
    key, operator, value, several = parsed.groups()
    found = value_of(key)
    match operator:
        case "=":
            return bool(found == value)
        case "!=":
            return bool(found != value)
    return found is not None if several is None else found in several.split(",")


def _field(manifest: Manifest, path: str) -> Any:
    return functools.reduce(lambda value, name: value.get(name, {}), path.split("."), manifest) or None


def _merged(document: Any, patch: Any) -> Any:
    """RFC 7386, section 2."""
    if not isinstance(patch, dict):
        return patch
    result = copy.deepcopy(document) if isinstance(document, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = _merged(result.get(key), value)
    return result


def _time(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
