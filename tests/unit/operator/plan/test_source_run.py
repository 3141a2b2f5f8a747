"""A run that begins with another's merged model: the wait for it, the choice, and what becomes of that afterwards."""

from dataclasses import replace
from typing import Any

import pytest

from qwensft.api.v1alpha1 import Status
from qwensft_operator.plan import needs_of, source_run_view
from qwensft_operator.plan.run import Run
from qwensft_operator.plan.types import ClaimView, Limits, Observed, SourceRunView

from .builders import FAILED, PREPARE, RUNNING, TRAIN, Seen, child, later, look, new_run, scene

MODEL = {"name": "Qwen/Qwen3-8B", "source": {"run": {"name": "first"}}}
DIGEST = f"sha256:{'ab' * 32}"
MERGED = {"claimName": "first-workspace", "path": "first-aaaaaaaa/merged", "sizeBytes": 7, "digest": DIGEST}
PIN = {
    "name": "first",
    "uid": "aaaaaaaa-1",
    "claimName": "first-workspace",
    "path": "first-aaaaaaaa/merged",
    "digest": DIGEST,
}
ENDED = "2026-01-02T11:00:00Z"


def first(
    phase: str = "Succeeded", *, outputs: dict[str, Any] | None = None, uid: str = "aaaaaaaa-1", **spec: Any
) -> dict[str, Any]:
    """The other run as stored: by default it has succeeded with a merged model."""
    over = phase in ("Succeeded", "Failed")
    condition = {
        "type": "Succeeded",
        "status": "Unknown",
        "reason": "OutOfMemory" if phase == "Failed" else "Running",
        "message": "",
        "lastTransitionTime": ENDED,
    }
    status: dict[str, Any] = {"phase": phase, "conditions": [condition]}
    status |= {"completionTime": ENDED} if over else {}
    status |= {"outputs": {"merged": MERGED} if outputs is None else outputs} if phase == "Succeeded" else {}
    storage = {"volume": {"claimTemplate": {"size": "1Gi"}}} | spec.pop("storage", {})
    return {"metadata": {"name": "first", "uid": uid}, "spec": {"storage": storage, **spec}, "status": status}


def seen(source: dict[str, Any] | None, **more: Any) -> Observed:
    """A new run that begins with `first`, and how that one stands."""
    view = None if source is None else source_run_view(source)
    return replace(new_run(**({"model": MODEL} | more)), source_run=view)


def chosen(observed: Observed) -> dict[str, Any] | None:
    pin = look(observed).status.source_run
    return None if pin is None else dict(pin.document())


WAITS: dict[str, tuple[dict[str, Any] | None, str]] = {
    "it does not exist": (None, "QwenSFTJob first, with whose merged model this run begins, does not exist; this run"),
    "it is being deleted": (
        first() | {"metadata": {"name": "first", "uid": "aaaaaaaa-1", "deletionTimestamp": ENDED}},
        "is being deleted; this run goes on once it has been created and has succeeded. If its volume was kept",
    ),
    "nobody has seen it": (first("Succeeded") | {"status": {}}, "waiting until QwenSFTJob first has succeeded"),
    "it trains": (first("Training"), "waiting until QwenSFTJob first has succeeded"),
    "it merges again": (first() | {"status": {"phase": "Merging", "outputs": {"merged": MERGED}}}, "waiting until"),
}


@pytest.mark.parametrize(("source", "words"), WAITS.values(), ids=WAITS)
def test_a_run_waits_until_the_other_has_succeeded_and_asks_for_no_look(
    source: dict[str, Any] | None, words: str
) -> None:
    decided = look(seen(source))
    assert decided.headline == ("Pending", "WaitingForSourceRun")
    assert words in decided.message
    assert decided.actions == []
    assert (decided.plan.requeue_after, decided.plan.poll) == (None, False)
    assert (decided.condition("Reconciling").status, decided.condition("Stalled").status) == ("True", "False")
    assert decided.events == [("Normal", "WaitingForSourceRun")]
    assert look(decided.then()).plan.status is None, "what has been said is not said again"


