"""Times as Kubernetes writes them."""

from datetime import timedelta, timezone

from qwensft_operator.plan.times import parse_time, timestamp

from .builders import NOW, later


def test_a_time_stands_in_utc_to_the_second() -> None:
    berlin = later(microseconds=7).astimezone(timezone(timedelta(hours=1)))
    assert timestamp(berlin) == "2026-01-02T12:00:00Z"


def test_what_is_written_is_read_again() -> None:
    assert parse_time(timestamp(NOW)) == NOW


def test_a_time_that_is_not_given_is_none() -> None:
    assert (parse_time(None), parse_time("")) == (None, None)
