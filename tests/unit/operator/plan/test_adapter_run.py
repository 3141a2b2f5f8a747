"""A run that trains on the adapter of another: its wait and its choice, where they differ from those for a model."""

from dataclasses import replace
from typing import Any

import pytest

from qwensft_operator.plan import awaited_by, needs_of, source_run_view
from qwensft_operator.plan.run import Run
from qwensft_operator.plan.types import Limits, Observed

from .builders import PREPARE, RUNNING, TRAIN, look, new_run, scene
from .test_source_run import DIGEST, MERGED, OWN, first

NAME = {"name": "Qwen/Qwen3-8B"}
MODEL = NAME | {"adapter": {"run": {"name": "first"}}}
ADAPTER = MERGED | {"path": "first-aaaaaaaa/train/2"}
PIN = {
    "name": "first",
    "uid": "aaaaaaaa-1",
    "claimName": "first-workspace",
    "path": "first-aaaaaaaa/train/2",
    "digest": DIGEST,
}
ROWS = [{"name": "rows", "format": "alpaca", "source": {"configMap": {"name": "rows", "key": "rows.json"}}}]


def other(phase: str = "Succeeded", **spec: Any) -> dict[str, Any]:
    """The run that trains the adapter, by a whole spec."""
    outputs = spec.pop("outputs", {"adapter": ADAPTER})
    return first(phase, outputs=outputs, **({"model": NAME, "datasets": ROWS} | spec))


def seen(source: dict[str, Any] | None, **more: Any) -> Observed:
    view = None if source is None else source_run_view(source)
    return replace(new_run(**({"model": MODEL} | more)), source_run=view)


def test_it_waits_and_then_notes_which_adapter_it_is() -> None:
    waiting = look(seen(other("Training")))
    assert waiting.headline == ("Pending", "WaitingForSourceRun")
    assert "until QwenSFTJob first has succeeded, with whose adapter this run begins" in waiting.message
    decided = look(replace(waiting.then(), source_run=source_run_view(other())))
    assert decided.status.adapter_run.document() == PIN
    assert decided.status.source_run is None
    assert f"begins with the adapter of QwenSFTJob first (UID aaaaaaaa-1): {DIGEST}" in decided.message
    assert "CreateJob prepare-1" in look(decided.then(source_run=None)).actions


def test_an_adapter_needs_no_merge() -> None:
    assert look(seen(other(merge={"enabled": False}))).status.adapter_run is not None


UNLIKE: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "rank": ({"lora": {"rank": 16}}, {}, "set spec.tuning.lora.rank to 16 (it is 8); set spec.tuning.lora.alpha to 32"),
    "targets": ({"lora": {"targets": ["all"]}}, {}, "lora.targets to [all] (it is [q_proj, v_proj])"),
    "more targets": ({"lora": {"additionalTargets": ["norm"]}}, {}, "lora.additionalTargets to [norm] (it is [])"),
    "dropout": ({"lora": {"dropout": 0.05}}, {}, "set spec.tuning.lora.dropout to 0.05 (it is 0.0)"),
    "rsLoRA": ({}, {"lora": {"rslora": True}}, "set spec.tuning.lora.rslora to false (it is true)"),
    "DoRA": ({"method": "dora"}, {}, "set spec.tuning.method to dora (it is lora)"),
    "PiSSA": ({"lora": {"pissa": True}}, {}, "rank to 16 (it is 8); set spec.tuning.lora.alpha to 32 (it is 16)"),
    "PiSSA and rsLoRA": (
        {"lora": {"pissa": True, "rslora": True}},
        {"lora": {"rslora": True}},
        "begin with its merged model (spec.model.source.run): PiSSA with rsLoRA has left an alpha that is no whole",
    ),
    "vision": ({"vision": {"freezeTower": False}}, {}, "set spec.tuning.vision.freezeTower to false (it is true)"),
    "no adapter": (
        {"method": "full"},
        {},
        "first trains no adapter (spec.tuning.method: full): create this QwenSFTJob",
    ),
}


@pytest.mark.parametrize(("theirs", "own", "words"), UNLIKE.values(), ids=UNLIKE)
@pytest.mark.parametrize("phase", ["Training", "Succeeded"])
def test_what_cannot_be_trained_on_is_told_at_once_with_what_to_set(
    phase: str, theirs: dict[str, Any], own: dict[str, Any], words: str
) -> None:
    decided = look(seen(other(phase, tuning=theirs), tuning=own))
    assert decided.headline == ("Pending", "SourceRunUnavailable")
    assert words in decided.message
    assert decided.status.adapter_run is None