UNAVAILABLE: dict[str, tuple[dict[str, Any], str]] = {
    "it has failed": (first("Failed"), "has failed (OutOfMemory): mend that and change its spec.runPolicy.retry"),
    "it has merged nothing": (
        first(outputs={"adapter": MERGED}, merge={"enabled": False}),
        "no merged model that this run could begin with: set its spec.merge.enabled to true",
    ),
    "it has told of no outputs": (first(outputs={}), "change something in its spec.merge, such as shardSizeGB"),
    "its model has no digest": (
        first(outputs={"merged": {k: v for k, v in MERGED.items() if k != "digest"}}),
        "its status tells of no merged model",
    ),
    "its model lies elsewhere": (first(outputs={"merged": MERGED | {"path": "other/merged"}}), "tells of no merged"),
    "its model leads out": (first(outputs={"merged": MERGED | {"path": "first-aaaaaaaa/../x"}}), "tells of no merged"),
    "its model is on another claim": (first(outputs={"merged": MERGED | {"claimName": "x"}}), "tells of no merged"),
}


@pytest.mark.parametrize(("source", "words"), UNAVAILABLE.values(), ids=UNAVAILABLE)
def test_what_somebody_has_to_mend_is_told_and_the_run_does_not_fail(source: dict[str, Any], words: str) -> None:
    decided = look(seen(source))
    assert decided.headline == ("Pending", "SourceRunUnavailable")
    assert words in decided.message
    assert (decided.condition("Reconciling").status, decided.condition("Stalled").status) == ("False", "True")
    assert (decided.actions, decided.plan.requeue_after) == ([], None)
    assert decided.events == [("Warning", "SourceRunUnavailable")]
    mended = replace(decided.then(), source_run=source_run_view(first()))
    assert look(mended).status.source_run is not None


CIRCLES: dict[str, tuple[tuple[str, ...], str]] = {
    "of two": (("support",), "begins, waits for this run itself: none of them can begin. Delete one of them"),
    "of four": (("third", "fourth", "support", "first"), "waits for this run itself, by way of third, fourth: none of"),
}


@pytest.mark.parametrize(("waits_for", "words"), CIRCLES.values(), ids=CIRCLES)
def test_runs_that_wait_for_each_other_in_a_circle_are_told(waits_for: tuple[str, ...], words: str) -> None:
    decided = look(replace(seen(None), source_run=source_run_view(first("Pending"), waits_for)))
    assert decided.headline == ("Pending", "SourceRunUnavailable")
    assert words in decided.message
    assert decided.condition("Stalled").status == "True"
    opened = replace(decided.then(), source_run=source_run_view(first("Pending"), ("third", "first")))
    assert look(opened).headline == ("Pending", "WaitingForSourceRun"), "a circle of others is theirs to mend"


def test_a_run_that_has_ended_waits_for_nobody() -> None:
    ended = source_run_view(first("Failed"), ("support",))
    assert "has failed (OutOfMemory)" in look(replace(seen(None), source_run=ended)).message


def test_the_choice_is_written_before_anything_is_made() -> None:
    decided = look(seen(first()))
    assert decided.actions == []
    assert decided.plan.requeue_after == 0
    assert decided.status.source_run.document() == PIN
    assert (decided.headline, decided.events) == (("Pending", "Starting"), [("Normal", "Starting")])
    assert f"begins with the merged model of QwenSFTJob first (UID aaaaaaaa-1): {DIGEST}" in decided.message
    assert "CreateJob prepare-1" in look(decided.then(source_run=None)).actions


