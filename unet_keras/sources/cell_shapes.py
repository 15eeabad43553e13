"""Shapes of synthetic cells: where they settle, how they meet, which pixels they cover.

    polygon  float64 (k, 2)  x, y in pixels, 2 decimals as in LIVECell's JSON, in [0, W] x [0, H]
    labels   int32   (H, W)  0 background, 1..n in the order of the polygons, smaller on top

A cell *is* its polygon, and covers the pixels that pycocotools makes of it. Polygons are
star-shaped around a center and cut where they meet a neighbor, so that touching cells share a
border without a background pixel between them, as in a culture that has grown together.
"""

from dataclasses import dataclass

import numpy as np
from pycocotools import mask as coco_mask
from scipy.spatial import cKDTree

from unet_keras.sources.cell_types import CellType

MINIMUM_AREA = 30  # pixels; less is no cell any more, only a sliver at the image's edge
_DIRECTIONS = 40  # vertices of a polygon
_NEIGHBORS = 24  # that may cut a cell; spindles reach far


@dataclass(frozen=True, eq=False)
class Cells:
    """The cells of one image.

    Attributes:
        polygons: n arrays float64 (k, 2), x and y in pixels.
        centers: float64 (n, 2), y and x in pixels; may lie outside the image.
        metrics: float64 (n, 2, 2), the metric over (y, x) in which the cell is round.
        rounded: bool (n,), cells that rounded up.
    """

    polygons: list[np.ndarray]
    centers: np.ndarray
    metrics: np.ndarray
    rounded: np.ndarray


def smooth_field(
    rng: np.random.Generator, size: tuple[int, int], scale_pixels: float
) -> np.ndarray:
    """Draw a smooth random field: float32 (H, W), mean 0, variance 1, no detail below the scale.

    White noise on a coarse grid, spread by Gaussian weights: two matrix products.
    """
    weights = []
    for length in size:
        nodes = np.arange(-2, length / scale_pixels + 3)
        rows = np.exp(-((np.arange(length)[:, None] / scale_pixels - nodes) ** 2))
        weights.append(rows / np.linalg.norm(rows, axis=1, keepdims=True))
    coarse = rng.standard_normal((weights[0].shape[1], weights[1].shape[1]))
    return (weights[0] @ coarse @ weights[1].T).astype(np.float32)


def grow_cells(rng: np.random.Generator, kind: CellType, size: tuple[int, int]) -> Cells:
    """Draw the cells of an image.

    Args:
        rng: Source of randomness.
        kind: What the cells look like.
        size: Height and width in pixels.

    Returns:
        The cells that cover at least `MINIMUM_AREA` pixels of the image; some overlap.
    """
    centers, spacings, angles = _settle(rng, kind, size)
    rounded = rng.random(len(centers)) < kind.rounded
    radii = _lone_radii(rng, kind, spacings, rounded)
    elongations = np.where(rounded, 1.0, kind.elongation)
    metrics = _metrics(angles, elongations)
    rays = _rays(angles, elongations)
    limits = _limits(rng, centers, spacings, metrics, rays)
    vertices = centers[:, None] + rays * np.minimum(radii, limits)[..., None]
    # One displacement for all vertices makes borders crooked and keeps touching cells together.
    crook = [smooth_field(rng, size, 7.0) for _ in range(2)]
    vertices += 0.9 * np.stack([_at(field, vertices) for field in crook], axis=-1)
    polygons = list(_snap(np.clip(vertices, 0, size)[..., ::-1]))
    keep = np.flatnonzero(_areas(polygons, size) >= MINIMUM_AREA)
    return Cells([polygons[cell] for cell in keep], centers[keep], metrics[keep], rounded[keep])


def encode(polygons: list[np.ndarray], size: tuple[int, int]) -> list[dict]:
    """Rasterize polygons (k, 2): compressed COCO run-length codes of size (H, W)."""
    if not polygons:
        return []
    return coco_mask.frPyObjects([polygon.ravel().tolist() for polygon in polygons], *size)


