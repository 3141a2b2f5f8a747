"""Fewer points for a curve that looks the same: of each stretch its highest and its lowest. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

from qwensft_trainer.reporting.losses import Point


def thinned(points: Sequence[Point], stretches: int) -> list[Point]:
    """At most 3 points for each of `stretches` stretches of equal count, in order; all where there are so few.

    The first and the last point stay, and every extreme; of the values of a stretch that are not finite the first.
    """
    if len(points) <= 3 * stretches:
        return list(points)
    bounds = [len(points) * number // stretches for number in range(stretches + 1)]
    kept = {0, len(points) - 1}
    for low, high in pairwise(bounds):
        kept.update(_kept(points, range(low, high)))
    return [points[index] for index in sorted(kept)]


def _kept(points: Sequence[Point], stretch: range) -> Iterator[int]:
    finite = [index for index in stretch if points[index].finite]
    if finite:
        yield min(finite, key=lambda index: points[index].value)
        yield max(finite, key=lambda index: points[index].value)
    yield from [index for index in stretch if not points[index].finite][:1]