def test_the_choice_stays_whatever_becomes_of_the_other_run() -> None:
    """It is not even looked at any more: neither a job of its name, nor its end, changes what attempts begin with."""
    decided = look(seen(first()))
    for later_one in (None, first("Failed"), first(uid="bbbbbbbb-2", outputs={"merged": MERGED | {"digest": "other"}})):
        view = None if later_one is None else source_run_view(later_one)
        after = look(decided.then(source_run=view))
        assert after.status.source_run.document() == PIN
        assert "CreateJob prepare-1" in after.actions
    for stage, state in ((PREPARE, FAILED), (TRAIN, RUNNING), (TRAIN, FAILED)):
        pin = Status.model_validate({"sourceRun": PIN}).source_run
        assert look(scene(stage, state, status={"source_run": pin}, model=MODEL)).status.source_run.document() == PIN


def test_a_claim_that_goes_with_the_other_run_is_warned_of() -> None:
    decided = look(seen(first(storage={"retain": False})))
    assert decided.events == [("Warning", "Starting")]
    assert "Claim first-workspace is deleted with that QwenSFTJob, whose spec.storage.retain is" in decided.message
    named = {"volume": {"claimName": "runs"}, "retain": False, "path": "a"}
    merged = {"merged": MERGED | {"claimName": "runs", "path": "a/merged"}}
    assert look(seen(first(outputs=merged, storage=named))).events == [("Normal", "Starting")]


@pytest.mark.parametrize("path", ["first-aaaaaaaa", "first-aaaaaaaa/merged", "first-aaaaaaaa/own/run"])
def test_a_run_does_not_write_where_the_other_has_its_files(path: str) -> None:
    """With onExisting: Overwrite it would delete them."""
    decided = look(seen(first(), storage={"volume": {"claimName": "first-workspace"}, "path": path}))
    assert decided.headline == ("Pending", "SourceRunUnavailable")
    assert "lie in one another on claim first-workspace" in decided.message
    assert "spec.storage.path" in decided.message


@pytest.mark.parametrize("path", ["first-aaaaaaa", "first-aaaaaaaa2", None])
def test_both_may_share_a_volume(path: str | None) -> None:
    storage = {"volume": {"claimName": "first-workspace"}} | ({"path": path} if path else {})
    assert chosen(seen(first(), storage=storage)) == PIN


def test_the_wait_does_not_count_against_the_deadline() -> None:
    limit = {"runPolicy": {"activeDeadlineSeconds": 600}}
    waiting = look(seen(first("Training"), **limit))
    assert waiting.plan.requeue_after is None
    still = look(waiting.then(), later(hours=9))
    assert still.headline == ("Pending", "WaitingForSourceRun")
    assert still.plan.status is None
    begun = look(replace(waiting.then(), source_run=source_run_view(first())), later(hours=9))
    assert begun.status.suspended_seconds == 9 * 3600
    assert begun.status.suspend_time is None
    started = look(begun.then(source_run=None), later(hours=9))
    assert "CreateJob prepare-1" in started.actions
    assert started.plan.requeue_after is not None


def test_suspension_comes_first() -> None:
    held = {"runPolicy": {"suspend": True}}
    assert look(seen(first(), **held)).headline == ("Suspended", "Suspended")
    assert needs_of(Run(seen(first(), **held))).source_run is None


# What is looked at.


def test_who_waits_needs_nothing_but_the_other_run() -> None:
    needs = needs_of(Run(new_run(model=MODEL)))
    assert needs.source_run == "first"
    assert (needs.claims, needs.leftovers) == ((), False)


def test_who_knows_its_model_looks_at_the_other_run_no_more() -> None:
    decided = look(seen(first()))
    needs = needs_of(Run(decided.then(source_run=None)))
    assert needs.source_run is None
    assert needs.claims == ("support-workspace", "first-workspace")
    assert needs.leftovers


def test_a_running_attempt_waits_for_nothing() -> None:
    """Also where somebody has taken the choice out of the status."""
    observed = replace(new_run(model=MODEL), children=(child(PREPARE, RUNNING),), config_maps=frozenset({"rows"}))
    assert needs_of(Run(observed)).source_run is None
    assert look(observed).headline[1] == "Running"


