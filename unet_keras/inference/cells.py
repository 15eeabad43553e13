"""What is measured of predicted cells and of images: the rows of `cells.csv` and `counts.csv`.

    labels         integers (H, W)             0 background, 1..n
    image          (H, W) or (H, W, C)         raw grey values; of several channels their mean
    probabilities  float32 (H, W, K)

Lengths are in pixels, areas in their squares; coordinates (y, x) count from the center of the first
pixel, as scikit-image's do. What `serve` answers counts from that pixel's corner, half a pixel
more, as COCO and ImageJ do.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from skimage.measure import regionprops_table

# column: property of scikit-image
PROPERTIES = {
    "label": "label",
    "area": "area",
    "perimeter": "perimeter",
    "centroid_y": "centroid-0",
    "centroid_x": "centroid-1",
    "eccentricity": "eccentricity",
    "mean_intensity": "intensity_mean",
}
CELL_COLUMNS = ("image", "group", *PROPERTIES)
COUNT_COLUMNS = (
    "image",
    "group",
    "cells",
    "confluency",
    "cell_area",
    "grey_mean",
    "grey_deviation",
    "outside_training",
)

Row = dict[str, Any]
Ranges = Mapping[str, tuple[float, float]]


def measure_cells(labels: np.ndarray, image: np.ndarray) -> dict[str, np.ndarray]:
    """Measure each instance, as scikit-image's `regionprops` does.

    Args:
        labels: Integer (H, W), 0 background.
        image: (H, W) or (H, W, C), raw grey values.

    Returns:
        Arrays (n,) by the names of `PROPERTIES`, in the order of the labels; in pixels, but for
        `label`, `eccentricity` in [0, 1] and `mean_intensity` in grey values.
    """
    grey = image if image.ndim == 2 else image.mean(axis=-1)
    wanted = sorted({name.split("-")[0] for name in PROPERTIES.values()})
    table = regionprops_table(labels, grey, properties=wanted)
    return {column: table[name] for column, name in PROPERTIES.items()}


def cell_columns(pixel_size: float | None = None, *, classes: bool = False) -> list[str]:
    """Return the names of what `cell_rows` returns."""
    further = [("class", classes), ("area_um2", pixel_size is not None)]
    return [*CELL_COLUMNS, *(name for name, wanted in further if wanted)]


def cell_rows(
    measured: Mapping[str, np.ndarray],
    *,
    image: str,
    group: str,
    classes: np.ndarray | None = None,
    pixel_size: float | None = None,
) -> list[Row]:
    """Return the rows of one image's cells, with at most seven digits.

    Args:
        measured: From `measure_cells`.
        image: The image's title.
        group: Its cell type.
        classes: Integer (n,), of each cell, where the network knows several.
        pixel_size: Side of a pixel in micrometres; adds `area_um2`.
    """
    columns = {name: values.tolist() for name, values in measured.items()}
    if classes is not None:
        columns["class"] = classes.tolist()
    if pixel_size is not None:
        columns["area_um2"] = (measured["area"] * pixel_size**2).tolist()
    rows = (
        dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)
    )
    return [{"image": image, "group": group, **_rounded(row)} for row in rows]


def count_row(
    *,
    image: str,
    group: str,
    areas: np.ndarray,
    pixels: int,
    grey_mean: float,
    grey_deviation: float,
    scale: float = 1.0,
    ranges: Ranges | None = None,
    training_images: int = 0,
) -> Row:
    """Return one image's row: count, confluency, and what lies outside the training's ranges.

    Args:
        image: The image's title.
        group: Its cell type.
        areas: Pixels of each cell, (n,).
        pixels: Number of those of the image.
        grey_mean: Of its grey values.
        grey_deviation: Their standard deviation.
        scale: The image's pixel size over the training's.
        ranges: Of the training images; None where they are not known.
        training_images: How many there were.

    Returns:
        By `COUNT_COLUMNS`: `confluency` in [0, 1], `cell_area` the median in pixels, None without
        cells, `outside_training` the names, joined by semicolons, or `unknown`.
    """
    median = float(np.median(areas)) if len(areas) else None
    seen = {"grey_mean": grey_mean, "grey_deviation": grey_deviation}
    if median is not None:
        seen["cell_area"] = median * scale**2
    outside = outside_ranges(seen, ranges or {}, training_images)
    row = {
        "image": image,
        "group": group,
        "cells": len(areas),
        "confluency": float(areas.sum()) / pixels,
        "cell_area": median,
        "grey_mean": grey_mean,
        "grey_deviation": grey_deviation,
    }
    flag = ";".join(outside) if ranges else "unknown"
    return {**_rounded(row), "outside_training": flag}


def outside_ranges(values: Mapping[str, float], ranges: Ranges, images: int) -> list[str]:
    """Name the values that lie outside the training's.

    The range of n images is widened on both sides by 1 / (n - 1) of itself: what n draws are
    expected to leave out at each end where values are spread evenly. Means may also differ by what
    grey values deviate within the flattest training image. One image tells nothing.

    Args:
        values: Of one image, by name.
        ranges: Lowest and highest of the training images, by name.
        images: n.
    """
    if images < 2:
        return []
    outside = []
    for name, value in values.items():
        if name in ranges:
            low, high = ranges[name]
            slack = (high - low) / (images - 1)
            if name == "grey_mean":
                slack = max(slack, ranges.get("grey_deviation", (0.0, 0.0))[0])
            if not low - slack <= value <= high + slack:
                outside.append(name)
    return outside


def classes_of(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Return each cell's class, 1..K: the one of the largest probability, summed over its pixels.

    Args:
        labels: Integer (H, W), numbered 1..n.
        probabilities: Float (H, W, K + 1), 0 the background.

    Returns:
        int64 (n,).
    """
    inside = labels > 0
    numbers, values = labels[inside], probabilities[inside]
    sums = [np.bincount(numbers, values[:, k]) for k in range(1, values.shape[-1])]
    return np.argmax(sums, axis=0)[1:] + 1


def mean_scores(labels: np.ndarray, foreground: np.ndarray) -> np.ndarray:
    """Return each cell's mean probability, float64 (n,) in [0, 1], of labels numbered 1..n.

    Args:
        labels: Integer (H, W).
        foreground: Float (H, W) in [0, 1].
    """
    flat = labels.ravel()
    sums = np.bincount(flat, foreground.ravel())
    return sums[1:] / np.maximum(np.bincount(flat)[1:], 1)


def _rounded(row: Row) -> Row:
    return {k: float(f"{v:.7g}") if isinstance(v, float) else v for k, v in row.items()}
