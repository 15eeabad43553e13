"""Border maps: one pass for all instances against one distance transform an instance.

    python benchmarks/border_map.py

All sides get the same label maps in one run, take turns, and must agree. Medians of processor time
are compared: each side works on one core, and what else the machine does should not count.

scipy      one scipy.ndimage.distance_transform_edt of the whole image an instance, the plain way
edt boxes  the `edt` package as well as it can be used: one transform an instance too, but only of
           its bounding box and as far around it as the instance can matter
"""

import math
import statistics
import sys
import time
from collections.abc import Callable

import numpy as np
from environment import run_in_environment

if __name__ == "__main__":
    run_in_environment("border_map", ["edt==3.1.2"])

import edt
from scipy.ndimage import distance_transform_edt, find_objects

from unet_keras.targets.borders import SMALLEST_BORDER, border_map
from unet_keras.targets.labels import separate_touching

SHAPE = (520, 704)  # height and width of LIVECell's images
SIGMA_PIXELS = 5.0
REACH_PIXELS = SIGMA_PIXELS * math.sqrt(-2 * math.log(SMALLEST_BORDER))
FAST_ROUNDS, SLOW_ROUNDS = 25, 3


def random_cells(count: int, seed: int) -> np.ndarray:
    """Ellipses of fitting size that cover up to half of the image and touch; uint16 (H, W)."""
    rng = np.random.default_rng(seed)
    height, width = SHAPE
    mean_area = min(1100, 0.57 * height * width / count)  # the largest cells of LIVECell
    labels = np.zeros(SHAPE, np.uint16)
    y, x = np.indices(SHAPE)
    number = 0
    while number < count:
        area, elongation = mean_area * rng.lognormal(0, 0.5), rng.uniform(1, 1.8)
        long, short = math.sqrt(area / math.pi * elongation), math.sqrt(area / math.pi / elongation)
        center_y, center_x = rng.uniform(0, height), rng.uniform(0, width)
        top, left = max(int(center_y - long), 0), max(int(center_x - long), 0)
        window = np.s_[top : int(center_y + long) + 2, left : int(center_x + long) + 2]
        angle = rng.uniform(0, math.pi)
        dy, dx = y[window] - center_y, x[window] - center_x
        along = (dx * math.cos(angle) + dy * math.sin(angle)) / long
        across = (dy * math.cos(angle) - dx * math.sin(angle)) / short
        cell = along**2 + across**2 <= 1
        free = cell & (labels[window] == 0)
        # Mostly where there is room; a few are squeezed in between others.
        if free.sum() >= 4 and (free.sum() >= 0.6 * cell.sum() or rng.random() < 0.02):
            number += 1
            labels[window][free] = number
    return labels


def border_by_transforms(labels: np.ndarray) -> np.ndarray:
    """One transform of the whole image an instance."""
    first, second = np.full((2, *labels.shape), np.inf, np.float32)
    for number in range(1, labels.max() + 1):
        instance = labels == number
        if instance.any():
            keep_two_nearest(distance_transform_edt(~instance), first, second)
    return weigh(first, second, labels)


def border_by_boxes(labels: np.ndarray) -> np.ndarray:
    """One transform an instance, of its box and what lies within the reach of it."""
    first, second = np.full((2, *labels.shape), np.inf, np.float32)
    margin = math.ceil(REACH_PIXELS)
    for number, box in enumerate(find_objects(labels), 1):
        if box is not None:
            window = tuple(slice(max(s.start - margin, 0), s.stop + margin) for s in box)
            distances = edt.edt(labels[window] != number, parallel=1)
            keep_two_nearest(distances, first[window], second[window])
    return weigh(first, second, labels)


def keep_two_nearest(distances: np.ndarray, first: np.ndarray, second: np.ndarray) -> None:
    """Keep the smallest and the second smallest distance so far, in place; float (H, W) each."""
    np.minimum(second, np.maximum(first, distances), out=second, casting="same_kind")
    np.minimum(first, distances, out=first, casting="same_kind")


def weigh(first: np.ndarray, second: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Border map, float (H, W), from the two distances in pixels; 0 in the foreground."""
    border = np.exp(-((first + second) ** 2) / np.float32(2 * SIGMA_PIXELS**2))
    border[labels > 0] = 0
    return border


def seconds(function: Callable[[np.ndarray], np.ndarray], labels: np.ndarray) -> float:
    """The processor's seconds of one call."""
    start = time.process_time()
    function(labels)
    return time.process_time() - start


def main() -> int:
    """Time all sides in turns and print table and ratios."""
    maps = {
        count: separate_touching(random_cells(count, count)) for count in (100, 300, 1000, 3000)
    }
    sides = {"border_map": border_map, "edt boxes": border_by_boxes, "scipy": border_by_transforms}
    times: dict[tuple[str, int], list[float]] = {(name, n): [] for name in sides for n in maps}
    for count, labels in maps.items():
        border = border_map(labels)
        others = [border_by_boxes, *([border_by_transforms] if count == 100 else [])]
        difference = max(np.abs(border - other(labels)).max() for other in others)
        print(f"{count} cells cover {(labels > 0).mean():.0%}, sides differ by {difference:.0e}")
        if difference > 2 * SMALLEST_BORDER:
            print("error: the sides do not agree", file=sys.stderr)
            return 1
    for turn in range(FAST_ROUNDS):
        for count, labels in maps.items():
            times["border_map", count].append(seconds(border_map, labels))
            if turn < SLOW_ROUNDS:
                times["edt boxes", count].append(seconds(border_by_boxes, labels))
            if turn < SLOW_ROUNDS and count <= 1000:
                times["scipy", count].append(seconds(border_by_transforms, labels))
    medians = {key: statistics.median(values) for key, values in times.items() if values}
    print(f"\nmilliseconds on one core, {SHAPE[0]}x{SHAPE[1]}, sigma {SIGMA_PIXELS:g}, medians")
    print(f"{'cells':>6}" + "".join(f"{name:>12}" for name in sides) + "   times as fast")
    for count in maps:
        ours = medians["border_map", count]
        row = [medians.get((name, count)) for name in sides]
        cells = [f"{value * 1e3:12.2f}" if value else f"{'-':>12}" for value in row]
        factors = [f"{value / ours:.0f}" for value in row[1:] if value]
        print(f"{count:>6}" + "".join(cells) + f"   {' and '.join(factors)}")
    for count in (300, 1000):
        ratio = medians["scipy", count] / medians["border_map", count]
        print(f"ratio border_map_vs_edt_{count} {ratio:.4g}")
    ratio = medians["border_map", 100] / medians["border_map", 3000]
    print(f"ratio border_map_100_vs_3000 {ratio:.4g}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