def paint(polygons: list[np.ndarray], size: tuple[int, int]) -> np.ndarray:
    """Paint polygons (k, 2) into a label map int32 (H, W), smaller cells over larger ones.

    Each is rasterized within its bounding box: decoding a mask of full size costs 0.8 ms.
    """
    labels = np.zeros(size, np.int32)
    for cell in np.argsort(-_areas(polygons, size), kind="stable"):
        left, top = np.floor(polygons[cell].min(axis=0)).astype(int)
        width, height = np.ceil(polygons[cell].max(axis=0)).astype(int) - (left, top)
        local = coco_mask.decode(encode([polygons[cell] - (left, top)], (height, width)))[..., 0]
        labels[top : top + height, left : left + width][local > 0] = cell + 1
    return labels


def _snap(vertices: np.ndarray) -> np.ndarray:
    """Round to multiples of 0.04 pixels, which two decimals hold.

    pycocotools rounds vertices to fifths of a pixel; none of these lies half-way between two, so
    that a polygon covers the same pixels wherever its raster begins.
    """
    return np.round(np.round(vertices * 25) / 25, 2)


def _areas(polygons: list[np.ndarray], size: tuple[int, int]) -> np.ndarray:
    """Count the pixels of each polygon: int64 (n,)."""
    # One call a cell: beside NumPy 2, area() of a list longer than 255 raises OverflowError.
    return np.array([coco_mask.area(code) for code in encode(polygons, size)], np.int64)


