"""How well outlines lie on outlines: boundary F1.

After Csurka et al. 2013, "What is a good evaluation measure for semantic segmentation?", section 3.

    labels    integer (H, W)  0 background, 1..n instances
    boundary  bool (H, W)     pixels of an instance with a 4-neighbor of another number

A boundary pixel is right where the other boundary passes within the tolerance, Euclidean distance
from pixel center to pixel center. Sensitive to the separation of touching cells, which Dice is not.
"""

from dataclasses import dataclass
from itertools import product

import numpy as np

from unet_keras.drawing import outlines

TOLERANCE_PIXELS = 2.0


@dataclass(frozen=True)
class BoundaryCounts:
    """Boundary pixels and how many of them are right; addable.

    Attributes:
        truth: Number of true boundary pixels.
        found: Those with a predicted one within the tolerance.
        predicted: Number of predicted boundary pixels.
        right: Those with a true one within the tolerance.
    """

    truth: int = 0
    found: int = 0
    predicted: int = 0
    right: int = 0

    def __add__(self, other: "BoundaryCounts") -> "BoundaryCounts":
        return BoundaryCounts(
            self.truth + other.truth,
            self.found + other.found,
            self.predicted + other.predicted,
            self.right + other.right,
        )

    @property
    def f1(self) -> float:
        """Harmonic mean of right/predicted and found/truth in [0, 1]; 1.0 without any boundary."""
        if not self.truth or not self.predicted:
            return float(self.truth == self.predicted)
        precision, recall = self.right / self.predicted, self.found / self.truth
        return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def count_boundaries(
    truth: np.ndarray, predicted: np.ndarray, *, tolerance_pixels: float = TOLERANCE_PIXELS
) -> BoundaryCounts:
    """Compare the outlines of two label maps.

    Args:
        truth: Integer (H, W).
        predicted: Integer (H, W).
        tolerance_pixels: How far a boundary may be off, at least 0.

    Returns:
        The four counts.
    """
    true_rim, predicted_rim = outlines(truth), outlines(predicted)
    return BoundaryCounts(
        int(np.count_nonzero(true_rim)),
        _near(true_rim, predicted_rim, tolerance_pixels),
        int(np.count_nonzero(predicted_rim)),
        _near(predicted_rim, true_rim, tolerance_pixels),
    )


def _near(points: np.ndarray, target: np.ndarray, tolerance_pixels: float) -> int:
    """Number of `points` with a pixel of `target` within the tolerance."""
    reach = int(tolerance_pixels)
    around, (height, width) = np.pad(target, reach), target.shape
    near = np.zeros_like(target)
    for row, column in product(range(2 * reach + 1), repeat=2):
        if (row - reach) ** 2 + (column - reach) ** 2 <= tolerance_pixels**2:
            near |= around[row : row + height, column : column + width]
    return int(np.count_nonzero(points & near))