ALIKE: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "defaults that are written out": ({}, {"lora": {"rank": 8, "alpha": 16, "targets": ["v_proj", "q_proj"]}}),
    "a quantised base": ({"lora": {"rank": 16}}, {"method": "qlora", "lora": {"rank": 16}}),
    "another optimiser": ({}, {"lora": {"loraPlusRatio": 16}}),
    "what PiSSA leaves": ({"lora": {"pissa": True}}, {"lora": {"rank": 16}}),
}


@pytest.mark.parametrize(("theirs", "own"), ALIKE.values(), ids=ALIKE)
def test_what_an_adapter_does_not_settle_may_differ(theirs: dict[str, Any], own: dict[str, Any]) -> None:
    assert look(seen(other(tuning=theirs), tuning=own)).status.adapter_run is not None


def test_new_tokens_are_part_of_the_adapter() -> None:
    decided = look(seen(other(model=NAME | {"addTokens": ["<a>"]})))
    assert "set spec.model.addTokens to [<a>] (it is [])" in decided.message


def test_a_spec_that_this_version_cannot_read_is_left_to_prepare() -> None:
    assert look(seen(other(colour="red", tuning={"lora": {"rank": 64}}))).status.adapter_run is not None


def test_a_run_that_tells_of_no_adapter_is_asked_to_merge_again() -> None:
    decided = look(seen(other(outputs={"merged": MERGED})))
    assert decided.headline == ("Pending", "SourceRunUnavailable")
    assert "tells of no adapter that this run could begin with: change something in its spec.merge" in decided.message


def test_a_run_that_is_gone_leaves_its_merged_model() -> None:
    message = look(seen(None)).message
    assert "with whose adapter this run begins, does not exist" in message
    assert "spec.model.source.volume, for its merged model, in place of spec.model.adapter" in message


def test_a_claim_that_goes_with_the_other_run_is_needed_until_this_one_is_prepared() -> None:
    decided = look(seen(other(storage={"retain": False})))
    assert decided.events == [("Warning", "Starting")]
    assert "keep it until this run has been prepared" in decided.message


def test_base_and_adapter_of_two_runs_are_chosen_one_after_the_other() -> None:
    """The adapter was trained on the merged model of a run before."""
    model = MODEL | {"source": {"run": {"name": "base"}}}
    manifest = {"spec": {"model": model}}
    observed = seen(None, model=model)
    assert (needs_of(Run(observed)).source_run, awaited_by(manifest)) == ("base", "base")
    merged = first() | {"metadata": {"name": "base", "uid": "aaaaaaaa-1"}}
    outputs = {"merged": MERGED | {"claimName": "base-workspace", "path": "base-aaaaaaaa/merged"}}
    merged["status"] = merged["status"] | {"outputs": outputs}
    begun = look(replace(observed, source_run=source_run_view(merged)))
    assert begun.status.source_run.name == "base"
    needs = needs_of(Run(begun.then(source_run=None)))
    assert (needs.source_run, awaited_by(manifest | {"status": {"sourceRun": PIN}})) == ("first", "first")
    both = look(begun.then(source_run=source_run_view(other())))
    assert (both.status.source_run.name, both.status.adapter_run.name) == ("base", "first")
    after = both.then(source_run=None)
    assert awaited_by(manifest | {"status": {"sourceRun": PIN, "adapterRun": PIN}}) is None
    assert needs_of(Run(after)).claims == ("support-workspace", "base-workspace", "first-workspace")
    assert "CreateJob prepare-1" in look(after).actions


def test_only_prepare_needs_the_other_runs_claim() -> None:
    pin = look(seen(other())).status.adapter_run
    claims = {
        stage: needs_of(Run(scene(stage, None, status={"adapter_run": pin}, model=MODEL))).claims
        for stage in (PREPARE, TRAIN)
    }
    assert ("first-workspace" in claims[PREPARE], "first-workspace" in claims[TRAIN]) == (True, False)
    running = scene(TRAIN, RUNNING, status={"adapter_run": pin}, model=MODEL)
    assert look(running).headline[1] != "StorageUnavailable"


def test_a_claim_that_is_gone_is_told_with_the_run_whose_it_was() -> None:
    observed = look(seen(other())).then(source_run=None)
    decided = look(replace(observed, claims=(OWN,), claim_exists=True))
    assert "claim first-workspace with the adapter of QwenSFTJob first, which this run reads" in decided.message
    assert "(spec.model.adapter.run), is gone; restore it, or create a new QwenSFTJob with another" in decided.message


def test_a_claim_that_the_other_run_names_has_to_be_allowed() -> None:
    storage = {"volume": {"claimName": "secrets-of-others"}}
    decided = look(replace(seen(other("Training", storage=storage)), limits=Limits(claims=("models",))))
    assert decided.headline[1] == "NotAllowed"
    assert "the claim secrets-of-others (spec.model.adapter.run): use one of models" in decided.message
