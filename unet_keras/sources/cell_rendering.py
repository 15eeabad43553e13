"""Phase-contrast pictures of synthetic cells.

    labels   int32 (H, W)  0 background, 1..n cells
    picture  uint8 (H, W)  mean near 128

The grey level gives nothing away: cells and background have the same mean, and a fibrous matrix,
ghosts out of focus and debris give the background local variance of its own. What tells a cell is
structure: a closed bright rim with a dark line inside, isotropic granules around a clear nucleus.
All parts are drawn for the whole image at once, with properties looked up by label.
"""

import numpy as np
from scipy import ndimage

from unet_keras.sources.cell_shapes import Cells, smooth_field
from unet_keras.sources.cell_types import CellType


def draw_picture(
    rng: np.random.Generator, kind: CellType, cells: Cells, labels: np.ndarray
) -> np.ndarray:
    """Draw the picture of cells.

    Args:
        rng: Source of randomness.
        kind: What the cells look like.
        cells: The n cells.
        labels: int32 (H, W), what `paint` made of them.

    Returns:
        uint8 (H, W), mean near 128.
    """
    height, width = labels.shape
    size = height, width
    depth = ndimage.distance_transform_edt(~_edges(labels)).astype(np.float32)
    tissue = _tissue(rng, kind, cells, labels, depth)
    matrix = kind.fibers * _fibers(rng, size)
    ground = matrix + _ghosts_and_debris(rng, size, kind.debris)
    if kind.dots > 0:
        ground += _dots(rng, size, round(kind.dots * height * width / 4500))
    ground -= 0.3 * kind.rim * np.exp(-((depth - 1.2) ** 2))
    ground += kind.halo * np.exp(-depth / 3) * (1 + 0.4 * smooth_field(rng, size, 12))
    bodies = _lookup(cells.rounded, labels, 0)
    ground += 45 * ndimage.gaussian_filter(bodies, 2.5)

    image = np.where(labels > 0, tissue + 0.2 * matrix, ground)
    image = ndimage.gaussian_filter(image, 0.5)  # the lens
    image += 3 * smooth_field(rng, size, 150)  # uneven illumination
    if kind.flattening_pixels > 0:
        image -= ndimage.gaussian_filter(image, kind.flattening_pixels)
    image += kind.noise * rng.standard_normal(size, np.float32)  # the camera
    image += 128 - image.mean()
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def _tissue(
    rng: np.random.Generator,
    kind: CellType,
    cells: Cells,
    labels: np.ndarray,
    depth: np.ndarray,
) -> np.ndarray:
    """Draw the inside of cells: float32 (H, W) in grey values around 0, valid where labels > 0.

    `depth` float32 (H, W) is the distance in pixels to the nearest rim pixel.
    """
    count = len(cells.centers)
    contrast = np.exp(kind.contrast * rng.standard_normal(count))
    contrast = np.maximum(contrast, kind.least_contrast)
    contrast = _lookup(contrast * np.where(cells.rounded, 1.6, 1.0), labels)
    distance, radius, nucleoli = _nuclei(rng, kind, cells, labels)
    wall = np.exp(-(((distance - radius) / 0.9) ** 2))
    within = 1 / (1 + np.exp(np.clip(2 * (distance - radius), -30, 30)))
    around = np.exp(-2 * (distance / radius - 1.5) ** 2)

    spread = np.exp(-kind.fade * np.maximum(distance / radius - 1.5, 0))
    granules = _grain(rng, labels.shape, kind.grain) * (0.6 * spread + 0.7 * around)
    granules *= 1 - 0.7 * within
    tissue = contrast * (kind.granules * granules + 14 * nucleoli - 0.35 * kind.rim * wall)
    tissue -= kind.shade * np.exp(-depth / 6)
    tissue *= np.clip(depth / 2, 0, 1)
    profile = np.exp(-((depth / 0.8) ** 2)) - 0.45 * np.exp(-(((depth - 2.1) / 1.1) ** 2))
    tissue += kind.rim * contrast * profile * (1 + 0.25 * smooth_field(rng, labels.shape, 5))
    lens = 45 * np.exp(-((distance / radius / 0.55) ** 2)) - 16  # a thick body focuses the light
    return tissue + _lookup(cells.rounded, labels, 0) * lens


