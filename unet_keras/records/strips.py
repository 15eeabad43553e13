"""How many instances the images of each group have, as inline SVG: a strip a group."""

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup, escape

from unet_keras.records.figures import ImageFigures

_LEFT, _WIDTH, _ROW, _BINS = 110, 420, 26, 48
_TICKS = (0, 1, 3, 10, 30, 100, 300, 1000, 3000, 10_000, 30_000, 100_000)


def instance_strips(figures: Sequence[ImageFigures]) -> Markup:
    """Draw the distribution of instances an image, darker where more images are.

    Args:
        figures: One an image, at least one.

    Returns:
        An `<svg>` element; the axis is logarithmic in 1 + instances and begins at the last tick
        that no image is below. Hovering tells the numbers.
    """
    most = max(one.instances for one in figures)
    fewest = min(one.instances for one in figures)
    first = max(tick for tick in _TICKS if tick <= fewest)
    start, reach = np.log1p(first), np.log1p(max(most, 3 * first, 9))
    edges = np.expm1(np.linspace(start, reach, _BINS + 1))
    edges[0], edges[-1] = first, np.inf  # despite rounding, nothing is left out
    groups: dict[str, list[int]] = {}
    for one in sorted(figures, key=lambda one: one.group):
        groups.setdefault(one.group, []).append(one.instances)
    height = _ROW * len(groups)
    parts = []
    for tick in (tick for tick in _TICKS if first <= tick <= max(most, 3 * first, 9)):
        x = _LEFT + (np.log1p(tick) - start) / (reach - start) * _WIDTH
        parts.append(
            f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{height}"/>'
            f'<text x="{x:.1f}" y="{height + 16}" text-anchor="middle">{tick:,}</text>'
        )
    for row, (name, counts) in enumerate(groups.items()):
        parts.append(_strip(name, np.array(counts), edges, row))
    parts.append(f'<text class="label" x="{_LEFT}" y="{height + 34}">instances an image</text>')
    return Markup(
        f'<svg viewBox="0 0 {_LEFT + _WIDTH + 20} {height + 40}" role="img" '
        f'aria-label="Instances an image, by type">{"".join(parts)}</svg>'
    )


def _strip(name: str, counts: np.ndarray, edges: np.ndarray, row: int) -> str:
    """One group's name, a box for each interval that has images, and a line at the median."""
    images, _ = np.histogram(counts, edges)
    width, top = _WIDTH / _BINS, _ROW * row + 4
    text = f'<text class="label" x="{_LEFT - 8}" y="{top + 14}" text-anchor="end">'
    parts = [f"{text}{escape(name[:18])}</text>"]
    for k in np.flatnonzero(images):
        low, high = np.ceil(edges[k]), min(np.ceil(edges[k + 1]) - 1, counts.max())
        opacity = 0.25 + 0.75 * images[k] / images.max()
        parts.append(
            f'<rect class="area" x="{_LEFT + k * width:.1f}" y="{top}" width="{width:.1f}" '
            f'height="{_ROW - 8}" fill-opacity="{opacity:.2f}"><title>{low:.0f} to {high:.0f}: '
            f"{images[k]} images</title></rect>"
        )
    return "".join(parts)
