"""Curves and bars as paths of an SVG that is stretched to its place, and where to write the numbers beside it. Pure.

Numbers are text of the page and not of the drawing, which a small screen would shrink with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from qwensft_trainer.reporting import scales
from qwensft_trainer.reporting.losses import Losses, Point
from qwensft_trainer.reporting.scales import Scale
from qwensft_trainer.reporting.thinning import thinned
from qwensft_trainer.reporting.words import count, number

EDGE = 1000  # the drawing's width and height, in its own units
_STRETCHES = 300
_MOST_DOTS = 60  # points of a curve that are marked each


@dataclass(frozen=True)
class Tick:
    """A number beside the drawing: its text, and its place in percent from the left or the top."""

    text: str
    place: float


@dataclass(frozen=True)
class Frame:
    """What stands around a drawing: its name, it in words, the lines across it and the numbers beside it."""

    title: str
    description: str
    grid: str
    across: tuple[Tick, ...]
    upwards: tuple[Tick, ...]


@dataclass(frozen=True)
class Curves:
    """All texts are data of SVG paths; `lines` stand at steps whose loss is not finite."""

    frame: Frame
    training: str
    evaluation: str
    dots: str
    lines: str
    logarithmic: bool


@dataclass(frozen=True)
class Bars:
    """`bars` and `limit`, a line at cutoff_len, are data of SVG paths; `longer` rows are beyond the last bar."""

    frame: Frame
    bars: str
    limit: str
    longer: int


def curves(losses: Losses) -> Curves | None:
    """The losses of a training; None where none was logged."""
    training, evaluation = (thinned(points, _STRETCHES) for points in (losses.training, losses.evaluation))
    points = [*training, *evaluation]
    if not points:
        return None
    across = scales.of_steps(point.step for point in points)
    finite = [point.value for point in points if point.finite]
    upwards = scales.of_values(finite or [0.0, 1.0])
    bad = sorted({point.step for point in points if not point.finite})
    return Curves(
        frame=_frame("Loss over the steps of the training", _description(losses), across, upwards),
        training=_curve(training, across, upwards),
        evaluation=_curve(evaluation, across, upwards),
        dots=_dots(evaluation, across, upwards) if len(evaluation) <= _MOST_DOTS else "",
        lines="".join(f"M{_x(across, step)} 0V{EDGE}" for step in bad),
        logarithmic=upwards.logarithmic,
    )


def bars(histogram: Mapping[str, Any], limit: int | None) -> Bars | None:
    """Samples by their length in tokens, as prepare.json counts them; None where nobody has counted.

    `limit` is cutoff_len, drawn where it is within.
    """
    counts, width = histogram.get("counts") or [], histogram.get("width", 1)
    if not any(counts):
        return None
    across = Scale(0, len(counts) * width, scales.of_steps([0, len(counts) * width]).ticks)
    upwards = scales.of_values([0, max(counts)])
    ground = _y(upwards, 0)
    places = [(_x(across, (n + 0.1) * width), _x(across, (n + 0.9) * width), rows) for n, rows in enumerate(counts)]
    samples, low = sum(counts) + histogram.get("longer", 0), counts.index(max(counts)) * width
    return Bars(
        frame=_frame(
            "Samples by their length in tokens",
            f"Most samples, {max(counts):,} of {samples:,}, have from {low:,} to {low + width - 1:,} tokens.",
            across,
            upwards,
        ),
        bars="".join(f"M{left} {ground}V{_y(upwards, rows)}H{right}V{ground}Z" for left, right, rows in places if rows),
        limit=f"M{_x(across, limit)} 0V{EDGE}" if limit is not None and limit < across.high else "",
        longer=histogram.get("longer", 0),
    )


def _frame(title: str, description: str, across: Scale, upwards: Scale) -> Frame:
    return Frame(
        title=title,
        description=description,
        grid="".join(f"M0 {_y(upwards, tick)}H{EDGE}" for tick in upwards.ticks),
        across=tuple(Tick(across.text(tick), round(100 * across.place(tick), 2)) for tick in across.ticks),
        upwards=tuple(Tick(upwards.text(tick), round(100 - 100 * upwards.place(tick), 2)) for tick in upwards.ticks),
    )


def _curve(points: Sequence[Point], across: Scale, upwards: Scale) -> str:
    """A line through the points; what is not finite leaves a gap, and a point between two gaps is a dot."""
    path = []
    for segment in _segments(points):
        places = [f"{_x(across, point.step)} {_y(upwards, point.value)}" for point in segment]
        path.append(f"M{'L'.join(places)}" if len(places) > 1 else f"M{places[0]}h0")
    return "".join(path)


def _dots(points: Iterable[Point], across: Scale, upwards: Scale) -> str:
    places = (f"{_x(across, point.step)} {_y(upwards, point.value)}" for point in points if point.finite)
    return "".join(f"M{place}h0" for place in places)


def _segments(points: Iterable[Point]) -> Iterator[list[Point]]:
    segment: list[Point] = []
    for point in points:
        if point.finite:
            segment.append(point)
        elif segment:
            yield segment
            segment = []
    if segment:
        yield segment


def _x(across: Scale, step: float) -> str:
    return f"{EDGE * across.place(step):.1f}".removesuffix(".0")


def _y(upwards: Scale, value: float) -> str:
    return f"{EDGE - EDGE * upwards.place(value):.1f}".removesuffix(".0")


def _description(losses: Losses) -> str:
    """The chart in words, for who does not see it."""
    said = []
    for name, points in (("Training loss", losses.training), ("Evaluation loss", losses.evaluation)):
        finite = [point for point in points if point.finite]
        if finite:
            first, last, lowest = finite[0], finite[-1], min(finite, key=lambda point: point.value)
            told = [_told(first), _told(last), f"lowest {_told(lowest)}"] if len(finite) > 1 else [_told(first)]
            said.append(f"{name}: {', '.join(told)}.")
    if losses.not_finite:
        said.append(f"{count(losses.not_finite, 'value')} not finite (NaN or infinite).")
    return " ".join(said)


def _told(point: Point) -> str:
    return f"{number(point.value)} at step {point.step:,}"
