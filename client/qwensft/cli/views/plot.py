"""`plot`: losses over steps, drawn with characters."""

from __future__ import annotations

from collections.abc import Sequence

from qwensft.cli.failures import missing_package

Points = Sequence[tuple[int, float]]

_HIGHEST = 20  # lines
_WIDEST = 100


def text(training: Points, evaluation: Points, width: int, *, colours: bool) -> str:
    """Return a drawing of at most so many columns. Both are (step, loss) in the order of the steps.

    Raises:
        CommandError: plotext is not installed.
    """
    try:
        import plotext  # of the extra, and not quick
    except ModuleNotFoundError:
        raise missing_package("the drawing is plotext's, which is not installed", "cli") from None
    figure = plotext.figure
    figure.clear()
    figure.plot_size(min(_WIDEST, width), _HIGHEST)
    figure.title("training loss" + (" (dots: evaluation)" if evaluation else ""))
    figure.label("step", "x")
    steps = [step for step, _ in training]
    losses = [loss for _, loss in (*training, *evaluation)]
    figure.ruler("y").lim(min(0, *losses), max(losses))
    figure.ruler("x").ticks([steps[0], *(steps[-1] * quarter // 4 for quarter in range(1, 5))])
    figure.draw(figure.signal(steps, [loss for _, loss in training], marker="braille").lines())
    if evaluation:
        figure.draw(figure.signal([step for step, _ in evaluation], [loss for _, loss in evaluation], marker="dot"))
    drawn = figure.build()
    return str(drawn if colours else plotext.uncolorize(drawn)).rstrip("\n")
