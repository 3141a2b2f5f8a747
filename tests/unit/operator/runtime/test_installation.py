"""Two installations that serve one namespace are found, and one that replaces another is not taken for that."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from qwensft.api.v1alpha1 import Stage
from qwensft_operator.plan.types import ChildJob, JobState
from qwensft_operator.runtime.installation import Overlap, signed

STARTED = datetime(2026, 1, 2, 12, 0, tzinfo=UTC)
STRANGE = ChildJob(
    "demo-train-1", "uid-1", Stage.TRAIN, 1, JobState.RUNNING, STARTED + timedelta(minutes=5), installation="b/two"
)


def test_a_job_of_another_installation_is_told_once_with_both_names_and_the_fix() -> None:
    overlap = Overlap("a/one", STARTED)
    (event,) = overlap.events([STRANGE])
    assert (event.type, event.reason) == ("Warning", "OperatorsOverlap")
    for words in ("demo-train-1", "b/two", "a/one", "watchNamespaces"):
        assert words in event.message
    assert overlap.events([STRANGE]) == ()
    assert len(overlap.events([replace(STRANGE, uid="uid-2")])) == 1


@pytest.mark.parametrize(
    "known",
    [
        replace(STRANGE, installation="a/one"),
        replace(STRANGE, installation=""),
        replace(STRANGE, created_at=STARTED + timedelta(seconds=59)),
    ],
    ids=["our own", "of an older version", "of an installation that this one has replaced"],
)
def test_any_other_job_is_no_news(known: ChildJob) -> None:
    assert Overlap("a/one", STARTED).events([known]) == ()


def test_what_was_told_does_not_pile_up() -> None:
    overlap = Overlap("a/one", STARTED)
    for number in range(3000):
        overlap.events([replace(STRANGE, uid=str(number))])
    assert len(overlap._told) == 1000


def test_a_signature_leaves_other_annotations_alone() -> None:
    manifest = {"kind": "Job", "metadata": {"name": "demo", "annotations": {"a": "b"}}}
    assert signed(manifest, "a/one")["metadata"]["annotations"] == {"a": "b", "qwensft.io/installation": "a/one"}
    assert signed(manifest, "") == manifest