def _nuclei(
    rng: np.random.Generator, kind: CellType, cells: Cells, labels: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Place a nucleus in every cell.

    Returns:
        Three float32 (H, W): distance to the cell's center in the cell's metric, radius of its
        nucleus, both in pixels, and the nucleolus, from -0.5 in its middle to +0.2 around it.
    """
    count = len(cells.centers)
    areas = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    radii = (0.40 + 0.06 * rng.standard_normal(count)) * np.sqrt(areas / np.pi)
    radii = np.clip(radii, 2.5, kind.nucleus_pixels) * np.where(cells.rounded, 1.3, 1.0)
    rows = np.arange(labels.shape[0], dtype=np.float32)[:, None]
    columns = np.arange(labels.shape[1], dtype=np.float32)
    dy = rows - _lookup(cells.centers[:, 0], labels)
    dx = columns - _lookup(cells.centers[:, 1], labels)
    yy, yx, xx = (_lookup(cells.metrics[:, i, j], labels) for i, j in ((0, 0), (0, 1), (1, 1)))
    distance = np.sqrt(yy * dy**2 + 2 * yx * dy * dx + xx * dx**2)
    aside = rng.uniform(-0.35, 0.35, (2, count)) * radii
    spot = np.hypot(dy - _lookup(aside[0], labels), dx - _lookup(aside[1], labels))
    nucleoli = 0.5 * np.exp(-((spot / 3.2) ** 2)) - np.exp(-((spot / 1.5) ** 2))
    return distance, _lookup(radii, labels), nucleoli


def _edges(labels: np.ndarray) -> np.ndarray:
    """Find the outermost pixels of every cell, also where it meets another: bool (H, W)."""
    edges = np.zeros(labels.shape, bool)
    down, across = labels[1:] != labels[:-1], labels[:, 1:] != labels[:, :-1]
    edges[1:] |= down
    edges[:-1] |= down
    edges[:, 1:] |= across
    edges[:, :-1] |= across
    return edges & (labels > 0)


def _lookup(values: np.ndarray, labels: np.ndarray, background: float = 1.0) -> np.ndarray:
    """Spread one value a cell (n,) over its pixels: float32 (H, W)."""
    return np.concatenate([[background], values]).astype(np.float32)[labels]


def _grain(rng: np.random.Generator, size: tuple[int, ...], scale: float) -> np.ndarray:
    """Draw granules: float32 (H, W), mean near 0, dark dots on weaker mottling.

    At a scale of 1 the dots measure 2 to 3 pixels.
    """
    noise = rng.standard_normal(size, np.float32)
    fine, coarse = (ndimage.gaussian_filter(noise, scale * sigma) for sigma in (0.7, 1.19))
    dots = fine - coarse
    dots /= dots.std()
    return np.where(dots < -0.6, 1.2 * (dots + 0.6), 0.45 * dots) + 0.2


def _fibers(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """Draw a matrix of fibers as in a collagen coat: float32 (H, W), bright lines in [-1, 1].

    Each fiber is a walk in steps of half a pixel whose direction drifts; fibers start around
    common points, so that some places are dense and others bare.
    """
    height, width = size
    steps, count = 200, height * width // 215
    bundles = rng.uniform(0, 1, (height * width // 6000 + 1, 3))
    bundle = bundles[rng.integers(len(bundles), size=count)]
    start = bundle[:, :2] * size + rng.normal(0, 26, (count, 2))
    angle = 2 * np.pi * bundle[:, 2] + rng.normal(0, 0.5, count)
    bends = rng.normal(0, 0.006, (count, 1)) + rng.normal(0, 0.03, (count, steps))
    angles = angle[:, None] + np.cumsum(bends, axis=1)
    y = start[:, :1] + 0.5 * np.cumsum(np.sin(angles), axis=1)
    x = start[:, 1:] + 0.5 * np.cumsum(np.cos(angles), axis=1)
    visible = (y >= 0) & (y < height) & (x >= 0) & (x < width)
    brightness = np.broadcast_to(rng.exponential(0.8, (count, 1)), y.shape)[visible]
    places = y[visible].astype(int) * width + x[visible].astype(int)
    lines = np.bincount(places, brightness, height * width).reshape(size).astype(np.float32)
    lines = np.tanh(lines / 3)  # crossings are not brighter than fibers
    return ndimage.gaussian_filter(lines, 0.6) - ndimage.gaussian_filter(lines, 1.7)


def _ghosts_and_debris(
    rng: np.random.Generator, size: tuple[int, int], amount: float
) -> np.ndarray:
    """Draw cells that float out of focus, and specks: float32 (H, W) in grey values."""
    height, width = size
    total = np.zeros(size, np.float32)
    for number in range(int(amount * (height * width // 4500))):
        ghost = number % 3 == 0
        radius, blur = (rng.uniform(4.5, 9), 2.6) if ghost else (rng.uniform(0.8, 2.4), 0.9)
        strength = rng.uniform(6, 14) if ghost else rng.uniform(12, 45)
        y, x, flattening = rng.uniform(0, height), rng.uniform(0, width), rng.uniform(0.8, 1.2)
        reach = int(1.25 * radius + 4 * blur) + 1
        top, left = max(int(y) - reach, 0), max(int(x) - reach, 0)
        rows = np.arange(top, min(int(y) + reach, height))[:, None] - y
        columns = np.arange(left, min(int(x) + reach, width)) - x
        distance = np.hypot(rows * flattening, columns)
        ring = np.exp(-(((distance - radius) / blur) ** 2))
        ring -= 1.1 * np.exp(-((distance / max(0.9 * radius, 0.9)) ** 2))
        total[top : top + len(rows), left : left + len(columns)] += strength * ring
    return total


def _dots(rng: np.random.Generator, size: tuple[int, int], count: int) -> np.ndarray:
    """Draw dark dots with a bright seam, small and of one size: float32 (H, W) in grey values."""
    places = rng.integers(size[0] * size[1], size=count)
    strength = np.bincount(places, rng.uniform(15, 60, count), size[0] * size[1]).reshape(size)
    sigma = rng.uniform(0.9, 1.7)
    dark, wide = (
        ndimage.gaussian_filter(strength.astype(np.float32), sigma * scale) * (sigma * scale) ** 2
        for scale in (1, 1.6)
    )
    return 2 * np.pi * (0.5 * wide - 1.2 * dark)
