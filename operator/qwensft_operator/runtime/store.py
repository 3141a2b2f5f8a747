"""What is known of the runs and their children: told by watches, corrected by lists, and by the answers to own writes.

An object is replaced by a newer one only, by its resourceVersion: it does not matter in which order a watch, a list and
an answer come in. A name that a complete list lacks is a deletion. Of a run that is over, only a key is kept.
ADR 0095 says why. ADR 0199 says why, of an API server that has gone back.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple, Protocol

from qwensft_operator import plan
from qwensft_operator.runtime.kinds import KINDS, RUNS, Key, Kind
from qwensft_operator.runtime.kube import JOBS, Manifest, Resource
from qwensft_operator.runtime.waiting import Waiting, is_news

_MOST_DELETIONS = 2000  # remembered, so that a late answer does not bring back what is gone

Name = tuple[str, str]
"""Namespace and name of an object."""


class Listener(Protocol):
    """Hears of changes of the store."""

    def changed(self, key: Key, kind: Kind, version: int) -> None:
        """Something new is known of a run or a child of it."""
        ...

    def written(self, key: Key, kind: Kind, version: int) -> None:
        """A change, told before or not, is our own."""
        ...


class _Over(NamedTuple):
    """What is left of a run that is over."""

    version: int  # its resourceVersion
    standing: plan.Standing


class Store:
    """Objects by kind, namespace and name, and the children of each run. All methods return at once."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._objects: dict[Resource, dict[Name, Manifest]] = {resource: {} for resource in KINDS}
        self._children: dict[Key, set[tuple[Resource, Name]]] = {}
        self._over: dict[Key, _Over] = {}  # runs that need no more looks
        self._counts: Counter[tuple[str, plan.Standing]] = Counter()  # of these, by namespace
        self._waiting = Waiting()
        self._incomplete: set[Key] = set()  # runs that go on, and of whose name children were forgotten at an end
        self._deleted: OrderedDict[tuple[Resource, Name], int] = OrderedDict()
        self._listed: dict[tuple[Resource, str], int] = {}  # resourceVersion of the last list of a kind in a namespace

    # What is known

    def runs(self) -> list[Key]:
        """The runs that are not over."""
        return list(self._objects[RUNS.resource])

    def is_over(self, key: Key) -> bool:
        """Whether nothing is to be decided about the run until something happens to it."""
        return key in self._over

    def is_complete(self, key: Key) -> bool:
        """Whether all children of the run are known that the watches tell of."""
        return key not in self._incomplete

    def completed(self, key: Key) -> None:
        """The children of the run have been read again."""
        self._incomplete.discard(key)

    def get(self, resource: Resource, namespace: str, name: str) -> Manifest | None:
        """Return what is kept of an object; None when no watch tells of it. It must not be changed."""
        return self._objects[resource].get((namespace, name))

    def children(self, resource: Resource, key: Key) -> list[Manifest]:
        """Return the run's children of one kind, by name."""
        names = sorted(name for kind, name in self._children.get(key, ()) if kind == resource)
        return [self._objects[resource][name] for name in names]

    def count(self, resource: Resource) -> int:
        """How many objects of a kind are kept."""
        return len(self._objects[resource])

    def over(self) -> Mapping[tuple[str, plan.Standing], int]:
        """How many runs are over, of which a key is kept, by namespace and what they have come to."""
        return self._counts

    # What is told

    def observed(self, kind: Kind, manifest: Manifest) -> None:
        """An object is, or was, as given: by an event, a list or a read."""
        if self._put(kind, manifest):
            self._listener.changed(kind.run_of(manifest), kind, _version(manifest))

    def deleted(self, kind: Kind, manifest: Manifest) -> None:
        """An object is gone, or no longer one that is watched."""
        self._remove(kind, _name(manifest), _version(manifest))

    def listed(self, kind: Kind, namespace: str, version: str, names: Iterable[Name]) -> None:
        """All objects of a kind in a namespace ("": everywhere) were these at a resourceVersion: others are gone."""
        there, at = set(names), int(version)
        held: Iterator[Name] = iter([*self._objects[kind.resource], *(self._over if kind is RUNS else ())])
        for name in [n for n in held if namespace in ("", n[0]) and n not in there]:
            self._remove(kind, name, at)
        self._listed[kind.resource, namespace] = at

    def rewound(self, kind: Kind, namespace: str) -> None:
        """The API server has gone back, as etcd does that is restored from a backup: what it lists next is all news.

        Whatever was known of the kind in the namespace ("": everywhere) is forgotten, and looked at.
        """
        held = [*self._objects[kind.resource], *(self._over if kind is RUNS else ())]
        for name in [name for name in held if namespace in ("", name[0])]:
            self._remove(kind, name, self._held(kind, name))
        for deleted in [d for d in self._deleted if d[0] == kind.resource and namespace in ("", d[1][0])]:
            self._deleted[deleted] = 0  # still remembered: the children of a run that comes back have to be read
        self._listed.pop((kind.resource, namespace), None)

    def wrote(self, resource: Resource, manifest: Manifest) -> None:
        """The API server has answered a write of ours with this object."""
        kind = KINDS.get(resource)
        if kind is not None and kind.is_watched(manifest):
            if self._held(kind, _name(manifest)) or not self._was_listed(kind, manifest):
                self._put(kind, manifest)
            self._listener.written(kind.run_of(manifest), kind, _version(manifest))

    def read(self, kind: Kind, manifest: Manifest) -> None:
        """An object was just read for a decision that is under way."""
        if kind.is_watched(manifest):
            self._put(kind, manifest)

    def finish(self, manifest: Manifest) -> None:
        """Forget all of a run but its key: it is over. One that has changed since, or has a Job that runs, is not."""
        key = _name(manifest)
        version = self._held(RUNS, key)
        if version != _version(manifest) or key in self._over:
            return
        if any(plan.is_active(job) for job in self.children(JOBS, key)):
            return
        self._waiting.changed(key, self._objects[RUNS.resource].pop(key), None)
        self._set_over(key, manifest)
        self._incomplete.discard(key)
        for resource, name in self._children.pop(key, ()):
            del self._objects[resource][name]

    # How it is kept

    def _put(self, kind: Kind, manifest: Manifest) -> bool:
        """Take over an object; return whether it is news."""
        name, version = _name(manifest), _version(manifest)
        if version <= max(self._held(kind, name), self._deleted.get((kind.resource, name), 0)):
            return False
        if kind is RUNS:
            return self._put_run(name, manifest, version)
        key = kind.run_of(manifest)
        if key in self._over:
            if kind.resource != JOBS or not plan.is_active(manifest):
                self._drop(kind, name)
                return False  # of a run that is over, a Job that still runs is the only news
            self._forget_over(key)
            self._incomplete.add(key)
        self._drop(kind, name)  # its label may have named another run
        self._objects[kind.resource][name] = kind.kept(manifest)
        self._children.setdefault(key, set()).add((kind.resource, name))
        return True

    def _put_run(self, key: Key, manifest: Manifest, version: int) -> bool:
        was_over, before = key in self._over, self._objects[RUNS.resource].get(key)
        ended, is_new = plan.is_over(manifest), before is None
        if is_news(before, manifest):
            self._wake_waiting(key, version)
        if was_over:
            self._forget_over(key)
        if was_over and ended:
            self._set_over(key, manifest)
            return False
        if is_new and (was_over or (RUNS.resource, key) in self._deleted):  # children of an earlier run may be left
            self._incomplete.add(key)
        self._objects[RUNS.resource][key] = RUNS.kept(manifest)
        self._waiting.changed(key, before, manifest)
        if ended:
            self.finish(manifest)
        return key not in self._over

    def _wake_waiting(self, source: Key, version: int) -> None:
        """Whatever has told of it, a watch or the answer to our own write: to those who wait it is news."""
        for key in self._waiting.on(source):
            self._listener.changed(key, RUNS, version)

    def _remove(self, kind: Kind, name: Name, version: int) -> None:
        if self._held(kind, name) > version:
            return  # created again since
        self._deleted[kind.resource, name] = version
        self._deleted.move_to_end((kind.resource, name))
        if len(self._deleted) > _MOST_DELETIONS:
            self._deleted.popitem(last=False)
        if kind is RUNS:
            self._forget_over(name)
            self._incomplete.discard(name)
            if (run := self._objects[RUNS.resource].pop(name, None)) is not None:
                self._waiting.changed(name, run, None)
                self._listener.changed(name, kind, version)
            self._wake_waiting(name, version)
        elif (gone := self._drop(kind, name)) is not None:
            self._listener.changed(kind.run_of(gone), kind, version)

    def _drop(self, kind: Kind, name: Name) -> Manifest | None:
        gone = self._objects[kind.resource].pop(name, None)
        if gone is not None:
            children = self._children[kind.run_of(gone)]
            children.discard((kind.resource, name))
            if not children:
                del self._children[kind.run_of(gone)]
        return gone

    def _was_listed(self, kind: Kind, manifest: Manifest) -> bool:
        """Whether a list is younger: an object that it lacked is gone, however late the answer comes that made it."""
        namespace, version = manifest["metadata"]["namespace"], _version(manifest)
        return any(self._listed.get((kind.resource, ns), 0) >= version for ns in (namespace, ""))

    def _held(self, kind: Kind, name: Name) -> int:
        held = self._objects[kind.resource].get(name)
        if held is not None:
            return _version(held)
        over = self._over.get(name) if kind is RUNS else None
        return over.version if over is not None else 0

    def _set_over(self, key: Key, manifest: Manifest) -> None:
        over = self._over[key] = _Over(_version(manifest), plan.standing(manifest))
        self._counts[key[0], over.standing] += 1

    def _forget_over(self, key: Key) -> None:
        over = self._over.pop(key, None)
        if over is None:
            return
        self._counts[key[0], over.standing] -= 1
        if not self._counts[key[0], over.standing]:
            del self._counts[key[0], over.standing]


def _name(manifest: Manifest) -> Name:
    return manifest["metadata"]["namespace"], manifest["metadata"]["name"]


def _version(manifest: Manifest) -> int:
    """Return the resourceVersion. The API server's own kinds and custom resources have numbers that only grow."""
    return int(manifest["metadata"]["resourceVersion"])
