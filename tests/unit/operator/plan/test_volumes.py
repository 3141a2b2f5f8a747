"""Claims: what is reported before pods hang on them, what is told while they do, and what is left alone."""

from dataclasses import replace
from typing import Any

import pytest

from qwensft.api.v1alpha1 import Stage
from qwensft_operator.plan.types import ClaimView, Observed, PodView, Trouble

from .builders import PREPARE, TRAIN, later, look, new_run, pod, scene
from .specs import FROM_CLAIMS


def claim(name: str = "runs", *modes: str, phase: str = "Bound", **fields: Any) -> ClaimView:
    return ClaimView(name, phase, frozenset(modes or ("ReadWriteMany",)), **fields)


ALL = tuple(claim(name) for name in ("runs", "models", "data", "eval"))


def with_claims(*claims: ClaimView, stage: Stage = PREPARE, **spec: Any) -> Observed:
    """A run about to start a stage; the claims given stand in place of the good ones of that name."""
    named = {c.name: c for c in (*ALL, *claims)}
    return scene(stage, None, recorded=False, observed={"claims": tuple(named.values())}, **{**FROM_CLAIMS, **spec})


def test_a_run_whose_claims_can_serve_starts() -> None:
    assert look(with_claims()).actions == ["EnsureConfigMap prepare-1", "CreateJob prepare-1"]


@pytest.mark.parametrize(
    ("name", "fix"),
    [
        ("runs", "create it, or use spec.storage.volume.claimTemplate"),
        ("models", "create it, or correct spec.model.source.volume.claimName"),
        ("data", "create it, or correct spec.datasets[rows].source.volume.claimName"),
        ("eval", "create it, or correct spec.evaluation.datasets[held].source.volume.claimName"),
    ],
)
def test_a_claim_that_is_missing_is_named_with_its_place_in_the_spec(name: str, fix: str) -> None:
    observed = with_claims()
    seen = look(replace(observed, claims=tuple(c for c in ALL if c.name != name)))
    assert (seen.headline[1], seen.actions) == ("StorageUnavailable", [])
    assert seen.message == f"claim {name} does not exist; {fix}"
    assert seen.plan.requeue_after == 30
    assert look(seen.then(claims=ALL)).actions == ["EnsureConfigMap prepare-1", "CreateJob prepare-1"]


@pytest.mark.parametrize(
    ("unfit", "words"),
    [
        (claim("runs", phase="Lost"), "claim runs (spec.storage.volume) has lost its volume"),
        (claim("models", deleting=True), "claim models (spec.model.source.volume) is being deleted"),
        (claim("data", block=True), "claim data (spec.datasets[rows].source.volume) is a raw block device"),
        (claim("runs", "ReadOnlyMany"), "claim runs (spec.storage.volume) is read-only"),
        (claim("runs", "ReadWriteOncePod"), "claim runs (spec.storage.volume) serves one pod only"),
        (claim("models", "ReadWriteOncePod"), "claim models (spec.model.source.volume) serves one pod only"),
    ],
)
def test_a_claim_that_cannot_serve_is_told_before_any_pod_hangs_on_it(unfit: ClaimView, words: str) -> None:
    seen = look(with_claims(unfit))
    assert (seen.headline[1], seen.actions) == ("StorageUnavailable", [])
    assert seen.message.startswith(words)


@pytest.mark.parametrize(
    "fit",
    [
        claim("models", "ReadOnlyMany"),
        claim("data", "ReadOnlyMany"),
        claim("data", "ReadWriteOncePod"),  # only the one pod of prepare mounts it
        claim("runs", "ReadWriteOnce"),  # its pods may all be on one node
        claim("runs", "ReadWriteOncePod", "ReadWriteMany"),
        claim("runs", phase="Pending"),  # may be waiting for its first pod
        claim("models", phase="Pending", trouble=Trouble("FailedBinding", "no storage class", later(hours=-1))),
    ],
)
def test_a_claim_that_may_serve_holds_nothing_up(fit: ClaimView) -> None:
    assert look(with_claims(fit)).actions == ["EnsureConfigMap prepare-1", "CreateJob prepare-1"]


def test_a_claim_for_one_pod_serves_a_run_on_one_node() -> None:
    seen = look(with_claims(claim("runs", "ReadWriteOncePod"), distribution={"nodes": 1}))
    assert seen.actions == ["EnsureConfigMap prepare-1", "CreateJob prepare-1"]


def test_prepare_writes_to_the_cache_and_training_only_reads_it() -> None:
    cached: dict[str, Any] = {"model": {"name": "Qwen/Qwen3-8B", "cache": {"claimName": "cache"}}}
    seen = look(with_claims(claim("cache", "ReadOnlyMany"), **cached))
    assert seen.message.startswith("claim cache (spec.model.cache) is read-only")
    assert look(with_claims(claim("cache", "ReadOnlyMany"), stage=TRAIN, **cached)).actions


def test_training_needs_no_claim_of_a_dataset() -> None:
    observed = with_claims(stage=TRAIN)
    assert look(replace(observed, claims=(claim("runs"), claim("models")))).actions


def test_a_template_needs_no_claim_before_the_first_start() -> None:
    assert look(replace(new_run(), claims=())).actions[0] == "EnsureClaim"


def test_a_retained_claim_of_an_earlier_run_must_serve_as_well() -> None:
    seen = look(replace(new_run(), claim_exists=True, claims=(claim("support-workspace", phase="Lost"),)))
    assert seen.message.startswith("claim support-workspace (spec.storage.volume) has lost its volume")


