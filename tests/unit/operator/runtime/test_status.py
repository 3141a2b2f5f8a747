"""Status is written once and only when it changed; events are said once."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwensft.api.v1alpha1 import StatusModel
from qwensft_operator.plan.types import Event
from qwensft_operator.runtime.kube import (
    EVENTS,
    QWENSFTJOBS,
    ConflictError,
    ForbiddenError,
    InvalidError,
    Manifest,
    Resource,
)
from qwensft_operator.runtime.status import Reporter, event_manifest, merge_patch, status_patch

from .fakes import FakeKube, apply_merge_patch, job_manifest

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
NOT_NULL = st.booleans() | st.integers(-9, 9) | st.text(max_size=3) | st.lists(st.integers(0, 3), max_size=3)


def documents(keys: str) -> st.SearchStrategy[dict[str, Any]]:
    return st.recursive(
        st.dictionaries(st.sampled_from(keys), NOT_NULL, max_size=3),
        lambda nested: st.dictionaries(st.sampled_from(keys), NOT_NULL | nested, max_size=3),
        max_leaves=6,
    )


class Known(StatusModel):
    """Of the documents' keys a, b and c the last is one that only a newer version knows."""

    a: "Known | None" = None
    b: "Known | None" = None


def with_unknown(stored: Any, wanted: Any) -> Any:
    """What should be stored: all that is wanted, and of what was stored what is not known."""
    if not isinstance(stored, dict) or not isinstance(wanted, dict):
        return wanted
    unknown = {key: value for key, value in stored.items() if key == "c"}
    return unknown | {key: with_unknown(stored.get(key), value) for key, value in wanted.items()}


@given(documents("abc"), documents("ab"))
def test_the_patch_changes_what_is_known_and_nothing_else(stored: dict[str, Any], wanted: dict[str, Any]) -> None:
    patch = merge_patch(stored, wanted, Known)
    assert apply_merge_patch(stored, patch) == with_unknown(stored, wanted)
    assert (patch == {}) == (stored == with_unknown(stored, wanted))


CONDITION = {"status": "True", "reason": "Fine", "message": "", "lastTransitionTime": "2026-01-02T03:04:05Z"}


def test_conditions_of_others_stay_as_they_are_and_where_they_are() -> None:
    approved = {"type": "team.example/Approved", "since": "2026-01-02T03:04:05.123Z"} | CONDITION
    stored = {"conditions": [{"type": "Succeeded", "weight": 2} | CONDITION, approved, {"type": "Stalled"} | CONDITION]}
    wanted = [{"type": type_, "status": "False"} for type_ in ("Succeeded", "Stalled", "Suspended")]
    assert status_patch(stored, {"conditions": wanted})["conditions"] == [
        {"type": "Succeeded", "status": "False", "weight": 2},
        approved,
        {"type": "Stalled", "status": "False"},
        {"type": "Suspended", "status": "False"},
    ]
    assert status_patch(stored, {"conditions": stored["conditions"][:1]}) == {}


async def test_a_status_that_did_not_change_is_not_written() -> None:
    kube = FakeKube()
    stored = kube.put(QWENSFTJOBS, "team", job_manifest() | {"status": {"phase": "Training", "restarts": 1}})
    assert not await Reporter(kube, "me").write_status(stored, {"phase": "Training", "restarts": 1})
    assert kube.calls == []


async def test_fields_that_vanished_are_removed() -> None:
    kube = FakeKube()
    stored = kube.put(
        QWENSFTJOBS, "team", job_manifest() | {"status": {"phase": "Training", "progress": {"eta": "2h"}}}
    )
    assert await Reporter(kube, "me").write_status(stored, {"phase": "Training", "progress": {}})
    assert kube.objects["qwensftjobs", "team", "demo"]["status"] == {"phase": "Training", "progress": {}}


async def test_a_status_never_lands_on_a_run_that_has_moved_on() -> None:
    kube = FakeKube()
    seen = kube.put(QWENSFTJOBS, "team", job_manifest())
    kube.put(QWENSFTJOBS, "team", job_manifest())
    with pytest.raises(ConflictError):
        await Reporter(kube, "me").write_status(seen, {"phase": "Training"})


