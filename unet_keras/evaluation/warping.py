"""The warping error: how much of the topology is wrong.

After Jain et al. 2010, "Boundary Learning by Optimization with Topological Constraints".

    truth       bool              (H, W)  foreground: what lies between membranes
    prediction  bool or floating  (H, W)  a mask, or probabilities in [0, 1]

The truth is warped toward the prediction: pixels that differ are flipped as long as that changes
no topology, the surest first. So a membrane may lie elsewhere or be thicker at no cost. What still
differs cannot be mended without joining, splitting, making or removing an object or a hole.

Foreground hangs together over edges, background over corners, and outside of the image is
background, as in the reference implementation (Fiji, Trainable_Segmentation, `WarpingError`).
There a pixel is told from its own neighborhood, here an error as a whole: a group of pixels over
edges and corners, one counted where it joins or splits objects.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy import ndimage

from unet_keras.targets.compiled import compiled

_FOUR = ndimage.generate_binary_structure(2, 1)
_EIGHT = ndimage.generate_binary_structure(2, 2)


@dataclass(frozen=True)
class WarpingErrors:
    """What is left of the difference after warping; addable.

    Attributes:
        pixels: Of the image.
        mismatches: Pixels that still differ.
        joining: Those that belong to a merger or a split.
        mergers: Groups of missing background that join two objects or more.
        splits: Groups of missing foreground that divide an object.
    """

    pixels: int = 0
    mismatches: int = 0
    joining: int = 0
    mergers: int = 0
    splits: int = 0

    def __add__(self, other: "WarpingErrors") -> "WarpingErrors":
        return WarpingErrors(
            self.pixels + other.pixels,
            self.mismatches + other.mismatches,
            self.joining + other.joining,
            self.mergers + other.mergers,
            self.splits + other.splits,
        )

    @property
    def warping_error(self) -> float:
        """Share of the pixels that mergers and splits take, the error ISBI 2012 ranked by."""
        return self.joining / self.pixels if self.pixels else 0.0

    @property
    def warping_error_all(self) -> float:
        """Share of the pixels that differ after warping, the error of Jain et al. 2010."""
        return self.mismatches / self.pixels if self.pixels else 0.0


def count_warping_errors(
    truth: np.ndarray, prediction: np.ndarray, *, threshold: float = 0.5
) -> WarpingErrors:
    """Warp the truth toward a prediction and count what remains.

    Args:
        truth: bool (H, W).
        prediction: bool (H, W), or floating (H, W) probabilities in [0, 1].
        threshold: Probability from which on (inclusive) a pixel is foreground; unused for a mask.

    Returns:
        The counts.
    """
    mask = _thresholded(prediction, threshold)
    warped = warp_truth(truth, prediction, threshold=threshold)
    missing = _groups(mask & ~warped, ndimage.label(warped, _FOUR)[0])
    surplus = _groups(warped & ~mask, ndimage.label(warped & mask, _FOUR)[0])
    return WarpingErrors(
        pixels=truth.size,
        mismatches=int(np.count_nonzero(warped != mask)),
        joining=int(missing.sum() + surplus.sum()),
        mergers=len(missing),
        splits=len(surplus),
    )


def _thresholded(prediction: np.ndarray, threshold: float) -> np.ndarray:
    if prediction.dtype == bool:
        return prediction
    return prediction.astype(np.float32, copy=False) >= np.float32(threshold)


def _groups(wrong: np.ndarray, objects: np.ndarray) -> np.ndarray:
    """Sizes of the groups of wrong pixels that lie between two objects or more."""
    labels, count = ndimage.label(wrong, _EIGHT)
    labels, objects = np.pad(labels, 1), np.pad(objects, 1)
    rows, columns = np.nonzero(labels)
    group = labels[rows, columns]
    steps = ((-1, 0), (1, 0), (0, -1), (0, 1))
    beside = np.concatenate([objects[rows + down, columns + right] for down, right in steps])
    pairs = np.stack([np.tile(group, len(steps)), beside])[:, beside > 0]
    touched = np.bincount(np.unique(pairs, axis=1)[0], minlength=count + 1)
    return np.bincount(group, minlength=count + 1)[touched > 1]


def warp_truth(truth: np.ndarray, prediction: np.ndarray, *, threshold: float = 0.5) -> np.ndarray:
    """Flip simple points of the truth until it is as like the prediction as topology lets it.

    Args:
        truth: bool (H, W).
        prediction: bool (H, W), or floating (H, W) probabilities in [0, 1]. Those farthest from
            the threshold are flipped first, equal ones row by row.
        threshold: As in `count_warping_errors`.

    Returns:
        bool (H, W), with the objects and holes of the truth.
    """
    mask = _thresholded(prediction, threshold)
    sureness = np.abs(prediction.astype(np.float32, copy=False) - np.float32(threshold))
    source, target = (np.pad(array, 1).astype(np.uint8).ravel() for array in (truth, mask))
    places = np.flatnonzero(source != target)
    order = places[np.argsort(-np.pad(sureness, 1).ravel()[places], kind="stable")]
    width = truth.shape[1] + 2
    _relax(source, target, order, width, simple_neighborhoods())
    return source.reshape(-1, width)[1:-1, 1:-1].astype(bool)


@cache
def simple_neighborhoods() -> np.ndarray:
    """For which neighborhoods flipping the pixel in the middle changes no topology.

    It is simple where exactly one piece of foreground lies at its edges and exactly one piece of
    background at its edges or corners, within the eight neighbors (Bertrand and Malandain 1994).

    Returns:
        bool (256,), by the neighbors row by row, the first one the lowest bit.
    """
    simple = np.zeros(256, bool)
    for code in range(256):
        bits = np.array([code >> bit & 1 for bit in range(8)], bool)
        ring = np.insert(bits, 4, False).reshape(3, 3)
        pieces = ndimage.label(ring, _FOUR)[0]
        outside = np.insert(~bits, 4, False).reshape(3, 3)
        at_edges = set(pieces[_FOUR].tolist()) - {0}
        simple[code] = len(at_edges) == 1 and ndimage.label(outside, _EIGHT)[1] == 1
    simple.flags.writeable = False
    return simple


@compiled
def _relax(
    source: np.ndarray, target: np.ndarray, order: np.ndarray, width: int, simple: np.ndarray
) -> None:
    """Flip simple points of `source` (flat, with a frame) in passes, until none is left."""
    flipped = True
    while flipped:
        flipped = False
        for place in order:
            if source[place] == target[place]:
                continue
            above, below = place - width, place + width
            code = (
                source[above - 1]
                + 2 * source[above]
                + 4 * source[above + 1]
                + 8 * source[place - 1]
                + 16 * source[place + 1]
                + 32 * source[below - 1]
                + 64 * source[below]
                + 128 * source[below + 1]
            )
            if simple[code]:
                source[place] = target[place]
                flipped = True
