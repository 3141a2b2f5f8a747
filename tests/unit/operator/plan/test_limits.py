"""A run that names what its installation does not allow is refused before anything is made for it."""

from dataclasses import replace
from typing import Any

import pytest

from qwensft_operator.plan.limits import is_allowed
from qwensft_operator.plan.types import Limits

from .builders import FAILED, PREPARE, TRAIN, Seen, failed, look, new_run, scene

LIMITS = Limits(
    images=("registry.example/ml/*", "trainer:1"),
    claims=("shared", "team-*"),
    service_accounts=("trainer",),
    host_network=False,
)
VOLUME = {"claimName": "secrets-of-others", "path": "x"}
ROWS = {"name": "rows", "format": "alpaca"}


def refused(**spec: Any) -> Seen:
    observed = new_run(**spec)
    assert look(observed).starts, "nobody refuses it without limits"
    return look(replace(observed, limits=LIMITS))


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"worker": {"image": "docker.io/evil:1"}}, "the image docker.io/evil:1 (spec.worker.image): use one of"),
        (
            {"model": {"name": "Qwen/Qwen3-8B", "source": {"image": {"reference": "docker.io/evil:1"}}}},
            "the image docker.io/evil:1 (spec.model.source.image.reference): use one of registry.example/ml/*",
        ),
        (
            {"model": {"name": "Qwen/Qwen3-8B", "source": {"volume": VOLUME}}},
            "the claim secrets-of-others (spec.model.source.volume.claimName): use one of shared, team-*, or have it "
            "added to allowed.claims in the operator's chart",
        ),
        (
            {"model": {"name": "Qwen/Qwen3-8B", "cache": VOLUME}},
            "the claim secrets-of-others (spec.model.cache.claimName)",
        ),
        (
            {"datasets": [ROWS | {"source": {"volume": VOLUME}}]},
            "the claim secrets-of-others (spec.datasets[rows].source.volume.claimName)",
        ),
        (
            {"evaluation": {"datasets": [ROWS | {"name": "held-out", "source": {"volume": VOLUME}}]}},
            "the claim secrets-of-others (spec.evaluation.datasets[held-out].source.volume.claimName)",
        ),
        (
            {"storage": {"volume": {"claimName": "secrets-of-others"}}},
            "the claim secrets-of-others (spec.storage.volume.claimName)",
        ),
        ({"worker": {"serviceAccountName": "admin"}}, "the service account admin (spec.worker.serviceAccountName)"),
        ({"worker": {"hostNetwork": True}}, "spec.worker.hostNetwork: remove it"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_what_is_not_allowed_is_refused_by_its_field_and_nothing_is_made(spec: dict[str, Any], expected: str) -> None:
    seen = refused(**spec)
    assert seen.headline == ("Pending", "NotAllowed")
    assert f"does not allow {expected}" in seen.message
    assert seen.actions == []
    assert seen.plan.requeue_after is None
    assert seen.events == [("Warning", "NotAllowed")]
    assert (seen.condition("Stalled").status, seen.condition("Reconciling").status) == ("True", "False")


def test_all_that_is_wrong_is_told_at_once() -> None:
    message = refused(worker={"image": "evil:1", "serviceAccountName": "admin", "hostNetwork": True}).message
    assert [part.split()[0] for part in message.partition("allow ")[2].split("; nor ")] == [
        *("the", "the", "spec.worker.hostNetwork:")
    ]


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"worker": {"image": "trainer:1", "serviceAccountName": "trainer"}},
        {"worker": {"image": "registry.example/ml/trainer@sha256:abc"}},
        {"storage": {"volume": {"claimName": "team-7"}}},
    ],
)
def test_what_is_allowed_begins_as_without_limits(spec: dict[str, Any]) -> None:
    observed = new_run(**spec)
    limited = look(replace(observed, limits=LIMITS))
    assert limited.plan == look(observed).plan


def test_an_attempt_that_runs_goes_on_and_no_other_is_started() -> None:
    worker: dict[str, Any] = {"worker": {"image": "evil:1"}}
    running = scene(TRAIN, observed={"limits": LIMITS}, **worker)
    assert look(running).headline == ("Training", "Running")
    stopped = scene(TRAIN, FAILED, pods=(failed(),), observed={"limits": LIMITS}, **worker)
    reserved = look(stopped).then(children=(), pods=())
    assert look(reserved).headline[1] == "NotAllowed"
    assert look(reserved).actions == []


def test_a_suspended_run_says_that_it_is() -> None:
    held = scene(PREPARE, None, recorded=False, suspend=True, observed={"limits": LIMITS}, worker={"image": "evil:1"})
    assert look(held).headline == ("Suspended", "Suspended")


def test_a_refusal_ends_when_the_limits_are_wider() -> None:
    seen = refused(worker={"image": "evil:1"})
    assert look(seen.then(limits=Limits())).starts


@pytest.mark.parametrize(
    ("name", "allowed", "expected"),
    [
        ("a", (), True),
        ("a", ("b", "a"), True),
        ("ab", ("a",), False),
        ("host/ml/a", ("host/ml/*",), True),
        ("host/ml", ("host/ml/*",), False),
        ("host/ml/../evil", ("host/ml/a",), False),
        ("", ("a*",), False),
    ],
)
def test_names_and_their_beginnings(name: str, allowed: tuple[str, ...], expected: bool) -> None:
    assert is_allowed(name, allowed) is expected
