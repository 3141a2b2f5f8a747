"""Columns in groups, drawn as an SVG that is the same wherever it is drawn. Pure.

Libraries draw columns, too. But matplotlib's SVGs change with its version and know nothing of dark pages, pygal's load
a script from elsewhere, and a test that draws again what was committed would bring either into every development
environment. What is needed here are rectangles and text; the ticks are chosen as those of a run's report are.

A drawing has a ground of its own, light or dark as the reader's system is, so that it can be read on any page. Name
and value stand beside every column: no two colours have to be told apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from xml.etree import ElementTree as ET

from qwensft_trainer.reporting import scales
from qwensft_trainer.reporting.scales import Scale

COLOURS = {
    "ground": ("#ffffff", "#1d2029"),
    "ink": ("#1b1d24", "#e8eaf1"),
    "soft": ("#565b6b", "#a9afc0"),
    "line": ("#d7dae3", "#363b49"),
    "grey": ("#969cab", "#6b7285"),
    "blue": ("#1b5fc1", "#7db3ff"),
    "orange": ("#a8480c", "#ffab6b"),
    "violet": ("#6b3fa0", "#b794f4"),
    "green": ("#2c8a68", "#4fae8a"),
    "yellow": ("#c29200", "#e3c15a"),
}
"""By name, on light and on dark pages."""

_LEFT, _RIGHT = 56, 16
_TOP, _HEIGHT, _BOTTOM = 84, 220, 84  # pixels above, of and below the plot
_LOWER = 14  # for values that stand below the plot
_GAP = 26  # between two groups
_AROUND = 16  # a column, together on both sides
_LETTER = 6.5  # the width of one in the legend, about
_THINNEST = 2.0  # of a part, so that it is seen


@dataclass(frozen=True)
class Part:
    """A piece of a column, between two values; `colour` is a name in COLOURS."""

    low: float
    high: float
    colour: str


@dataclass(frozen=True)
class Column:
    """Parts one upon the other. It begins at 0, or is the range between two values."""

    name: str
    parts: tuple[Part, ...]

    @property
    def low(self) -> float:
        """Where the lowest part begins."""
        return self.parts[0].low

    @property
    def high(self) -> float:
        """Where the highest part ends."""
        return self.parts[-1].high


@dataclass(frozen=True)
class Chart:
    """Groups of columns by the groups' names; there is at least one column.

    `upwards` and `across` name the axes, with the unit; `form` is a format for one value; `legend` has the names of
    colours where columns have parts, from the lowest; `foot` says whose figures these are; `slot` is the width in
    pixels of a column and what is around it: names of groups need as much.
    """

    title: str
    upwards: str
    across: str
    form: str
    groups: Mapping[str, tuple[Column, ...]]
    foot: str
    legend: Mapping[str, str] = field(default_factory=dict)
    slot: int = 54

    def description(self) -> str:
        """The chart in words, for who does not see it."""
        parts = f" ({' + '.join(self.legend.values())})" if self.legend else ""
        told = (
            f"{name}: {', '.join(f'{column.name} {self._told(column)}' for column in columns)}"
            for name, columns in self.groups.items()
        )
        return f"{self.title}, in {self.upwards}{parts}. {'; '.join(told)}."

    def svg(self) -> str:
        """The drawing as a document, with a line break at its end."""
        edges = [edge for column in self._columns() for edge in (column.low, column.high)]
        scale, width = scales.of_values(edges), self._width()
        foot = _TOP + _HEIGHT + (_LOWER if any(column.low for column in self._columns()) else 0)
        root = _document(width, foot + _BOTTOM, self.title, self.description())
        _text(root, "ink title", self.title, _LEFT, 28)
        _text(root, "soft", self.upwards + (", logarithmic" if scale.logarithmic else ""), _LEFT, 52)
        self._draw_legend(root, 52)
        for tick in scale.ticks:
            y = _y(scale, tick)
            ET.SubElement(root, "path", {"class": "line", "d": f"M{_LEFT} {_short(y)}H{width - _RIGHT}"})
            _text(root, "soft end", scale.text(tick), _LEFT - 8, y + 4)
        left = float(_LEFT)
        for name, columns in self.groups.items():
            for number, column in enumerate(columns):
                middle = left + (number + 0.5) * self.slot
                self._draw_column(root, scale, column, middle)
                _text(root, "soft small middle", column.name, middle, foot + 18)
            _text(root, "ink middle", name, left + len(columns) * self.slot / 2, foot + 38)
            left += len(columns) * self.slot + _GAP
        _text(root, "soft middle", self.across, (_LEFT + width - _RIGHT) / 2, foot + 58)
        _text(root, "soft small end", self.foot, width - _RIGHT, foot + 76)
        ET.indent(root)
        return ET.tostring(root, encoding="unicode") + "\n"

    def _columns(self) -> list[Column]:
        return [column for columns in self.groups.values() for column in columns]

    def _width(self) -> int:
        return _LEFT + len(self._columns()) * self.slot + (len(self.groups) - 1) * _GAP + _RIGHT

    def _draw_legend(self, root: ET.Element, y: float) -> None:
        x = _LEFT + (len(self.upwards) + 3) * _LETTER
        for colour, name in self.legend.items():
            _rectangle(root, colour, x=x, y=y - 10, width=11, height=11)
            _text(root, "ink", name, x + 16, y)
            x += 16 + (len(name) + 3) * _LETTER

    def _draw_column(self, root: ET.Element, scale: Scale, column: Column, middle: float) -> None:
        width = self.slot - _AROUND
        for part in column.parts:
            top, bottom = _y(scale, part.high), _y(scale, part.low)
            height = max(_THINNEST, bottom - top)
            _rectangle(root, part.colour, x=middle - width / 2, y=bottom - height, width=width, height=height)
        *lower, high = self._values(column)
        _text(root, "value middle", high, middle, _y(scale, column.high) - 5)
        for low in lower:
            _text(root, "value middle", low, middle, _y(scale, column.low) + 13)

    def _values(self, column: Column) -> list[str]:
        """What stands at the column's ends."""
        ends = [column.low, column.high] if column.low else [column.high]
        return [self.form.format(value) for value in ends]

    def _told(self, column: Column) -> str:
        ends = " to ".join(self._values(column))
        if len(column.parts) == 1:
            return ends
        return f"{ends} ({' + '.join(self.form.format(part.high - part.low) for part in column.parts)})"


