"""The quickstart succeeds only if the model has demonstrably learned."""

import pytest
from quickstart.report import Asked, Report, judge, plot
from quickstart.steps import QuickstartError


def report(losses: tuple[float, float] = (17.0, 0.2), base: str = "x", merged: str = "yes") -> Report:
    asked = [Asked(question="q", expected="yes", base=base, merged=merged)]
    return Report(asked=asked, losses=[(1, losses[0]), (200, losses[1])], files=[])


def test_a_learned_answer_and_a_fallen_loss_are_a_success() -> None:
    judge(report())


def test_a_loss_above_half_of_the_first_is_a_failure() -> None:
    with pytest.raises(QuickstartError, match="the loss fell from 17"):
        judge(report(losses=(17.0, 9.0)))


def test_no_learned_answer_is_a_failure() -> None:
    with pytest.raises(QuickstartError, match="answers none"):
        judge(report(merged="no"))


def test_an_answer_that_the_base_knows_proves_nothing() -> None:
    with pytest.raises(QuickstartError, match="proves nothing"):
        judge(report(base="yes"))


def test_the_plot_has_axes_and_no_colour_codes() -> None:
    drawn = plot([(step, 17.0 / step) for step in range(1, 50)])
    assert "step" in drawn
    assert "\x1b" not in drawn
