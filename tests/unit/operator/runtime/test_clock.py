"""The time is the API server's, as its answers tell it, whatever the machine's clock says."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from qwensft_operator.runtime.clock import ServerClock

SERVER = datetime(2026, 1, 2, 12, 0, tzinfo=UTC)


class Machine:
    """A machine whose clock is set at will, and whose seconds go on evenly."""

    def __init__(self) -> None:
        self.seconds, self.wall = 1000.0, SERVER - timedelta(days=300)
        self.clock = ServerClock(lambda: self.seconds, lambda: self.wall)

    def hear(self, time: datetime) -> None:
        self.clock.heard(format_datetime(time, usegmt=True))


def test_until_the_server_has_answered_the_clock_is_the_machine_s() -> None:
    machine = Machine()
    assert machine.clock.now() == machine.wall


def test_it_goes_on_evenly_from_what_the_server_said_while_the_machine_s_clock_is_set() -> None:
    machine = Machine()
    machine.hear(SERVER)
    machine.wall -= timedelta(hours=5)
    machine.seconds += 90
    assert machine.clock.now() == SERVER + timedelta(seconds=90)


@pytest.mark.parametrize("late", [0, 1, 5, -1])
def test_an_answer_that_took_its_time_does_not_shake_it(late: int) -> None:
    machine = Machine()
    machine.hear(SERVER)
    machine.seconds += 60
    machine.hear(SERVER + timedelta(seconds=60 - late))
    assert machine.clock.now() == SERVER + timedelta(seconds=60)


def test_it_follows_a_server_whose_clock_is_set_and_a_machine_that_slept() -> None:
    machine = Machine()
    machine.hear(SERVER)
    machine.hear(SERVER + timedelta(hours=1))
    assert machine.clock.now() == SERVER + timedelta(hours=1)


@pytest.mark.parametrize("date", ["", "yesterday", "Fri, 02 Jan 2026 12:00:00 -0000", "Fri, 99 Jan 2026 12:00:00 GMT"])
def test_what_is_no_date_says_nothing(date: str) -> None:
    machine = Machine()
    machine.clock.heard(date)
    assert machine.clock.now() == machine.wall