def _document(width: int, height: int, title: str, description: str) -> ET.Element:
    root = ET.Element(
        "svg",
        {
            "xmlns": "http://www.w3.org/2000/svg",
            "viewBox": f"0 0 {width} {height}",
            "width": str(width),
            "height": str(height),
            "role": "img",
            "aria-labelledby": "title description",
        },
    )
    ET.SubElement(root, "title", {"id": "title"}).text = title
    ET.SubElement(root, "desc", {"id": "description"}).text = description
    ET.SubElement(root, "style").text = _style()
    ET.SubElement(root, "rect", {"class": "ground", "width": str(width), "height": str(height), "rx": "8"})
    return root


def _style() -> str:
    light, dark = (
        [f".{name} {{fill: {of_page[page]}}}" for name, of_page in COLOURS.items()]
        + [f".line {{stroke: {COLOURS['line'][page]}}}"]
        + [f".value {{fill: {COLOURS['ink'][page]}; stroke: {COLOURS['ground'][page]}}}"]
        for page in (0, 1)
    )
    rules = [
        "text {font: 13px system-ui, sans-serif}",
        "text.title {font-size: 16px; font-weight: 600}",
        "text.small, text.value {font-size: 12px}",
        "text.value {paint-order: stroke; stroke-width: 4px}",  # lines of the grid end before it
        ".middle {text-anchor: middle}",
        ".end {text-anchor: end}",
        *light,
        f"@media (prefers-color-scheme: dark) {{{' '.join(dark)}}}",
    ]
    return "\n" + "\n".join(rules) + "\n"


def _text(root: ET.Element, kind: str, text: str, x: float, y: float) -> None:
    ET.SubElement(root, "text", {"class": kind, "x": _short(x), "y": _short(y)}).text = text


def _rectangle(root: ET.Element, colour: str, *, x: float, y: float, width: float, height: float) -> None:
    place = {"x": x, "y": y, "width": width, "height": height}
    ET.SubElement(root, "rect", {"class": colour} | {name: _short(value) for name, value in place.items()})


def _y(scale: Scale, value: float) -> float:
    return _TOP + _HEIGHT * (1 - scale.place(value))


def _short(pixels: float) -> str:
    return f"{pixels:.1f}".removesuffix(".0")
