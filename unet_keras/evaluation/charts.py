"""Charts of the report, as inline SVG: sharp at any width, colored by the page, hover shows values.

    points  sequence of (x, y), finite

Each function gives one `<svg>` element. Colors come from the page's classes `s0`, `s1`, `s2`.
"""

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from markupsafe import Markup, escape

_WIDTH, _HEIGHT = 360, 230
_LEFT, _RIGHT, _TOP, _BOTTOM = 54, 10, 20, 40

Points = Sequence[tuple[float, float]]


def histogram(values: Iterable[float], *, label: str, bins: int = 20) -> Markup:
    """How many images score how much.

    Args:
        values: Scores in [0, 1], one an image.
        label: Under the horizontal axis.
        bins: Equally wide intervals, at least 1.

    Returns:
        An `<svg>` element.
    """
    scores = np.asarray(list(values), np.float64)
    counts, edges = np.histogram(scores, bins=bins, range=(0.0, 1.0))
    top = _round_up(max(1, int(counts.max())))
    frame = _Frame((0.0, 1.0), (0.0, top))
    bars = []
    for count, low, high in zip(counts, edges[:-1], edges[1:], strict=True):
        left, right, upper = frame.x(low) + 0.5, frame.x(high) - 0.5, frame.y(count)
        bars.append(
            f'<rect class="s0 area" x="{left:.1f}" y="{upper:.1f}" width="{right - left:.1f}" '
            f'height="{frame.y(0) - upper:.1f}"><title>{low:.2f} to {high:.2f}: {count} images'
            "</title></rect>"
        )
    if scores.size:
        middle = frame.x(float(np.median(scores)))
        bars.append(
            f'<line class="mark" x1="{middle:.1f}" x2="{middle:.1f}" y1="{_TOP}" '
            f'y2="{frame.y(0):.1f}"><title>median {np.median(scores):.3f}</title></line>'
        )
    return frame.draw("".join(bars), label, "images")


def lines(
    curves: Mapping[str, Points],
    *,
    labels: tuple[str, str],
    diagonal: bool = False,
    mark: float | None = None,
    dots: bool = False,
) -> Markup:
    """Curves in the unit square.

    Args:
        curves: Points in [0, 1] by name; at most three curves.
        labels: Of the horizontal and the vertical axis.
        diagonal: Whether y = x is drawn for comparison.
        mark: Where a vertical line is drawn, in [0, 1].
        dots: Whether each point is marked.

    Returns:
        An `<svg>` element.
    """
    frame, parts = _Frame((0.0, 1.0), (0.0, 1.0)), []
    if diagonal:
        parts.append(_path(frame, [(0.0, 0.0), (1.0, 1.0)], "reference"))
    if mark is not None:
        parts.append(_path(frame, [(mark, 0.0), (mark, 1.0)], "mark"))
    for number, (name, points) in enumerate(curves.items()):
        parts.append(_path(frame, points, f"s{number} line"))
        if dots:
            parts.append(_dots(frame, [(x, y, f"{x:.3f}, {y:.3f}") for x, y in points], number))
        if len(curves) > 1:
            parts.append(
                f'<text class="s{number} name" x="{_LEFT + 4 + 88 * number}" y="10">'
                f"{escape(name)}</text>"
            )
    return frame.draw("".join(parts), *labels)


def scatter(points: Sequence[tuple[float, float, str]], *, labels: tuple[str, str]) -> Markup:
    """Counts against counts, with the line where both are equal.

    Args:
        points: x, y and a name each; x and y finite and at least 0.
        labels: Of the horizontal and the vertical axis.

    Returns:
        An `<svg>` element.
    """
    top = _round_up(max([1.0, *(max(x, y) for x, y, _ in points)]))
    frame = _Frame((0.0, top), (0.0, top))
    named = [(x, y, f"{name}: {x:g}, {y:g}") for x, y, name in points]
    parts = _path(frame, [(0.0, 0.0), (top, top)], "reference") + _dots(frame, named, 0)
    return frame.draw(parts, *labels)


def _round_up(value: float) -> float:
    """The next even end for an axis of counts with five whole ticks."""
    power = 10 ** math.floor(math.log10(max(value / 4, 1)))
    return next(4 * step * power for step in (1, 2, 3, 5, 10) if 4 * step * power >= value)


def _path(frame: "_Frame", points: Points, kind: str) -> str:
    places = " ".join(f"{frame.x(x):.1f},{frame.y(y):.1f}" for x, y in points)
    return f'<polyline class="{kind}" points="{places}"/>'


def _dots(frame: "_Frame", points: Sequence[tuple[float, float, str]], number: int) -> str:
    return "".join(
        f'<circle class="s{number} area" cx="{frame.x(x):.1f}" cy="{frame.y(y):.1f}" r="3.2">'
        f"<title>{escape(name)}</title></circle>"
        for x, y, name in points
    )


class _Frame:
    """Axes: maps data to pixels and draws what is around them."""

    def __init__(self, x_range: tuple[float, float], y_range: tuple[float, float]) -> None:
        self.x_range, self.y_range = x_range, y_range

    def x(self, value: float) -> float:
        low, high = self.x_range
        return _LEFT + (value - low) / (high - low) * (_WIDTH - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        low, high = self.y_range
        return _HEIGHT - _BOTTOM - (value - low) / (high - low) * (_HEIGHT - _TOP - _BOTTOM)

    def draw(self, content: str, x_label: str, y_label: str) -> Markup:
        grid = []
        for share in (0.0, 0.25, 0.5, 0.75, 1.0):
            across = self.x_range[0] + share * (self.x_range[1] - self.x_range[0])
            up = self.y_range[0] + share * (self.y_range[1] - self.y_range[0])
            grid.append(
                f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" '
                f'y1="{self.y(up):.1f}" y2="{self.y(up):.1f}"/>'
                f'<text x="{_LEFT - 6}" y="{self.y(up) + 4:.1f}" text-anchor="end">{up:g}</text>'
                f'<text x="{self.x(across):.1f}" y="{_HEIGHT - _BOTTOM + 16}" '
                f'text-anchor="middle">{across:g}</text>'
            )
        middle = (_HEIGHT - _BOTTOM + _TOP) / 2
        return Markup(
            f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
            f'aria-label="{escape(y_label)} over {escape(x_label)}">{"".join(grid)}{content}'
            f'<text class="label" x="{(_WIDTH + _LEFT - _RIGHT) / 2}" y="{_HEIGHT - 6}" '
            f'text-anchor="middle">{escape(x_label)}</text>'
            f'<text class="label" transform="translate(11 {middle}) rotate(-90)" '
            f'text-anchor="middle">{escape(y_label)}</text></svg>'
        )