def test_a_held_run_says_nothing_about_its_claims() -> None:
    assert look(with_claims(claim("runs", phase="Lost"), suspend=True)).headline == ("Suspended", "Suspended")


UNBOUND = pod(phase="Pending", node="", unschedulable="0/3 nodes: pod has unbound immediate PersistentVolumeClaims")


def waiting(*claims: ClaimView, pods: tuple[PodView, ...] = (UNBOUND,)) -> Observed:
    """A prepare pod that does not start."""
    named = {c.name: c for c in (*ALL, *claims)}
    observed = {"claims": tuple(named.values())}
    return scene(PREPARE, pods=pods, child_fields={"ready": 0}, observed=observed, **FROM_CLAIMS)


@pytest.mark.parametrize(
    ("reason", "minutes", "headline"),
    [
        ("FailedBinding", 1, "StorageUnavailable"),
        ("ProvisioningFailed", 1, "StorageUnavailable"),
        ("ProvisioningFailed", 0, "Unschedulable"),
        ("ExternalProvisioning", 1, "Unschedulable"),  # said of every claim while its volume is being made
        ("ExternalProvisioning", 3, "StorageUnavailable"),
    ],
)
def test_a_claim_that_gets_no_volume_is_the_reason_why_its_pod_waits(reason: str, minutes: int, headline: str) -> None:
    trouble = Trouble(reason, 'storageclass "fast" not found', later(minutes=-minutes))
    seen = look(waiting(claim("models", phase="Pending", trouble=trouble)))
    assert seen.headline == ("Preparing", headline)
    if headline == "StorageUnavailable":
        told = f'cannot be scheduled: claim models has no volume: {reason}: storageclass "fast" not found'
        assert seen.message == f"pod pod-0 {told}"


def test_a_claim_whose_volume_fails_to_be_made_is_told_also_when_the_scheduler_is_silent() -> None:
    # A claim that waits for its first pod: the scheduler has picked a node and waits for the volume.
    trouble = Trouble("ProvisioningFailed", "quota exceeded", later(minutes=-1))
    seen = look(waiting(claim("runs", phase="Pending", trouble=trouble), pods=(pod(phase="Pending", node=""),)))
    assert seen.headline == ("Preparing", "StorageUnavailable")


def test_a_claim_that_vanished_before_its_pod_was_scheduled_is_named() -> None:
    seen = look(replace(waiting(), claims=ALL[1:]))
    assert seen.message == (
        "pod pod-0 cannot be scheduled: claim runs does not exist; create it, or use spec.storage.volume.claimTemplate"
    )


def test_a_pod_that_waits_for_something_else_blames_no_claim() -> None:
    seen = look(waiting(pods=(pod(phase="Pending", node="", unschedulable="0/3 nodes: Insufficient cpu"),)))
    assert seen.headline == ("Preparing", "Unschedulable")


def test_a_volume_that_two_nodes_cannot_attach_is_told_with_the_way_out() -> None:
    multi = Trouble("FailedAttachVolume", 'Multi-Attach error for volume "pvc-1"', later(minutes=-1))
    stuck = pod(1, phase="Pending", trouble=multi)
    claims = (claim("runs", "ReadWriteOnce"), claim("models"))
    fields = {"claims": claims}
    seen = look(scene(TRAIN, pods=(pod(0), stuck), child_fields={"ready": 1}, observed=fields, **FROM_CLAIMS))
    assert seen.headline == ("Training", "VolumeMountFailed")
    assert "Multi-Attach error" in seen.message
    assert "claim runs is not ReadWriteMany" in seen.message
    assert "spec.worker.nodeSelector" in seen.message


def test_pods_that_start_are_looked_at_again_because_no_watch_tells_of_events() -> None:
    assert look(waiting()).plan.requeue_after == 15


def kept(**fields: Any) -> Observed:
    """A new run of two nodes whose claim was there before it."""
    large = {"size": "500Gi", "storage_class": "fast"}
    there = claim("support-workspace", *fields.pop("modes", ("ReadWriteMany",)), **(large | fields))
    template = {"size": "100Gi", "storageClassName": "fast"}
    return replace(new_run(storage={"volume": {"claimTemplate": template}}), claims=(there,), claim_exists=True)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"size": "50Gi"}, "it has 50Gi, and spec.storage.volume.claimTemplate asks for 100Gi"),
        ({"modes": ("ReadWriteOnce",)}, "it is ReadWriteOnce, and the spec asks for ReadWriteMany"),
        ({"storage_class": "slow"}, "its class is slow, and spec.storage.volume.claimTemplate names fast"),
    ],
)
def test_a_kept_claim_that_has_less_than_is_asked_for_is_told_once_and_used(fields: dict[str, Any], words: str) -> None:
    seen = look(kept(**fields))
    assert seen.actions == ["EnsureConfigMap prepare-1", "CreateJob prepare-1"]
    (told,) = [event.message for event in seen.plan.events if event.reason == "ClaimDiffers"]
    assert told.startswith(f"claim support-workspace was there before the run, and is used as it is: {words}. ")
    assert "kubectl edit pvc support-workspace -n team" in told
    assert ("Warning", "ClaimDiffers") not in look(seen.then()).events


def test_a_kept_claim_that_has_all_that_is_asked_for_is_no_matter() -> None:
    assert ("Warning", "ClaimDiffers") not in look(kept()).events
    assert ("Warning", "ClaimDiffers") not in look(kept(size="", modes=("ReadWriteOnce", "ReadWriteMany"))).events
