"""What Prometheus reads of the runs: right after a restart, without gaps before the first failure, never twice."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from qwensft_operator.runtime.kinds import CHILDREN, RUNS
from qwensft_operator.runtime.kube import ConflictError, Manifest
from qwensft_operator.runtime.run_metrics import RunMetrics

from .fakes import FakeKube, job_manifest, make_store
from .reconciling import KEY, watched_world

NOW = datetime(2026, 1, 2, 12, tzinfo=UTC)
PODS = CHILDREN[1]


class Operator:
    """A process that has just started."""

    def __init__(self, *runs: Manifest, leads: bool = True, namespaces: tuple[str, ...] = ()) -> None:
        self.registry, self.store = CollectorRegistry(), make_store(FakeKube())
        for run in runs:
            self.store.observed(RUNS, run)
        self.leads, self.age, self.set_by = leads, timedelta(), timedelta()
        self.metrics = RunMetrics(
            self.registry,
            self.store,
            namespaces=namespaces,
            is_leading=lambda: self.leads,
            now=lambda: NOW + self.age + self.set_by,
            monotonic=self.age_in_seconds,
        )

    def age_in_seconds(self) -> float:
        return self.age.total_seconds()

    def scraped_later(self) -> dict[tuple[str, ...], float]:
        """As Prometheus sees it once series that are new have been there for a while."""
        self.scrape()
        self.age += timedelta(minutes=2)
        self.scrape()
        return self.scrape()

    def scrape(self) -> dict[tuple[str, ...], float]:
        text = generate_latest(self.registry).decode()
        samples = (sample for family in text_string_to_metric_families(text) for sample in family.samples)
        return {(s.name, *(s.labels[name] for name in sorted(s.labels))): s.value for s in samples}


def a_run(name: str, phase: str | None = None, reason: str = "Running", **status: Any) -> Manifest:
    conditions = [{"type": "Succeeded", "status": "Unknown", "reason": reason, "lastTransitionTime": at(6)}]
    told = {} if phase is None else {"status": {"phase": phase, "conditions": conditions, **status}}
    manifest: Manifest = job_manifest() | told
    times = {"creationTimestamp": at(6), "resourceVersion": str(sum(map(ord, name)))}
    manifest["metadata"] = manifest["metadata"] | times | {"name": name}
    return manifest


def at(hour: int) -> str:
    return f"2026-01-02T{hour:02}:00:00Z"


def ended(name: str, phase: str, reason: str) -> Manifest:
    return a_run(name, phase, reason, completionTime=at(8), observedGeneration=1)


def test_runs_are_counted_by_phase_and_reason_also_those_of_which_a_key_is_kept() -> None:
    operator = Operator(
        a_run("a", "Training"),
        a_run("b", "Training"),
        a_run("c", "Training", "Unschedulable"),
        ended("d", "Failed", "OutOfMemory"),
        a_run("e"),
    )
    assert ("team", "d") not in operator.store.runs()
    seen = {key[1:]: n for key, n in operator.scrape().items() if key[0] == "qwensft_runs" and n}
    assert seen == {
        ("Training", "Running", "team"): 2,
        ("Training", "Unschedulable", "team"): 1,
        ("Failed", "OutOfMemory", "team"): 1,
        ("Unseen", "", "team"): 1,
    }


def test_a_run_that_is_deleted_or_goes_on_is_not_counted_where_it_was() -> None:
    failed = ended("d", "Failed", "OutOfMemory")
    operator = Operator(failed)
    again = a_run("d", "Training")
    again["metadata"]["resourceVersion"] = "5000"
    operator.store.observed(RUNS, again)
    assert operator.scrape()["qwensft_runs", "Training", "Running", "team"] == 1
    assert operator.scrape()["qwensft_runs", "Failed", "", "team"] == 0
    operator = Operator(failed)
    operator.store.deleted(RUNS, failed | {"metadata": failed["metadata"] | {"resourceVersion": "5000"}})
    assert not operator.store.over()


def namespaces_of(scraped: dict[tuple[str, ...], float]) -> set[str]:
    return {label for key in scraped if key[0].startswith("qwensft_") for label in key[1:] if label in ("team", "kept")}


def gone(run: Manifest) -> Manifest:
    return run | {"metadata": run["metadata"] | {"resourceVersion": "5000"}}


@pytest.mark.parametrize("run", [a_run("a", "Training"), ended("d", "Failed", "OutOfMemory")], ids=["active", "over"])
@pytest.mark.parametrize("leads", [True, False])
def test_a_namespace_without_runs_loses_its_series_after_an_hour(run: Manifest, leads: bool) -> None:
    operator = Operator(run, namespaces=("kept",))
    assert namespaces_of(operator.scrape()) == {"team", "kept"}
    operator.age += timedelta(hours=5)
    operator.metrics.told(run, {"phase": "Failed", "completionTime": at(8)})
    assert namespaces_of(operator.scrape()) == {"team", "kept"}, "it has a run"
    operator.store.deleted(RUNS, gone(run))
    operator.leads = leads
    operator.age += timedelta(minutes=59)
    counted = operator.scrape()["qwensft_runs_ended_total", "Failed", "team"]
    assert counted == 1 - (run["status"]["phase"] == "Failed"), "what has happened at the end can still be scraped"
    operator.age += timedelta(minutes=2)
    operator.scrape()  # which forgets it, after its counters were read
    assert namespaces_of(operator.scrape()) == {"kept"}


def test_a_namespace_that_has_a_run_again_begins_at_zero() -> None:
    run = a_run("a", "Training")
    operator = Operator(run)
    operator.scrape()
    operator.metrics.told(run, {"phase": "Failed", "completionTime": at(8)})
    operator.store.deleted(RUNS, gone(run))
    operator.age += timedelta(hours=2)
    operator.scrape()
    assert namespaces_of(operator.scrape()) == set()
    again = a_run("a", "Training")
    again["metadata"]["resourceVersion"] = "6000"
    operator.store.observed(RUNS, again)
    operator.scrape()
    assert operator.scrape()["qwensft_runs_ended_total", "Failed", "team"] == 0


def increase(samples: list[dict[tuple[str, ...], float]], key: tuple[str, ...]) -> float:
    """As Prometheus computes it: what a series has grown by from its first sample."""
    values = [sample[key] for sample in samples if key in sample]
    return values[-1] - values[0]


@pytest.mark.parametrize("state", ["new", "gone for a day", "restarted"])
@pytest.mark.parametrize("interval", [15, 60])
def test_a_run_that_fails_at_once_is_an_increase(state: str, interval: int) -> None:
    """Whether its namespace never had a run, has had none for long, or the operator has just started."""
    run = a_run("a", "Training")
    operator = Operator(run, namespaces=("team",)) if state == "restarted" else Operator()
    if state == "gone for a day":
        operator.store.observed(RUNS, run)
        operator.scrape()
        operator.metrics.told(run, {"phase": "Failed", "completionTime": at(8)})
        operator.store.deleted(RUNS, gone(run))
        for _ in range(24):
            operator.age += timedelta(hours=1)
            operator.scrape()
        assert namespaces_of(operator.scrape()) == set()
    operator.metrics.told(run, {"phase": "Failed", "completionTime": at(8), "usage": {"acceleratorSeconds": 8}})
    samples = []
    for _ in range(5 * 60 // interval):
        operator.age += timedelta(seconds=interval)
        samples.append(operator.scrape())
    assert increase(samples, ("qwensft_runs_ended_total", "Failed", "team")) == 1
    assert increase(samples, ("qwensft_accelerator_seconds_total", "team")) == 8
    assert sum(sample.get(("qwensft_runs_ended_total", "Failed", "team")) == 0 for sample in samples) >= 2


@pytest.mark.parametrize("hours", [-5, 5])
def test_a_clock_that_is_set_holds_nothing_back_and_drops_nothing(hours: int) -> None:
    run = a_run("a", "Training")
    operator = Operator(run)
    operator.scrape()
    operator.metrics.told(run, {"phase": "Failed", "completionTime": at(8)})
    operator.store.deleted(RUNS, gone(run))
    operator.set_by = timedelta(hours=hours)
    assert operator.scrape()["qwensft_runs_ended_total", "Failed", "team"] == 0, "it must be seen at zero first"
    assert operator.scraped_later()["qwensft_runs_ended_total", "Failed", "team"] == 1
    operator.age += timedelta(hours=1)
    operator.scrape()
    assert namespaces_of(operator.scrape()) == set()


def test_every_series_is_there_before_anything_has_happened() -> None:
    seen = Operator(namespaces=("team",)).scrape()
    for key in (
        ("qwensft_runs", "Failed", "", "team"),
        ("qwensft_run_waiting_seconds", "", "team"),
        ("qwensft_runs_ended_total", "Failed", "team"),
        ("qwensft_restarts_total", "OutOfMemory", "train"),
        ("qwensft_stage_duration_seconds_count", "merge"),
        ("qwensft_accelerator_seconds_total", "team"),
        ("qwensft_accelerator_lost_to_restarts_seconds_total", "team"),
        ("qwensft_accelerators_held", "team"),
    ):
        assert seen[key] == 0, key


def test_a_replica_that_does_not_lead_leaves_the_gauges_to_the_leader() -> None:
    operator = Operator(a_run("a", "Training"), leads=False)
    assert not [key for key in operator.scrape() if key[0] in ("qwensft_runs", "qwensft_accelerators_held")]
    operator.leads = True
    assert operator.scrape()["qwensft_runs", "Training", "Running", "team"] == 1


def test_the_longest_wait_is_told_for_each_reason() -> None:
    operator = Operator(
        a_run("a", "Pending", "StorageUnavailable", startTime=at(7)),
        a_run("b", "Pending", "StorageUnavailable", startTime=at(9)),
        a_run("c", "Suspended", "Queued", suspendTime=at(11)),
        a_run("d", "Training"),
        a_run("e"),
    )
    waits = {key[1]: n for key, n in operator.scrape().items() if key[0] == "qwensft_run_waiting_seconds"}
    assert waits == {"StorageUnavailable": 5 * 3600, "Queued": 3600, "Unseen": 6 * 3600}


def test_accelerators_are_held_by_pods_that_have_a_node() -> None:
    operator = Operator(a_run("a", "Training"))
    labels = {"app.kubernetes.io/managed-by": "qwen-sft-operator", "qwensft.io/job": "a", "qwensft.io/stage": "train"}
    for index, node in enumerate(("n", "")):
        metadata = {"name": f"a-{index}", "namespace": "team", "labels": labels, "resourceVersion": "9000"}
        operator.store.observed(
            PODS, {"metadata": metadata, "spec": {"nodeName": node}, "status": {"phase": "Running"}}
        )
    assert operator.scrape()["qwensft_accelerators_held", "team"] == 1


def test_a_status_moves_the_counters_once() -> None:
    operator = Operator()
    before = a_run("a", "Training")
    after = {
        "phase": "Failed",
        "completionTime": at(12),
        "stages": {"prepare": {"startTime": at(6), "completionTime": at(7)}, "train": {"attempt": 1}},
        "usage": {"acceleratorSeconds": 80, "beforeFirstStepSeconds": 8},
    }
    operator.metrics.told(before, after)
    operator.metrics.told(before | {"status": after}, after)
    seen = operator.scraped_later()
    assert seen["qwensft_runs_ended_total", "Failed", "team"] == 1
    assert seen["qwensft_stage_duration_seconds_sum", "prepare"] == 3600
    assert seen["qwensft_accelerator_seconds_total", "team"] == 80
    assert seen["qwensft_accelerator_before_first_step_seconds_total", "team"] == 8


@pytest.mark.parametrize("accepted", [True, False])
async def test_only_a_status_that_the_api_server_has_accepted_counts(accepted: bool) -> None:
    told: list[tuple[Manifest, Manifest]] = []
    world = watched_world()
    world.reconciler._told = lambda before, after: told.append((before, after))
    if not accepted:
        world.kube.refuse["patch/status", "qwensftjobs"] = ConflictError(
            409, "Conflict", "somebody else has written it"
        )
    await world.reconciler.handle(KEY)
    assert bool(told) is accepted