async def test_the_same_words_make_one_event_with_a_newer_time_and_who_said_them_last() -> None:
    kube, event = FakeKube(), Event("Warning", "OutOfMemory", "pod demo-train-1-0 was killed")
    await Reporter(kube, "me").emit(job_manifest(), [event])
    (name,) = kube.named(EVENTS)
    kube.objects["events", "team", name]["lastTimestamp"] = "2020-01-01T00:00:00Z"
    await Reporter(kube, "my successor").emit(job_manifest(), [event])
    assert kube.named(EVENTS) == {name}
    told = kube.objects["events", "team", name]
    assert told["lastTimestamp"] > "2026"
    assert told["reportingInstance"] == "my successor"


async def test_an_event_about_something_else_is_not_changed_whatever_its_name() -> None:
    kube, event = FakeKube(), Event("Warning", "OutOfMemory", "pod demo-train-1-0 was killed")
    theirs = event_manifest(job_manifest(), event, "me", NOW)
    theirs["involvedObject"]["uid"] = "somebody-else"
    kube.put(EVENTS, "team", theirs)
    await Reporter(kube, "me").emit(job_manifest(), [event])
    (stored,) = (kube.objects[key] for key in kube.objects if key[0] == "events")
    assert stored["lastTimestamp"] == theirs["lastTimestamp"]


async def test_an_event_has_the_time_of_the_api_server() -> None:
    kube = FakeKube()
    kube.clock.heard("Fri, 02 Jan 2099 12:00:00 GMT")
    await Reporter(kube, "me").emit(job_manifest(), [Event("Normal", "Trained", "500 steps")])
    (name,) = kube.named(EVENTS)
    assert kube.objects["events", "team", name]["lastTimestamp"].startswith("2099-01-02T12:00:0")


def test_other_words_or_another_run_make_another_event() -> None:
    def name(about: dict[str, Any], event: Event) -> str:
        return str(event_manifest(about, event, "me", NOW)["metadata"]["name"])

    first = name(job_manifest(), Event("Normal", "Trained", "500 steps"))
    assert first == name(job_manifest(), Event("Normal", "Trained", "500 steps"))
    assert first != name(job_manifest(), Event("Normal", "Trained", "501 steps"))
    assert first != name(job_manifest(uid="22222222-bbbb"), Event("Normal", "Trained", "500 steps"))


async def test_an_event_that_is_refused_fails_nothing() -> None:
    kube = FakeKube()
    kube.refuse["create", "events"] = ForbiddenError(403, "Forbidden", "namespace is terminating")
    await Reporter(kube, "me").emit(job_manifest(), [Event("Normal", "Trained", "500 steps")])
    assert kube.named(EVENTS) == set()


def test_an_event_message_is_cut_to_what_the_api_server_takes_between_characters() -> None:
    body = event_manifest(job_manifest(), Event("Normal", "X", "ü" * 2000), "me", NOW)
    assert len(body["message"].encode()) <= 1024
    assert body["message"].endswith("ü…")


class PickyKube(FakeKube):
    """Refuses any status with progress, as an API server does whose schema a figure breaks."""

    async def merge(
        self, resource: Resource, namespace: str, name: str, patch: Manifest, *, subresource: str = ""
    ) -> Manifest:
        if "progress" in patch.get("status", {}):
            raise InvalidError(422, "Invalid", "status.progress.step: Invalid value")
        return await super().merge(resource, namespace, name, patch, subresource=subresource)


def test_an_event_moves_no_terminal() -> None:
    """An annotation of a Job, say, is anybody's text."""
    message = event_manifest(job_manifest(), Event("Warning", "X", "made by \x1b[2Jme\u202e"), "me", NOW)["message"]
    assert message == "made by \\x1b[2Jme\\u202e"


async def test_figures_that_the_api_server_refuses_do_not_keep_the_run_from_moving_and_are_told() -> None:
    kube = PickyKube()
    stored = kube.put(QWENSFTJOBS, "team", job_manifest() | {"status": {"phase": "Training", "progress": {"step": 1}}})
    reporter = Reporter(kube, "me")
    assert await reporter.write_status(stored, {"phase": "Merging", "restarts": 1, "progress": {"step": -1}})
    written = kube.objects["qwensftjobs", "team", "demo"]
    assert written["status"] == {"phase": "Merging", "restarts": 1, "progress": {"step": 1}}
    (name,) = kube.named(EVENTS)
    event = kube.objects["events", "team", name]
    assert (event["reason"], "status.progress.step" in event["message"]) == ("OperatorError", True)
    assert not await reporter.write_status(written, written["status"] | {"progress": {"step": -1}})


