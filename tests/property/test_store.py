"""The store against an API server that is too simple to be wrong, whose news come late, twice and in any order."""

import copy
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from qwensft_operator.runtime.kinds import KINDS, RUNS, Key, Kind
from qwensft_operator.runtime.kube import JOBS, Manifest
from qwensft_operator.runtime.store import Store

JOB = KINDS[JOBS]
NAMES = st.sampled_from(["a", "b"])
LABELS = {"app.kubernetes.io/managed-by": "qwen-sft-operator"}


class Listener:
    """Keeps what is heard."""

    def __init__(self) -> None:
        self.woken: set[Key] = set()

    def changed(self, key: Key, kind: Kind, version: int) -> None:
        self.woken.add(key)

    def written(self, key: Key, kind: Kind, version: int) -> None:
        """Nothing is told of own writes."""


class StoreMachine(RuleBasedStateMachine):
    """`there` is the truth; events, pages of lists and answers to writes are delivered some time after they are made.

    Each stream is in order, as the API server's are; nothing else is.
    """

    @initialize()
    def start(self) -> None:
        self.listener = Listener()
        self.store = Store(self.listener)
        self.version, self.uids = 10, 0
        self.there: dict[tuple[Kind, str], Manifest] = {}
        self.events: dict[Kind, list[tuple[str, Manifest]]] = {RUNS: [], JOB: []}
        self.lists: dict[Kind, list[Manifest] | None] = {RUNS: None, JOB: None}
        self.listed_at: dict[Kind, int] = {}
        self.answers: list[tuple[Kind, Manifest]] = []
        self.newest: dict[tuple[Kind, str], int] = {}
        self.backup = self.version, dict(self.there)

    def _change(self, kind: Kind, name: str, more: dict[str, Any], type_: str = "MODIFIED") -> Manifest:
        self.version += 1
        before = self.there.get((kind, name))
        if before is None:
            self.uids += 1
            before, type_ = {"metadata": {"uid": str(self.uids)}}, "ADDED"
        labels = LABELS | {"qwensft.io/job": "a"}
        metadata = {"name": name, "namespace": "team", "labels": labels, "generation": 1}
        changed = copy.deepcopy(before | more)
        changed["metadata"] |= metadata | {"resourceVersion": str(self.version)}
        self.there[kind, name] = changed
        self.events[kind].append((type_, changed))
        return changed

    @rule(kind=st.sampled_from([RUNS, JOB]), name=NAMES, ended=st.booleans())
    def somebody_changes(self, kind: Kind, name: str, *, ended: bool) -> None:
        over = {"completionTime": "2026-01-01T00:00:00Z", "observedGeneration": 1}
        complete = {"conditions": [{"type": "Complete", "status": "True"}]}
        self._change(kind, name, {"status": ({} if not ended else over if kind is RUNS else complete)})

    @rule(kind=st.sampled_from([RUNS, JOB]), name=NAMES)
    def we_write(self, kind: Kind, name: str) -> None:
        self.answers.append((kind, self._change(kind, name, {"status": {}})))

    @rule(kind=st.sampled_from([RUNS, JOB]), name=NAMES)
    def somebody_deletes(self, kind: Kind, name: str) -> None:
        gone = self.there.pop((kind, name), None)
        if gone is not None:
            self.version += 1
            last = copy.deepcopy(gone)
            last["metadata"]["resourceVersion"] = str(self.version)
            self.events[kind].append(("DELETED", last))

    @rule(number=st.integers(0, 5))
    def an_answer_comes(self, number: int) -> None:
        if self.answers:
            kind, manifest = self.answers.pop(number % len(self.answers))
            self.store.wrote(kind.resource, manifest)

    @rule(kind=st.sampled_from([RUNS, JOB]))
    def an_event_comes(self, kind: Kind) -> None:
        if self.events[kind] and self.lists[kind] is None:
            self._deliver(kind)

    def _deliver(self, kind: Kind) -> None:
        type_, manifest = self.events[kind].pop(0)
        (self.store.deleted if type_ == "DELETED" else self.store.observed)(kind, manifest)

    @rule(kind=st.sampled_from([RUNS, JOB]))
    def the_watch_is_lost_and_a_list_begins(self, kind: Kind) -> None:
        if self.lists[kind] is None:
            self.events[kind].clear()
            self.listed_at[kind] = self.version
            self.lists[kind] = [m for (k, _), m in self.there.items() if k is kind]

    @rule(kind=st.sampled_from([RUNS, JOB]))
    def a_list_is_complete(self, kind: Kind) -> None:
        page = self.lists[kind]
        if page is not None:
            for manifest in page:
                self.store.observed(kind, manifest)
            names = [("team", manifest["metadata"]["name"]) for manifest in page]
            self.store.listed(kind, "team", str(self.listed_at[kind]), names)
            self.lists[kind] = None

    @rule()
    def etcd_is_backed_up(self) -> None:
        self.backup = self.version, dict(self.there)

    @rule()
    def etcd_is_restored(self) -> None:
        """Versions begin there again; what is known of others has been noticed to be in the way of all news."""
        self.version, self.there = self.backup[0], dict(self.backup[1])
        self.answers.clear()
        self.newest.clear()
        for kind in (RUNS, JOB):
            self.lists[kind] = None
            self.the_watch_is_lost_and_a_list_begins(kind)
            self.store.rewound(kind, "team")

    @invariant()
    def nothing_grows_older(self) -> None:
        for kind in (RUNS, JOB):
            for name in ("a", "b"):
                held = self.store.get(kind.resource, "team", name)
                if held is not None:
                    version = int(held["metadata"]["resourceVersion"])
                    assert version >= self.newest.get((kind, name), 0), "an older object has come back"
                    self.newest[kind, name] = version

    @precondition(lambda self: hasattr(self, "store"))
    @rule()
    def in_the_end_all_is_as_it_is(self) -> None:
        for kind in (RUNS, JOB):
            self.a_list_is_complete(kind)
        while self.answers:
            self.an_answer_comes(0)
        for kind in (RUNS, JOB):
            while self.events[kind]:
                self._deliver(kind)
        for name in ("a", "b"):
            self._compare_run(name)
            self._compare_job(name)

    def _compare_run(self, name: str) -> None:
        key, run = ("team", name), self.there.get((RUNS, name))
        held = self.store.get(RUNS.resource, *key)
        assert (held is not None) + self.store.is_over(key) <= 1
        if run is None:
            assert held is None
            assert not self.store.is_over(key)
        elif held is None:
            assert self.store.is_over(key) or not self.store.is_complete(key), "a run that goes on is forgotten"
        else:
            assert held == RUNS.kept(run)

    def _compare_job(self, name: str) -> None:
        job, held = self.there.get((JOB, name)), self.store.get(JOBS, "team", name)
        if job is None:
            assert held is None
        elif (RUNS, "a") not in self.there:
            assert held in (None, JOB.kept(job)), "garbage is collected"
        elif not self.store.is_over(("team", "a")) and self.store.is_complete(("team", "a")):
            assert held == JOB.kept(job)
        elif self.store.is_over(("team", "a")):
            assert held is None


StoreMachine.TestCase.settings = settings(max_examples=300, stateful_step_count=40, deadline=None)
TestStore = StoreMachine.TestCase