# The claim.


def begun(*claims: ClaimView, **more: Any) -> Seen:
    """A run that has chosen, and the claims that there are."""
    observed = look(seen(first(), **more)).then(source_run=None)
    return look(replace(observed, claims=claims, claim_exists=True))


OWN = ClaimView("support-workspace", "Bound", frozenset({"ReadWriteMany"}))


def test_a_claim_that_is_gone_is_told_with_the_run_whose_it_was() -> None:
    decided = begun(OWN)
    assert decided.headline[1] == "StorageUnavailable"
    assert "claim first-workspace with the merged model of QwenSFTJob first, which this run reads" in decided.message
    assert "is gone; restore it, or create a new QwenSFTJob with another spec.model.source" in decided.message


@pytest.mark.parametrize(
    ("claim", "words"),
    [
        (ClaimView("first-workspace", "Bound", deleting=True), "(spec.model.source.run) is being deleted"),
        (ClaimView("first-workspace", "Lost"), "(spec.model.source.run) has lost its volume"),
        (
            ClaimView("first-workspace", "Bound", frozenset({"ReadWriteOncePod"})),
            "(spec.model.source.run) serves one pod only (ReadWriteOncePod); 2 nodes need ReadWriteMany",
        ),
    ],
)
def test_a_claim_that_cannot_be_mounted_is_told(claim: ClaimView, words: str) -> None:
    decided = begun(OWN, claim)
    assert decided.headline[1] == "StorageUnavailable"
    assert words in decided.message


@pytest.mark.parametrize("mode", ["ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany"])
def test_a_claim_of_one_node_or_one_that_is_read_only_will_do(mode: str) -> None:
    assert "CreateJob prepare-1" in begun(OWN, ClaimView("first-workspace", "Bound", frozenset({mode}))).actions


# What the installation allows.

NARROW = Limits(claims=("models",))


def test_the_claim_that_was_made_for_the_other_run_is_allowed() -> None:
    decided = look(replace(seen(first()), limits=NARROW))
    assert decided.status.source_run is not None
    assert "CreateJob prepare-1" in look(decided.then(source_run=None)).actions


@pytest.mark.parametrize("name", ["secrets-of-others", "first-workspace"])
def test_a_claim_that_the_other_run_names_has_to_be_allowed_also_while_one_waits(name: str) -> None:
    storage = {"volume": {"claimName": name}}
    decided = look(replace(seen(first("Training", storage=storage)), limits=NARROW))
    assert decided.headline[1] == "NotAllowed"
    assert f"the claim {name} (spec.model.source.run): use one of models, or have it added to allowed.claims" in (
        decided.message
    )
    assert decided.status.source_run is None


def test_a_status_that_names_another_claim_opens_none() -> None:
    """Who may write statuses may not mount claims by it."""
    pin = Status.model_validate({"sourceRun": PIN | {"claimName": "secrets-of-others"}}).source_run
    observed = scene(
        PREPARE, None, recorded=False, status={"source_run": pin}, observed={"limits": NARROW}, model=MODEL
    )
    assert look(observed).headline[1] == "NotAllowed"


# How the other run is read.


def test_the_other_run_is_read_by_what_counts_and_by_no_schema() -> None:
    """It may be of a newer version, whose spec this one does not know."""
    manifest = first(colour="red", merge={"enabled": False})
    assert source_run_view(manifest) == SourceRunView(
        uid="aaaaaaaa-1",
        status=Status.model_validate(manifest["status"]),
        directory="first-aaaaaaaa",
        claim="first-workspace",
        merges=False,
    )
    named = source_run_view(first(storage={"volume": {"claimName": "runs"}, "path": "a/b", "retain": False}))
    assert (named.directory, named.claim, named.names_claim, named.retains) == ("a/b", "runs", True, False)
