"""Pods that do not answer cost less and less, and a silence that lasts is known as one."""

from qwensft_operator.runtime.silence import Silences

POD = "10.0.0.7"


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_silent_pod_is_asked_less_and_less_often() -> None:
    clock = Clock()
    silences, asked = Silences(clock), []
    for second in range(3600):
        clock.now = float(second)
        if silences.may_ask(POD):
            asked.append(second)
            silences.failed(POD)
    assert asked[:6] == [0, 10, 30, 70, 150, 310]
    assert len(asked) < 20


def test_a_silence_of_some_minutes_is_lasting_until_the_pod_answers() -> None:
    clock = Clock()
    silences = Silences(clock)
    for clock.now in (0, 10, 30, 70):
        silences.failed(POD)
        assert not silences.is_lasting(POD)
    clock.now = 120
    assert silences.is_lasting(POD)
    assert not silences.is_lasting("10.0.0.8")
    silences.answered(POD)
    assert (silences.is_lasting(POD), silences.may_ask(POD)) == (False, True)


def test_addresses_that_nobody_asks_for_any_more_are_forgotten() -> None:
    clock = Clock()
    silences = Silences(clock)
    for number in range(1000):
        clock.now = 100.0 * number
        silences.failed(f"10.0.{number % 256}.{number // 256}")
    assert len(silences._silences) < 12
    clock.now += 1000
    silences.failed("10.0.231.3")
    assert not silences.is_lasting("10.0.231.3"), "it may be another pod's by now"
