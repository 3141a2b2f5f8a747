"""Merging: on, off, and again when spec.merge changes; whatever happens, training is not touched."""

from typing import Any

from .builders import COMPLETE, FAILED, MERGE, TRAIN, Seen, child, failed, later, look, scene

OFF: dict[str, Any] = {"merge": {"enabled": False}}


def merged(**spec: Any) -> Seen:
    return look(scene(MERGE, COMPLETE, **spec))


def test_a_run_without_merge_succeeds_with_its_training() -> None:
    seen = look(scene(TRAIN, COMPLETE, **OFF))
    assert seen.headline == ("Succeeded", "Completed")
    assert (seen.condition("Merged").status, seen.condition("Merged").reason) == ("False", "Disabled")


def test_the_merge_is_recorded_before_it_is_started() -> None:
    seen = look(scene(TRAIN, COMPLETE))
    assert (seen.actions, seen.plan.requeue_after) == ([], 0)
    assert seen.stage(MERGE).spec_hash
    assert look(seen.then()).actions == ["EnsureConfigMap merge-1", "CreateJob merge-1"]


def test_an_edit_between_record_and_start_is_recorded_first() -> None:
    seen = look(look(scene(TRAIN, COMPLETE)).then(spec={"merge": {"shardSizeGB": 4}}))
    assert (seen.actions, seen.stage(MERGE).attempt) == ([], 1)
    assert look(seen.then()).actions == ["EnsureConfigMap merge-1", "CreateJob merge-1"]


def test_a_config_map_from_before_an_edit_is_not_used() -> None:
    before = look(scene(TRAIN, COMPLETE)).then(
        spec={"merge": {"shardSizeGB": 4}}, config_maps=frozenset({"support-merge-1"})
    )
    assert look(look(before).then()).actions == ["EnsureConfigMap merge-2", "CreateJob merge-2"]


def test_an_edit_after_success_merges_again() -> None:
    seen = look(merged().then(spec={"merge": {"shardSizeGB": 4}}))
    assert seen.headline == ("Merging", "MergeChanged")
    assert (seen.condition("Merged").status, seen.condition("Trained").status) == ("False", "True")
    assert (seen.status.completion_time, seen.stage(MERGE).completion_time) == (None, None)
    assert look(seen.then()).actions == ["EnsureConfigMap merge-2", "CreateJob merge-2"]


def test_an_edit_after_a_failed_merge_merges_again_with_all_retries() -> None:
    over = look(scene(MERGE, FAILED, attempt=3, restarts=2))
    assert over.status.phase == "Failed"
    seen = look(over.then(spec={"merge": {"resources": {"limits": {"memory": "64Gi"}}}}))
    assert seen.headline == ("Merging", "MergeChanged")
    assert (seen.stage(MERGE).attempt, seen.stage(MERGE).restarts) == (4, None)


def test_a_failed_merge_is_not_tried_again_by_itself() -> None:
    over = look(scene(MERGE, FAILED, attempt=3, restarts=2))
    rest = look(over.then())
    assert (rest.plan.actions, rest.plan.status) == ((), None)


def test_a_failed_merge_never_trains_again() -> None:
    seen = look(scene(MERGE, FAILED, pods=(failed(message="boom"),)))
    again = look(seen.then(pods=()), later(seconds=10))
    assert again.actions == ["EnsureConfigMap merge-2", "CreateJob merge-2"]
    assert seen.condition("Trained").status == "True"


def test_an_edit_during_the_merge_merges_again_before_the_run_succeeds() -> None:
    running = look(scene(MERGE))
    done = look(running.then(spec={"merge": {"shardSizeGB": 4}}, children=(child(MERGE, COMPLETE),)))
    assert done.headline == ("Merging", "MergeChanged")
    assert done.condition("Merged").status == "False"
    assert ("Normal", "Merged") in done.events


def test_an_edit_during_a_merge_that_fails_does_not_fail_the_run() -> None:
    pods = (failed(code=78, reason="MergeVerificationFailed", message="tensors differ"),)
    running = look(scene(MERGE))
    seen = look(running.then(spec={"merge": {"dtype": "fp32"}}, children=(child(MERGE, FAILED),), pods=pods))
    assert seen.headline == ("Merging", "MergeChanged")


def test_switching_the_merge_on_after_success_merges() -> None:
    done = look(scene(TRAIN, COMPLETE, **OFF))
    seen = look(done.then(spec={"merge": {"enabled": True}}))
    assert seen.headline == ("Merging", "MergeChanged")
    assert seen.stage(MERGE).attempt == 1


def test_switching_the_merge_off_and_on_again_does_not_merge_twice() -> None:
    off = look(merged().then(spec=OFF))
    on = look(off.then(spec={"merge": {"enabled": True}}))
    assert (off.status.phase, on.status.phase) == ("Succeeded", "Succeeded")
    assert on.condition("Merged").status == "True"


def test_switching_a_running_merge_off_ends_the_run_and_stops_it() -> None:
    seen = look(look(scene(MERGE)).then(spec=OFF))
    assert (seen.headline, seen.actions) == (("Succeeded", "Completed"), [])
    assert look(seen.then()).actions == ["DeleteJob support-merge-1"]


def test_a_merge_that_was_switched_off_half_way_is_made_when_switched_on_again() -> None:
    off = look(look(scene(MERGE)).then(spec=OFF))
    seen = look(off.then(spec={"merge": {"enabled": True}}, children=()))
    assert seen.headline == ("Merging", "MergeChanged")
    assert seen.stage(MERGE).attempt == 2


def test_a_run_that_failed_in_training_is_not_merged() -> None:
    over = look(scene(TRAIN, FAILED, runPolicy={"maxRestarts": 0}))
    seen = look(over.then(spec={"merge": {"shardSizeGB": 4}}))
    assert (seen.status.phase, seen.actions) == ("Failed", [])


def test_a_suspended_run_merges_again_only_when_it_is_resumed() -> None:
    held = look(merged().then(spec={"merge": {"shardSizeGB": 4}, "runPolicy": {"suspend": True}}))
    assert held.status.phase == "Succeeded"
    assert look(held.then(spec={"runPolicy": {}})).headline == ("Merging", "MergeChanged")


def test_an_old_deadline_does_not_end_a_new_merge() -> None:
    done = merged(runPolicy={"activeDeadlineSeconds": 7200})
    tomorrow = later(days=1)
    seen = look(done.then(spec={"merge": {"shardSizeGB": 4}}), tomorrow)
    assert seen.status.start_time == tomorrow
    assert look(seen.then(), tomorrow).actions == ["EnsureConfigMap merge-2", "CreateJob merge-2"]


def test_a_merge_that_nobody_edited_is_not_made_again() -> None:
    assert look(merged(merge={"shardSizeGB": 4}).then()).plan.status is None