def _settle(
    rng: np.random.Generator, kind: CellType, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Drop cells one after another, each where there is still room, mostly in colonies.

    Returns:
        Centers float64 (n, 2), y and x, up to one cell's length outside the image; spacings
        float64 (n,) in pixels; angles float64 (n,) of the long axis in radians.
    """
    reach = kind.spacing_pixels * np.sqrt(kind.elongation)
    extent = np.array(size) + 2 * reach
    count = int(5 * extent.prod() / kind.spacing_pixels**2)
    centers = rng.uniform(-reach, np.array(size) + reach, (count, 2))
    colonies = smooth_field(rng, size, kind.colony_pixels)
    level = np.quantile(colonies, 1 - kind.colony_fraction)
    centers = centers[(_at(colonies, centers) > level) | (rng.random(count) < kind.lone)]
    spacings = kind.spacing_pixels * np.exp(kind.spread * rng.standard_normal(len(centers)))
    flow = 0.7 * smooth_field(rng, size, 90)  # neighbors lie in nearly the same direction
    angles = rng.uniform(0, np.pi) + _at(flow, centers)
    angles = angles + 0.15 * rng.standard_normal(len(centers))
    free = _not_crowded(centers, spacings, _metrics(angles, kind.elongation), 1.6 * reach)
    return centers[free], spacings[free], angles[free]


def _not_crowded(
    centers: np.ndarray, spacings: np.ndarray, metrics: np.ndarray, reach: float
) -> np.ndarray:
    """Keep each cell (n,) that no earlier kept one is closer to than their mean spacing."""
    pairs = cKDTree(centers).query_pairs(reach, output_type="ndarray")
    pairs = pairs[np.lexsort(pairs.T[::-1])]
    step = centers[pairs[:, 1]] - centers[pairs[:, 0]]
    square = np.einsum("pi,pij,pj->p", step, metrics[pairs].mean(axis=1), step)
    pairs = pairs[square < spacings[pairs].mean(axis=1) ** 2]
    starts = np.searchsorted(pairs[:, 0], np.arange(len(centers) + 1))
    free = np.ones(len(centers), bool)
    for cell in range(len(centers)):
        if free[cell]:
            free[pairs[starts[cell] : starts[cell + 1], 1]] = False
    return free


def _phases() -> np.ndarray:
    """Directions float64 (k,) of a polygon's vertices, in radians, 0 along the long axis."""
    return np.linspace(-np.pi, np.pi, _DIRECTIONS, endpoint=False)


def _lone_radii(
    rng: np.random.Generator, kind: CellType, spacings: np.ndarray, rounded: np.ndarray
) -> np.ndarray:
    """Draw radii (n, k) in pixels of cells that meet nobody: lobes, pointed ends and arms."""
    count, phases = len(spacings), _phases()
    radii = np.ones((count, len(phases)))
    for harmonic, deviation in ((2, 0.10), (3, 0.07), (5, 0.04)):
        height, shift = rng.normal(0, deviation, (count, 1)), rng.uniform(0, 2 * np.pi, (count, 1))
        radii += height * np.cos(harmonic * phases + shift)
    radii += 0.12 * (kind.elongation - 1) * np.cos(phases) ** 10
    for _ in range(kind.arms):
        length, shift = (
            rng.uniform(0, kind.arm_length, (count, 1)),
            rng.uniform(-np.pi, np.pi, (count, 1)),
        )
        turn = np.angle(np.exp(1j * (phases - shift)))
        radii += length * np.exp(-((turn / 0.25) ** 2)) - 0.06
    radii *= kind.radius * spacings[:, None]
    radii[rounded] = np.minimum(0.56 * spacings[rounded, None], kind.rounded_pixels)
    return radii


def _metrics(angles: np.ndarray, elongations: np.ndarray | float) -> np.ndarray:
    """Metrics (n, 2, 2) over (y, x) in which cells of these elongations and angles are round."""
    axis = np.stack([np.sin(angles), np.cos(angles)], axis=-1)
    outer = axis[:, :, None] * axis[:, None, :]
    stretch = np.broadcast_to(elongations, angles.shape)[:, None, None]
    return outer / stretch + (np.eye(2) - outer) * stretch


def _rays(angles: np.ndarray, elongations: np.ndarray) -> np.ndarray:
    """Vectors (n, k, 2), y and x, of length 1 in each cell's metric."""
    root = np.sqrt(elongations)[:, None]
    along, across = np.cos(_phases()) * root, np.sin(_phases()) / root
    sine, cosine = np.sin(angles)[:, None], np.cos(angles)[:, None]
    return np.stack([along * sine + across * cosine, along * cosine - across * sine], axis=-1)


def _limits(
    rng: np.random.Generator,
    centers: np.ndarray,
    spacings: np.ndarray,
    metrics: np.ndarray,
    rays: np.ndarray,
) -> np.ndarray:
    """Find how far each ray may go before it meets a neighbor: (n, k), inf where nobody is.

    The border is the line whose distances to both centers, in the mean of their metrics, relate
    as their spacings: a Voronoi diagram of ellipses. Every cell goes 0.4 pixels beyond, so that
    no background is left between, and one in eight up to 4 pixels: those overlap.
    """
    if not len(centers):
        return np.empty(rays.shape[:2])
    others = min(_NEIGHBORS + 1, len(centers))
    neighbors = cKDTree(centers).query(centers, [*range(1, others + 1)])[1][:, 1:]
    step = centers[neighbors] - centers[:, None]
    normals = np.einsum("nmij,nmj->nmi", (metrics[neighbors] + metrics[:, None]) / 2, step)
    share = spacings[:, None] / (spacings[neighbors] + spacings[:, None])
    deep = rng.random((len(centers), 1)) < 0.12
    excess = np.where(deep, rng.uniform(1, 4, (len(centers), 1)), 0.4)
    borders = share * (normals * step).sum(-1) + excess * np.linalg.norm(normals, axis=-1)
    slopes = rays @ normals.swapaxes(1, 2)
    cuts = np.where(slopes > 1e-6, borders[:, None] / np.maximum(slopes, 1e-6), np.inf)
    return cuts.min(axis=-1, initial=np.inf)


def _at(field: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Look a field (H, W) up at points (..., 2), y and x: the nearest pixel of the image."""
    y = np.clip(np.rint(points[..., 0]), 0, field.shape[0] - 1).astype(int)
    x = np.clip(np.rint(points[..., 1]), 0, field.shape[1] - 1).astype(int)
    return field[y, x]
