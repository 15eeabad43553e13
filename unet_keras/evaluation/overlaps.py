"""Which true and which predicted instances share pixels, and how many.

    truth      integer labels (H, W), or n COCO run-length codes of size (H, W), which may overlap
    predicted  integer labels (H, W)  0 background, 1..n instances, numbers may have gaps

One pass over the pixels counts every pair, thousands of instances in a few hundredths of a second,
and nothing the size of truth times prediction is made.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from unet_keras.errors import InputError
from unet_keras.targets.compiled import compiled
from unet_keras.targets.outlines import read_runs

# up to here a table of all numbers is faster than sorting the pixels
_TABLE_CELLS = 2_000_000


@dataclass(frozen=True, eq=False)
class Overlaps:
    """The true and predicted instances of one image and the pairs that share pixels.

    Attributes:
        truth_numbers: int64 (n,), the number of each true instance, ascending.
        truth_areas: int64 (n,), in pixels. 0 where an outline is empty.
        predicted_numbers: int64 (m,), ascending.
        predicted_areas: int64 (m,), in pixels.
        truth_index: int64 (p,), position of each pair's true instance, ascending.
        predicted_index: int64 (p,), position of each pair's predicted instance.
        shared: int64 (p,), number of pixels in both.
    """

    truth_numbers: np.ndarray
    truth_areas: np.ndarray
    predicted_numbers: np.ndarray
    predicted_areas: np.ndarray
    truth_index: np.ndarray
    predicted_index: np.ndarray
    shared: np.ndarray

    @cached_property
    def iou(self) -> np.ndarray:
        """float64 (p,), intersection over union of each pair, in (0, 1]."""
        areas = self.truth_areas[self.truth_index] + self.predicted_areas[self.predicted_index]
        return self.shared / (areas - self.shared)


def label_overlaps(truth: np.ndarray, predicted: np.ndarray) -> Overlaps:
    """Overlaps of two label maps.

    Args:
        truth: Integer (H, W).
        predicted: Integer (H, W).

    Returns:
        All pairs with a common pixel.

    Raises:
        InputError: The label maps differ in size, or one is not of integers of at least 0.
    """
    _check_size(truth.shape, predicted)
    truth_numbers, truth_positions = _numbers(truth)
    inside = np.flatnonzero(truth_positions >= 0)
    return _joint_histogram(truth_numbers, truth_positions[inside], inside, predicted)


def outline_overlaps(outlines: Sequence[bytes], predicted: np.ndarray) -> Overlaps:
    """Overlaps of true outlines, which may overlap one another, with a label map.

    Args:
        outlines: The `counts` of one compressed COCO run-length code of size (H, W) an instance;
            instance k is outlines[k - 1].
        predicted: Integer (H, W).

    Returns:
        All pairs with a common pixel. The shares equal those of `pycocotools.mask.iou`.

    Raises:
        InputError: An outline is damaged or not of the size of `predicted`, or that is not of
            integers of at least 0.
    """
    owners, pixels = outline_pixels(outlines, predicted.shape)
    numbers = np.arange(1, len(outlines) + 1)
    return _joint_histogram(numbers, owners, pixels, predicted.T)


def _check_size(expected: tuple[int, ...], predicted: np.ndarray) -> None:
    if predicted.shape != tuple(expected):
        raise InputError(
            f"The predicted label map has shape {predicted.shape}, the truth {tuple(expected)}; "
            "predict at the image's own size."
        )


def _numbers(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Instance numbers in use, and each pixel's position among them (-1 for background), flat."""
    if not np.issubdtype(labels.dtype, np.integer):
        raise InputError(f"A label map must be integer, not {labels.dtype}; 0 is the background.")
    flat = labels.ravel()
    if flat.min(initial=0) < 0:
        raise InputError(
            f"A label map holds {flat.min()}; instances count from 1, 0 is background."
        )
    numbers, positions = _distinct(flat)
    background = int(numbers[:1].sum() == 0 and numbers.size > 0)
    return numbers[background:].astype(np.int64), positions - background


def _distinct(flat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What np.unique(return_inverse=True) gives, by a table where numbers are small enough."""
    if flat.max(initial=0) >= _TABLE_CELLS:
        return np.unique(flat, return_inverse=True)
    numbers = np.flatnonzero(np.bincount(flat))
    table = np.zeros(numbers[-1] + 1 if numbers.size else 1, np.int64)
    table[numbers] = np.arange(len(numbers))
    return numbers, table[flat]


def _joint_histogram(
    truth_numbers: np.ndarray, owners: np.ndarray, pixels: np.ndarray, predicted: np.ndarray
) -> Overlaps:
    """Overlaps from the pixels of the truth: owners (q,) and flat positions (q,) in `predicted`."""
    predicted_numbers, positions = _numbers(predicted)
    areas = np.bincount(owners, minlength=len(truth_numbers))
    first = np.concatenate([[0], np.cumsum(areas)])
    pairs = _count_pairs(owners, pixels, positions, first, len(predicted_numbers))
    return Overlaps(
        truth_numbers,
        areas,
        predicted_numbers,
        np.bincount(positions[positions >= 0], minlength=len(predicted_numbers)),
        *pairs,
    )


@compiled
def _count_pairs(
    owners: np.ndarray, pixels: np.ndarray, positions: np.ndarray, first: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Count, for each owner in turn, its pixels in each predicted instance.

    Args:
        owners: int64 (q,), true instance of each pixel, in any order.
        pixels: int64 (q,), where the pixels are in `positions`.
        positions: int64 (H W,), predicted instance of a pixel, -1 for background.
        first: int64 (n + 1,), how many pixels belong to owners before each.
        count: Number of predicted instances.

    Returns:
        Owner, predicted instance and number of pixels of each pair, in ascending order.
    """
    hits = np.empty(owners.size, np.int64)
    next_place = first[:-1].copy()
    for k in range(owners.size):
        hits[next_place[owners[k]]] = positions[pixels[k]]
        next_place[owners[k]] += 1
    truth, predicted, shared = np.empty((3, owners.size), np.int64)
    counts, met = np.zeros((2, count), np.int64)
    pairs = 0
    for owner in range(first.size - 1):
        found = 0
        for k in range(first[owner], first[owner + 1]):
            if hits[k] >= 0:
                if counts[hits[k]] == 0:
                    met[found] = hits[k]
                    found += 1
                counts[hits[k]] += 1
        met[:found].sort()
        for instance in met[:found]:
            truth[pairs], predicted[pairs] = owner, instance
            shared[pairs], counts[instance] = counts[instance], 0
            pairs += 1
    return truth[:pairs].copy(), predicted[:pairs].copy(), shared[:pairs].copy()


def outline_pixels(
    outlines: Sequence[bytes], shape: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Every pixel of every outline, without a mask of full size for each.

    Args:
        outlines: `counts` of compressed COCO run-length codes of size `shape`.
        shape: (H, W) in pixels.

    Returns:
        owner: int64 (q,), position of the outline in `outlines`, ascending.
        pixel: int64 (q,), flat position in column-major order, as COCO counts.

    Raises:
        InputError: An outline is damaged or does not cover H x W pixels.
    """
    height, width = shape
    runs = read_runs(outlines, (height, width))
    length = runs.stops - runs.starts
    owner = np.repeat(np.arange(len(outlines)), np.diff(runs.first))
    # runs -> pixels: count on within each run from its start
    begin = np.repeat(runs.starts - np.cumsum(length) + length, length)
    return np.repeat(owner, length), begin + np.arange(length.sum())
