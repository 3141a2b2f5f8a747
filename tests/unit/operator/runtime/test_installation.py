"""Two installations that serve one namespace are found, and one that replaces another is not taken for that."""

import itertools
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from qwensft.api.v1alpha1 import Stage
from qwensft_operator.plan.types import ChildJob, JobState
from qwensft_operator.runtime.installation import Overlap, signed

STARTED = datetime(2026, 1, 2, 12, 0, tzinfo=UTC)
NOW = STARTED + timedelta(minutes=10)
STRANGE = ChildJob(
    "demo-train-1", "uid-1", Stage.TRAIN, 1, JobState.RUNNING, STARTED + timedelta(minutes=5), installation="b/two"
)


def overlap_after(passed: timedelta = NOW - STARTED) -> Overlap:
    """Of a process that began so long ago, whatever its machine's clock says."""
    seconds = itertools.chain([1000.0], itertools.repeat(1000.0 + passed.total_seconds()))
    return Overlap("a/one", lambda: next(seconds))


def test_a_job_of_another_installation_is_told_once_with_both_names_and_the_fix() -> None:
    overlap = overlap_after()
    (event,) = overlap.events([STRANGE], NOW)
    assert (event.type, event.reason) == ("Warning", "OperatorsOverlap")
    for words in ("demo-train-1", "b/two", "a/one", "watchNamespaces"):
        assert words in event.message
    assert overlap.events([STRANGE], NOW) == ()
    assert len(overlap.events([replace(STRANGE, uid="uid-2")], NOW)) == 1


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
    assert overlap_after().events([known], NOW) == ()


@pytest.mark.parametrize("away", [timedelta(days=-300), timedelta(), timedelta(days=300)])
def test_when_the_process_began_is_counted_back_from_the_clock_that_dates_jobs(away: timedelta) -> None:
    overlap = overlap_after()
    before, since = (replace(STRANGE, created_at=STARTED + away + timedelta(minutes=n), uid=str(n)) for n in (-1, 2))
    assert overlap.events([before], NOW + away) == ()
    assert len(overlap.events([since], NOW + away)) == 1


def test_what_was_told_does_not_pile_up() -> None:
    overlap = overlap_after()
    for number in range(3000):
        overlap.events([replace(STRANGE, uid=str(number))], NOW)
    assert len(overlap._told) == 1000


def test_a_signature_leaves_other_annotations_alone() -> None:
    manifest = {"kind": "Job", "metadata": {"name": "demo", "annotations": {"a": "b"}}}
    assert signed(manifest, "a/one")["metadata"]["annotations"] == {"a": "b", "qwensft.io/installation": "a/one"}
    assert signed(manifest, "") == manifest