class SchemaKube(FakeKube):
    """Refuses a status with a part that its schema does not take, and names that part or not."""

    def __init__(self, refused: str, *, names: bool = True) -> None:
        super().__init__()
        self.refused, self.names = refused, names

    async def merge(
        self, resource: Resource, namespace: str, name: str, patch: Manifest, *, subresource: str = ""
    ) -> Manifest:
        status = patch.get("status", {})
        if self.refused in status.keys() | {f"outputs.{name}" for name in status.get("outputs", ())}:
            fields = (f"status.{self.refused}.path",) if self.names else ()
            raise InvalidError(422, "Invalid", "Invalid value", fields)
        return await super().merge(resource, namespace, name, patch, subresource=subresource)


PARTS: dict[str, Any] = {
    "progress": {"step": 1},
    "dataset": {"samples": 1},
    "usage": {"acceleratorSeconds": 1},
    "trackers": [{"name": "mlflow"}],
    "outputs": {"adapter": {"path": "/a"}, "report": {"path": "/r"}},
}
WITHOUT_REPORT = {"adapter": {"path": "/a"}}


@pytest.mark.parametrize("refused", PARTS)
async def test_only_the_part_that_the_api_server_names_is_left_out(refused: str) -> None:
    kube = SchemaKube(refused)
    stored = kube.put(QWENSFTJOBS, "team", job_manifest())
    assert await Reporter(kube, "me").write_status(stored, {"phase": "Merging", **PARTS})
    written = kube.objects["qwensftjobs", "team", "demo"]["status"]
    assert written.keys() == {"phase", *PARTS} - {refused}


async def test_where_the_model_is_told_though_the_api_server_names_nothing_that_it_refuses() -> None:
    kube = SchemaKube("progress", names=False)
    stored = kube.put(QWENSFTJOBS, "team", job_manifest())
    assert await Reporter(kube, "me").write_status(stored, {"phase": "Merging", **PARTS})
    written = kube.objects["qwensftjobs", "team", "demo"]["status"]
    assert written == {"phase": "Merging", "outputs": WITHOUT_REPORT}


@pytest.mark.parametrize("names", [True, False])
async def test_the_report_is_left_out_without_the_place_of_the_model(*, names: bool) -> None:
    kube = SchemaKube("outputs.report", names=names)
    stored = kube.put(QWENSFTJOBS, "team", job_manifest())
    assert await Reporter(kube, "me").write_status(stored, {"phase": "Merging", "outputs": PARTS["outputs"]})
    written = kube.objects["qwensftjobs", "team", "demo"]["status"]
    assert written == {"phase": "Merging", "outputs": WITHOUT_REPORT}


async def test_outputs_of_which_nothing_is_left_are_not_written() -> None:
    kube = SchemaKube("outputs.report")
    stored = kube.put(QWENSFTJOBS, "team", job_manifest())
    outputs = {"report": PARTS["outputs"]["report"]}
    assert await Reporter(kube, "me").write_status(stored, {"phase": "Merging", "outputs": outputs})
    assert kube.objects["qwensftjobs", "team", "demo"]["status"] == {"phase": "Merging"}


async def test_outputs_that_are_refused_are_the_last_to_be_left_out() -> None:
    kube = SchemaKube("outputs", names=False)
    stored = kube.put(QWENSFTJOBS, "team", job_manifest())
    assert await Reporter(kube, "me").write_status(stored, {"phase": "Merging", **PARTS})
    assert kube.objects["qwensftjobs", "team", "demo"]["status"] == {"phase": "Merging"}


@pytest.mark.parametrize("needed", ["stages", "sourceRun", "retry", "configuration"])
async def test_a_part_that_the_run_needs_is_refused_at_once(needed: str) -> None:
    kube = SchemaKube(needed)
    stored = kube.put(QWENSFTJOBS, "team", job_manifest())
    with pytest.raises(InvalidError):
        await Reporter(kube, "me").write_status(stored, {needed: PARTS["outputs"], **PARTS})
    assert "status" not in kube.objects["qwensftjobs", "team", "demo"]


async def test_a_refusal_of_what_the_run_needs_is_an_error() -> None:
    kube = PickyKube()
    kube.refuse["patch/status", "qwensftjobs"] = InvalidError(422, "Invalid", "status.phase: Unsupported value")
    stored = kube.put(QWENSFTJOBS, "team", job_manifest())
    with pytest.raises(InvalidError):
        await Reporter(kube, "me").write_status(stored, {"phase": "Merging"})
