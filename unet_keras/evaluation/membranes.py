"""Segments between membranes, as the ISBI 2012 challenge scores them.

Arganda-Carreras et al. 2015, "Crowdsourcing the creation of image segmentation algorithms for
connectomics", and their code (Fiji, Trainable_Segmentation: `RandError`, `VariationOfInformation`).

    truth        integer (H, W)   0 membrane, 1..n segments
    predicted    integer (H, W)   0 membrane, 1..m segments
    foreground   bool (H, W)      what lies between membranes
    probability  floating (H, W)  of foreground, in [0, 1]

Only pixels of a true segment count (foreground-restricted); of those, each that is predicted to be
membrane is a segment of its own. Pairs of pixels are counted with those of a pixel with itself
(the paper's n² normalization). scikit-image differs in both: `adapted_rand_error` and
`variation_of_information` take all predicted membrane for one segment, and the first leaves pairs
of a pixel with itself out. With a number of its own for each such pixel, entropies are equal and
Rand errors differ by the pairs alone, of the order of 1 / segment area.

The challenge takes the best of all thresholds on the images it scores; so do `best` scores here.
Edge case, as everywhere: a ratio 0/0 is 1.0, so one true segment predicted as one scores 1.0.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage
from skimage.segmentation import watershed

from unet_keras.evaluation.overlaps import label_overlaps
from unet_keras.evaluation.pixels import count_pixels
from unet_keras.evaluation.warping import count_warping_errors

THRESHOLDS = tuple(step / 10 for step in range(1, 10))
# highest first for scores, lowest first for errors
_ERRORS = ("pixel_error", "rand_error", "warping_error", "warping_error_all")
_SCORES = ("v_rand", "v_info")
_COUNTS = ("splits", "mergers")
_FOUR_NEIGHBORS = ndimage.generate_binary_structure(2, 1)


@dataclass(frozen=True, eq=False)
class Agreement:
    """How two segmentations divide the same pixels.

    Attributes:
        joint: int64 (p,), pixels in each pair of a true and a predicted segment.
        truth: int64 (n,), pixels of each true segment.
        predicted: int64 (m,), pixels of each predicted segment inside true ones.
        alone: Pixels inside true segments that are predicted to be membrane.
    """

    joint: np.ndarray
    truth: np.ndarray
    predicted: np.ndarray
    alone: int

    @property
    def rand(self) -> float:
        """F-score of the Rand index in [0, 1]: V_rand, with equal weight for splits and mergers."""
        together = _squares(self.joint) + self.alone
        either = _squares(self.truth) + _squares(self.predicted) + self.alone
        return 2 * together / either if either else 1.0

    @property
    def information(self) -> float:
        """F-score of the mutual information in [0, 1]: V_info, 2 I / (H(truth) + H(predicted))."""
        truth = self._entropy(self.truth, 0)
        predicted = self._entropy(self.predicted, self.alone)
        shared = truth + predicted - self._entropy(self.joint, self.alone)
        return 2 * shared / (truth + predicted) if truth + predicted else 1.0

    def _entropy(self, areas: np.ndarray, alone: int) -> float:
        """Of a partition with `alone` parts of one pixel, in nats."""
        pixels = int(self.truth.sum())
        if pixels == 0:
            return 0.0
        shares = areas[areas > 0] / pixels
        # 0.0 minus, because a single part has -0.0
        return float(0.0 - np.sum(shares * np.log(shares)) + alone / pixels * np.log(pixels))


def _squares(areas: np.ndarray) -> int:
    return int(np.dot(areas, areas))


def compare_segments(truth: np.ndarray, predicted: np.ndarray) -> Agreement:
    """Count the pixels that true and predicted segments share.

    Args:
        truth: Integer (H, W).
        predicted: Integer (H, W).

    Returns:
        The counts, from which the scores follow.

    Raises:
        InputError: The label maps differ in size or are none.
    """
    overlaps = label_overlaps(truth, predicted)
    inside = np.bincount(
        overlaps.predicted_index, overlaps.shared, len(overlaps.predicted_numbers)
    ).astype(np.int64)
    alone = int(overlaps.truth_areas.sum() - overlaps.shared.sum())
    return Agreement(overlaps.shared, overlaps.truth_areas, inside, alone)


def segments_of(mask: np.ndarray) -> np.ndarray:
    """Number the segments of a mask, which hang together over edges.

    Args:
        mask: bool (H, W), False on membranes.

    Returns:
        int32 (H, W).
    """
    return ndimage.label(mask, _FOUR_NEIGHBORS)[0]


def thin_borders(mask: np.ndarray) -> np.ndarray:
    """Segments of a mask, grown until only lines of one pixel part them.

    Membranes that part nothing disappear. A watershed of the mask from its segments, as in the
    reference; where two fronts meet, pixels may fall to either.

    Args:
        mask: bool (H, W), False on membranes.

    Returns:
        int32 (H, W), 0 on the lines.
    """
    segments = segments_of(mask)
    return watershed(~mask, segments, connectivity=1, watershed_line=True)


@dataclass(frozen=True)
class MembraneScores:
    """Scores of one image at one threshold, all in [0, 1] but the two counts.

    Attributes:
        pixel_error: Share of the pixels that are wrong.
        rand_error: 1 - F-score of the Rand index of the segments as they are.
        v_rand: F-score of the Rand index after thinning.
        v_info: F-score of the information after thinning.
        warping_error: Share of the pixels in mergers and splits after warping.
        warping_error_all: Share of the pixels that differ after warping.
        splits: Number of splits of the prediction.
        mergers: Number of its mergers.
    """

    pixel_error: float
    rand_error: float
    v_rand: float
    v_info: float
    warping_error: float
    warping_error_all: float
    splits: int
    mergers: int


def score_membranes(
    truth: np.ndarray, foreground: np.ndarray, probability: np.ndarray, *, threshold: float
) -> MembraneScores:
    """Score one image at one threshold.

    Args:
        truth: Integer (H, W).
        foreground: bool (H, W), what pixels and topology are compared with.
        probability: floating (H, W) in [0, 1].
        threshold: Probability from which on (inclusive) a pixel is foreground.

    Returns:
        The scores.

    Raises:
        InputError: Shapes differ, or the values are no probabilities.
    """
    pixels = count_pixels(foreground, probability, threshold=threshold)
    mask = probability.astype(np.float32, copy=False) >= np.float32(threshold)
    thinned = compare_segments(truth, thin_borders(mask))
    topology = count_warping_errors(foreground, probability, threshold=threshold)
    return MembraneScores(
        pixel_error=pixels.pixel_error,
        rand_error=1.0 - compare_segments(truth, segments_of(mask)).rand,
        v_rand=thinned.rand,
        v_info=thinned.information,
        warping_error=topology.warping_error,
        warping_error_all=topology.warping_error_all,
        splits=topology.splits,
        mergers=topology.mergers,
    )


def thresholds_with(threshold: float) -> tuple[float, ...]:
    """The thresholds of the challenge, 0.1 to 0.9, and the one in use, ascending."""
    return tuple(sorted({*THRESHOLDS, float(threshold)}))


def summarize_membranes(
    images: Sequence[Sequence[MembraneScores]], thresholds: Sequence[float], *, threshold: float
) -> dict[str, Any]:
    """The scores of all images at each threshold, and the best of them.

    Args:
        images: For each image its scores at each of `thresholds`.
        thresholds: Ascending.
        threshold: The one in use, among `thresholds`.

    Returns:
        For `metrics.json`: `at_threshold`, means over images at the threshold in use, in [0, 1];
        `best`, the best mean of any threshold, and `best_threshold`, where that is; `curve`, means
        at each threshold. Splits and mergers are totals, without a best.
    """
    curve = []
    for position, level in enumerate(thresholds):
        at_level = [scores[position] for scores in images]
        point: dict[str, float] = {"threshold": float(level)}
        for name in (*_ERRORS, *_SCORES):
            point[name] = float(np.mean([getattr(scores, name) for scores in at_level]))
        for name in _COUNTS:
            point[name] = sum(getattr(scores, name) for scores in at_level)
        curve.append(point)
    signs = {**dict.fromkeys(_ERRORS, -1.0), **dict.fromkeys(_SCORES, 1.0)}
    best = {name: max(curve, key=lambda point: sign * point[name]) for name, sign in signs.items()}
    current = curve[list(thresholds).index(threshold)]
    return {
        "at_threshold": {name: current[name] for name in current if name != "threshold"},
        "best": {name: point[name] for name, point in best.items()},
        "best_threshold": {name: point["threshold"] for name, point in best.items()},
        "curve": curve,
    }
